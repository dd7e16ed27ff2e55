//! A self-test of what is typed: the locks under which each byte is taken.

use super::{PATIENCE_NS, passed};
use crate::arch::context::Task;
use crate::arch::{Irqs, time};
use crate::console::{RxSink, clear_rx_alloc_hook, set_rx_alloc_hook, set_rx_sink};
use crate::link;
use crate::selftest::{Outcome, Report};
use core::sync::atomic::{AtomicU32, Ordering};
use tidemark_sync::{LocalIrq as _, Rank};
use tidemark_wire::Ask;

/// Bytes that the host types.
const TYPED: u32 = 200;
/// What the hooks saw: how many bytes or wake-ups, and how many under the wrong locks.
static HOOKED: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
static TAKEN: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
static WOKEN: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

fn note(counts: &[AtomicU32; 2], is_right: bool) {
    counts[0].fetch_add(1, Ordering::Relaxed);
    counts[1].fetch_add(u32::from(!is_right), Ordering::Relaxed);
}

fn port_lock_is_held() -> bool {
    !Irqs::held().may_take(Rank::SerialPort)
}

pub(super) fn typed_bytes_are_taken_under_the_port_lock_and_wake_after_it(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    static MINE: spin::Once<bool> = spin::Once::new();
    let is_mine = *MINE.call_once(|| {
        let sink = RxSink {
            take: |_byte| note(&TAKEN, port_lock_is_held()),
            wake: |_irq| note(&WOKEN, Irqs::held().is_empty()),
        };
        set_rx_sink(sink)
    });
    if !is_mine {
        return Outcome::Skip("somebody reads what is typed");
    }
    let counts =
        || [&HOOKED, &TAKEN, &WOKEN].map(|c| c.each_ref().map(|n| n.load(Ordering::Relaxed)));
    let before = counts();
    set_rx_alloc_hook(|_irq, _byte| note(&HOOKED, port_lock_is_held()));
    let ask = Ask::Type { bytes: TYPED as u8 };
    if link::ask(task, ask) != Ok(true) {
        clear_rx_alloc_hook();
        return Outcome::Skip("no host link");
    }
    let arrived = time::spin_until(PATIENCE_NS, || counts()[1][0] - before[1][0] >= TYPED);
    clear_rx_alloc_hook();
    let [hooked, taken, woken] = counts();
    report.note(format_args!(
        "bytes, and those under the wrong locks: allocated for {hooked:?}, taken {taken:?}; woken {woken:?}"
    ));
    let wrong = hooked[1] + taken[1] + woken[1];
    passed(arrived && hooked[0] - before[0][0] >= TYPED && woken[0] > before[2][0] && wrong == 0)
}
