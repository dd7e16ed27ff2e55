//! The actions of the demonstration at the schedule points around a rebuild of the zonelists.
//!
//! The hot-plug thread is held just before the rebuild. It is held until the balloon has the zones
//! between MIN and LOW and every CPU's handlers have been through the slow path. Then the rebuild
//! goes on while those requests continue. Between the two steps of the counter one NMI and one
//! round of interrupts are sent.

use super::{balloon, counts, probe, sources};
use crate::arch::{self, context::Task, interrupts, percpu, time, vectors};
use crate::mm;
use crate::options::{self, Plant};
use crate::thread;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use tidemark_frames::{Point, ZoneId};
use tidemark_wire::Source;

/// How long the hot-plug thread is held for the squeeze at most, and then again for the handlers.
const HOLD_NS: u64 = 2_000_000_000;
/// Time between two rounds of call-function interrupts while the zones are tight.
const STORM_EVERY_NS: u64 = 50_000;
/// How long the writer's own interrupt is waited for at most.
const TAKEN_NS: u64 = 2_000_000;
const IDLE_NS: u64 = 2_000_000;
const LOOK_EVERY_NS: u64 = 1_000_000;

/// Number of slow-path entries that each source must add before a rebuild goes on.
static QUOTA: AtomicU64 = AtomicU64::new(0);
/// Index of the zone that loses a DIMM next, plus 1; 0 for none. It is written before the host is
/// asked.
static LEAVING: AtomicU32 = AtomicU32::new(0);
static ACTIVE: AtomicBool = AtomicBool::new(false);
static OVER: AtomicBool = AtomicBool::new(false);
/// Number of rebuilds that were not squeezed within the time. With any of them, the summary may be
/// `not exercised`.
static NOT_SQUEEZED: AtomicU64 = AtomicU64::new(0);
/// Number of looks between the counter's two steps that found interrupts on.
static INTERRUPTS_ON: AtomicU64 = AtomicU64::new(0);

/// Starts to act at the points. Each rebuild waits for `quota` slow-path entries of each source.
pub fn open(quota: u64) {
    QUOTA.store(quota, Relaxed);
    ACTIVE.store(true, Release);
}

/// Stops acting at the points, and ends the storm.
pub fn close() {
    ACTIVE.store(false, Release);
    OVER.store(true, Release);
}

/// Returns the number of rebuilds that went on although the zones were not tight in time.
pub fn not_squeezed() -> u64 {
    NOT_SQUEEZED.load(Relaxed)
}

/// Returns how often interrupts were found on between the counter's two steps.
pub fn interrupts_on() -> u64 {
    INTERRUPTS_ON.load(Relaxed)
}

/// Acts as the hook at the allocator's schedule points.
pub fn at(point: Point) {
    if !ACTIVE.load(Acquire) {
        return;
    }
    match point {
        Point::OfflineLeft | Point::OnlineCounted => {
            // SAFETY: these two points are reached in a task, the hot-plug thread, with interrupts
            // on and no spinlock held. Both stand in functions that take the task's token.
            hold(point, &unsafe { Task::mint() })
        }
        Point::SlowWalk => probe::about_to_walk(),
        Point::RebuildOdd => {
            look_at_interrupts();
            interrupt_everybody();
            arch::nmi::send(arch::cpu_id());
        }
        Point::RebuildEven => look_at_interrupts(),
        Point::OfflineDone | Point::OnlineDone => {
            // SAFETY: these two points are reached in the same task and state as the two above.
            probe::let_go(&unsafe { Task::mint() });
            balloon::relax();
        }
        _ => {}
    }
}

/// Sends every CPU the call-function interrupt. If the writer has interrupts on, it waits here
/// until it has taken its own. If they are off and NMIs make no requests, it waits until another
/// CPU has taken its interrupt. So some request is then inside the window.
fn interrupt_everybody() {
    let here = arch::cpu_id();
    let taken = |cpu| percpu::of(cpu).taken(vectors::WORK);
    let before = percpu::online().fold(0_u32, |sum, cpu| sum.wrapping_add(taken(cpu)));
    let (before_here, takes) = (taken(here), interrupts::interrupts_enabled());
    sources::call(percpu::online_mask());
    if takes {
        time::spin_until(TAKEN_NS, || taken(here) != before_here);
    } else if !options::get().nmi_requests {
        time::spin_until(TAKEN_NS, || {
            percpu::online().fold(0_u32, |sum, cpu| sum.wrapping_add(taken(cpu))) != before
        });
    }
}

fn look_at_interrupts() {
    let planted = options::get().plant == Some(Plant::IrqOn);
    if planted {
        interrupts::enable();
    }
    if interrupts::interrupts_enabled() && mm::frames().variant().writes_with_interrupts_off() {
        INTERRUPTS_ON.fetch_add(1, Relaxed);
    }
    if planted {
        interrupts::disable();
    }
}

/// Notes the zone of the DIMM that is asked to leave next.
pub fn note_leaving(zone: Option<ZoneId>) {
    LEAVING.store(zone.map_or(0, |zone| zone.index() as u32 + 1), Relaxed);
}

fn leaving() -> Option<ZoneId> {
    let index = (LEAVING.load(Relaxed) as usize).checked_sub(1)?;
    Some(ZoneId::from_index(index))
}

/// Holds the caller, a task, until the zones are tight and the handlers have met their quota. Then
/// holds it until a request is held over the rebuild, if one is to be.
fn hold(point: Point, task: &Task) {
    let probed = match point {
        Point::OfflineLeft => probe::wanted(leaving()),
        _ => None,
    };
    balloon::squeeze(probed);
    if !sleep_until(task, balloon::is_tight) {
        NOT_SQUEEZED.fetch_add(1, Relaxed);
        return;
    }
    let slow = || [Source::Timer, Source::CallFunction].map(|source| counts::of(source).slow_path);
    let (before, quota) = (slow(), QUOTA.load(Relaxed));
    let met = || {
        let now = slow();
        (0..now.len()).all(|source| now[source] - before[source] >= quota)
    };
    if !sleep_until(task, met) {
        NOT_SQUEEZED.fetch_add(1, Relaxed);
    }
    if let Some(zone) = probed {
        // Frames that CPUs had in their per-CPU caches before the zones came down would come back
        // when the request drains.
        mm::frames().drain_all(task);
        // The look is made twice: one that began before the drain may be the one that ends first.
        let is_tight = (0..2).all(|_| {
            balloon::look_again();
            sleep_until(task, balloon::is_tight)
        });
        if is_tight {
            probe::ask(zone, task);
        }
    }
}

/// Sleeps until `condition` holds; returns whether it did within [`HOLD_NS`].
fn sleep_until(task: &Task, condition: impl Fn() -> bool) -> bool {
    let deadline = time::now_ns() + HOLD_NS;
    while !condition() {
        if time::now_ns() >= deadline {
            return false;
        }
        thread::sleep_ns(task, LOOK_EVERY_NS);
    }
    true
}

/// Runs as the storm's thread. While the zones are tight, it interrupts every CPU, and sends NMIs
/// to them in turn.
pub fn storm(task: &Task, _: usize) {
    let mut round = 0_u64;
    while !OVER.load(Acquire) {
        if !balloon::is_tight() {
            thread::sleep_until(task, time::now_ns() + IDLE_NS);
            continue;
        }
        sources::call(percpu::online_mask());
        round += 1;
        if round.is_multiple_of(8) {
            let turn = (round / 8) as usize % percpu::online_count();
            if let Some(cpu) = percpu::online().nth(turn) {
                arch::nmi::send(cpu);
            }
        }
        time::spin_ns(STORM_EVERY_NS);
    }
}
