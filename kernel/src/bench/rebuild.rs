//! The rows of a rebuild of the zonelists: its cost, and that of its part with interrupts off.

use super::Missing;
use super::measure::{Arena, REPETITIONS, Spread};
use crate::arch::{context::Task, time};
use crate::mm;
use tidemark_wire::BenchRow;

/// Rebuilds before the first that counts.
const WARM: usize = 8;

/// Rebuilds lists that do not change, again and again. The allocator itself takes the times, which
/// are guest instructions under `-icount`. The cost of taking them is subtracted. A tick may fall
/// into a rebuild, but the median does not show it.
pub fn rows(
    task: &Task,
    arena: &mut Arena,
    tell: &mut impl FnMut(BenchRow, Result<Spread, Missing>),
) {
    let frames = mm::frames();
    let clock = clock();
    let (whole, rest) = arena.samples.split_at_mut(REPETITIONS);
    let irq_off = &mut rest[..REPETITIONS];
    for _ in 0..WARM {
        frames.rebuild(task);
    }
    let off = frames.variant().writes_with_interrupts_off();
    // The whole contains two readings of the clock for the stretch, and half of a reading at either
    // end.
    let readings = if off { 3 } else { 1 };
    for (whole, irq_off) in whole.iter_mut().zip(irq_off.iter_mut()) {
        frames.rebuild(task);
        let stats = frames.rebuild_stats();
        *whole = stats.whole_last_ns.saturating_sub(readings * clock);
        *irq_off = stats.irq_off_last_ns.saturating_sub(clock);
    }
    tell(BenchRow::Rebuild, Ok(Spread::of(whole)));
    tell(BenchRow::RebuildIrqOff, Ok(Spread::of(irq_off)));
}

/// Returns the time between two consecutive readings of the clock, in nanoseconds: the least of
/// several.
fn clock() -> u64 {
    (0..REPETITIONS)
        .map(|_| {
            let first = time::now_ns();
            time::now_ns() - first
        })
        .min()
        .unwrap_or(0)
}
