//! What the hot-plug thread shows to others: each slot's phase and its last event.

use super::slot::MAX_SLOTS;
use crate::arch::Irqs;
use crate::thread::{TimedOut, WaitQueue};
use core::sync::atomic::{AtomicU64, Ordering};
use tidemark_frames::{Owner, Pfn, PfnRange, ZoneId};
use tidemark_sync::{IrqSpinLock, Rank, Task};

/// Where a slot stands, as the hot-plug thread last saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotPhase {
    /// No DIMM.
    #[default]
    Empty,
    /// A DIMM whose frames are in use (or that has no usable frames).
    Online,
    /// A removal is under way.
    Leaving,
    /// The last removal was refused to the host; the DIMM is online.
    Refused,
    /// A DIMM that could not be brought online; it can be ejected.
    Failed,
}

/// What stood in the way of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// An unmovable frame, or one still in use at the deadline.
    Frame {
        /// The frame.
        at: Pfn,
        /// Whose it is.
        owner: Owner,
    },
    /// Something else; the log says what.
    Other,
}

/// A slot as others see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlotView {
    /// Where it stands.
    pub phase: SlotPhase,
    /// The zone that has its frames.
    pub zone: Option<ZoneId>,
    /// The usable frames; they are the allocator's while the DIMM is online.
    pub range: Option<PfnRange>,
    /// Size of the DIMM in bytes, usable or not.
    pub size_bytes: u64,
    /// Removals that ended, well or refused; a waiter compares it with what it saw before.
    pub removals: u64,
    /// DIMMs brought online in this slot, at boot included.
    pub arrivals: u64,
    /// Frames moved elsewhere at the last removal.
    pub migrated: u64,
    /// How long the last event took, in nanoseconds.
    pub took_ns: u64,
    /// Interrupts-off time of the rebuild at the last event, in nanoseconds; 0 if there was none.
    pub irq_off_ns: u64,
    /// Why the last removal was refused.
    pub obstacle: Option<Obstacle>,
}

/// What hot-plug has done since boot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// System control interrupts that announced memory hot-plug.
    pub interrupts: u64,
    /// Removals asked by the host.
    pub removals_asked: u64,
    /// DIMMs ejected.
    pub ejected: u64,
    /// Removals refused.
    pub refused: u64,
    /// DIMMs brought online after boot.
    pub added: u64,
    /// Frames migrated off leaving DIMMs.
    pub migrated_frames: u64,
}

/// The counters, written by the hot-plug thread and, the first, by the interrupt handler.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub interrupts: AtomicU64,
    pub removals_asked: AtomicU64,
    pub ejected: AtomicU64,
    pub refused: AtomicU64,
    pub added: AtomicU64,
    pub migrated_frames: AtomicU64,
}

pub(super) static COUNTS: Counts = Counts {
    interrupts: AtomicU64::new(0),
    removals_asked: AtomicU64::new(0),
    ejected: AtomicU64::new(0),
    refused: AtomicU64::new(0),
    added: AtomicU64::new(0),
    migrated_frames: AtomicU64::new(0),
};

const EMPTY: SlotView = SlotView {
    phase: SlotPhase::Empty,
    zone: None,
    range: None,
    size_bytes: 0,
    removals: 0,
    arrivals: 0,
    migrated: 0,
    took_ns: 0,
    irq_off_ns: 0,
    obstacle: None,
};

static BOARD: IrqSpinLock<[SlotView; MAX_SLOTS], Irqs> =
    IrqSpinLock::new(Rank::Hotplug, [EMPTY; MAX_SLOTS]);
static CHANGED: WaitQueue = WaitQueue::new();

/// Returns what hot-plug has done so far. Any context.
pub fn counters() -> Counters {
    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    Counters {
        interrupts: get(&COUNTS.interrupts),
        removals_asked: get(&COUNTS.removals_asked),
        ejected: get(&COUNTS.ejected),
        refused: get(&COUNTS.refused),
        added: get(&COUNTS.added),
        migrated_frames: get(&COUNTS.migrated_frames),
    }
}

/// Returns a slot as the hot-plug thread last saw it. Task or hard-interrupt context.
///
/// # Panics
///
/// Panics if `slot` is not below [`MAX_SLOTS`].
pub fn view(slot: usize) -> SlotView {
    BOARD.lock()[slot]
}

/// Returns where a slot stands. Task or hard-interrupt context.
pub fn phase(slot: usize) -> SlotPhase {
    view(slot).phase
}

/// Sleeps until a slot's view satisfies `is`, and returns that view.
///
/// # Errors
///
/// [`TimedOut`] if it does not by `deadline_ns` (since boot).
pub fn wait(
    slot: usize,
    deadline_ns: u64,
    mut is: impl FnMut(&SlotView) -> bool,
    task: &Task,
) -> Result<SlotView, TimedOut> {
    let mut seen = EMPTY;
    CHANGED.wait_until(task, Some(deadline_ns), || {
        seen = view(slot);
        is(&seen)
    })?;
    Ok(seen)
}

/// Changes a slot's view and wakes who waits.
pub(super) fn change(slot: usize, task: &Task, how: impl FnOnce(&mut SlotView)) {
    how(&mut BOARD.lock()[slot]);
    CHANGED.wake_all(task);
}
