//! The cycles of the demonstration, in each of which every DIMM is removed and put back.

use super::{random::Random, window};
use crate::arch::{context::Task, time};
use crate::hotplug::{self, MAX_SLOTS, SlotPhase};
use crate::link::{self, DimmEvents};
use crate::{info, mm, warn};
use core::fmt;
use tidemark_wire::Ask;

/// How long one removal or arrival may take, from the request to the host's confirmation.
const STEP_NS: u64 = 20_000_000_000;
/// Number of bytes typed into the console in each cycle.
const TYPED: u8 = 16;

/// The counts of the cycles.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Number of cycles completed.
    pub cycles: u32,
    /// Number of removals asked of the host.
    pub pulls: u64,
    /// Number of removals that QEMU confirmed with `DEVICE_DELETED`.
    pub confirmed: u64,
    /// Number of DIMMs put back and brought online.
    pub plugs: u64,
}

/// The error that the cycles stopped early, for a reason that the log has given.
#[derive(Clone, Copy, Debug)]
pub struct Stopped;

/// Runs `cycles` cycles over the DIMMs that are online now.
pub fn run(task: &Task, cycles: u32, seed: u64) -> (Tally, Result<(), Stopped>) {
    let mut tally = Tally::default();
    let mut random = Random::new(seed, 0);
    let mut dimms = [0_u8; MAX_SLOTS];
    let mut count = 0;
    for slot in (0..MAX_SLOTS).filter(|&slot| hotplug::phase(slot) == SlotPhase::Online) {
        dimms[count] = slot as u8;
        count += 1;
    }
    let dimms = &mut dimms[..count];
    for cycle in 1..=cycles {
        // The host's actions repeat with the seed, and the order of the DIMMs is one of them.
        for last in (1..dimms.len()).rev() {
            dimms.swap(last, random.below(last as u64 + 1) as usize);
        }
        if let Err(stopped) = one(task, cycle, cycles, dimms, &mut tally) {
            return (tally, Err(stopped));
        }
        tally.cycles = cycle;
    }
    (tally, Ok(()))
}

fn one(
    task: &Task,
    cycle: u32,
    cycles: u32,
    dimms: &[u8],
    tally: &mut Tally,
) -> Result<(), Stopped> {
    let before = Seen::now();
    // On a plain QEMU no host listens, so the run goes on without the host's part.
    let _ = link::ask(task, Ask::Type { bytes: TYPED });
    let _ = link::ask(task, Ask::InjectNmi);
    for &dimm in dimms {
        pull(task, dimm, tally)?;
        plug(task, dimm, tally)?;
    }
    let now = Seen::now();
    let rebuilds = mm::frames().rebuild_stats();
    info!(
        "cycle {cycle}/{cycles}: {} DIMMs out and back in {} ms, {} frames moved, {} rebuilds{}",
        dimms.len(),
        (now.at_ns - before.at_ns) / 1_000_000,
        now.migrated - before.migrated,
        rebuilds.count - before.rebuilds,
        InterruptsOff(rebuilds.irq_off_median_ns),
    );
    Ok(())
}

/// The part of a cycle's line about interrupts, from the median in nanoseconds.
struct InterruptsOff(u64);

impl fmt::Display for InterruptsOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !mm::frames().variant().writes_with_interrupts_off() {
            return f.write_str(" with interrupts on");
        }
        let tenths = self.0 / 100;
        let (whole, part) = (tenths / 10, tenths % 10);
        write!(f, ", interrupts off {whole}.{part} µs in the median")
    }
}

/// The counts that a cycle's line compares.
struct Seen {
    at_ns: u64,
    migrated: u64,
    rebuilds: u64,
}

impl Seen {
    fn now() -> Self {
        Self {
            at_ns: time::now_ns(),
            migrated: hotplug::migrated_frames(),
            rebuilds: mm::frames().rebuild_stats().count,
        }
    }
}

fn pull(task: &Task, dimm: u8, tally: &mut Tally) -> Result<(), Stopped> {
    let before = link::dimm_events(dimm).deleted;
    window::note_leaving(hotplug::view(dimm.into()).zone);
    ask(task, Ask::Pull { dimm })?;
    tally.pulls += 1;
    let deadline = time::now_ns() + STEP_NS;
    let (_, confirmed) = link::wait_dimm(task, dimm, deadline, |events: &DimmEvents| {
        events.deleted > before
    });
    if !confirmed {
        warn!(
            "demo: no DEVICE_DELETED for dimm{dimm}, which is {:?}",
            hotplug::phase(dimm.into())
        );
        return Err(Stopped);
    }
    tally.confirmed += 1;
    Ok(())
}

fn plug(task: &Task, dimm: u8, tally: &mut Tally) -> Result<(), Stopped> {
    ask(task, Ask::Plug { dimm })?;
    let deadline = time::now_ns() + STEP_NS;
    let settled = |phase| matches!(phase, SlotPhase::Online | SlotPhase::Failed);
    let view = hotplug::wait(dimm.into(), deadline, |view| settled(view.phase), task);
    if !view.is_ok_and(|view| view.phase == SlotPhase::Online) {
        warn!(
            "demo: dimm{dimm} was put back, but is {:?}",
            hotplug::phase(dimm.into())
        );
        return Err(Stopped);
    }
    tally.plugs += 1;
    Ok(())
}

fn ask(task: &Task, what: Ask) -> Result<(), Stopped> {
    match link::ask(task, what) {
        Ok(true) => Ok(()),
        Ok(false) => {
            warn!("demo: the host refused {what:?}");
            Err(Stopped)
        }
        Err(error) => {
            warn!("demo: no answer to {what:?}: {error:?}");
            Err(Stopped)
        }
    }
}
