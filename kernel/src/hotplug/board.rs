//! The board on which the hot-plug thread shows each slot's phase and last event to other threads.

use super::slot::MAX_SLOTS;
use crate::arch::Irqs;
use crate::thread::{TimedOut, WaitQueue};
use core::sync::atomic::{AtomicU64, Ordering};
use tidemark_frames::{Owner, Pfn, PfnRange, ZoneId};
use tidemark_sync::{IrqSpinLock, Rank, Task};

/// The phase of a slot, as the hot-plug thread last saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotPhase {
    /// The slot has no DIMM.
    #[default]
    Empty,
    /// The slot has a DIMM whose frames are in use, or that has no usable frames.
    Online,
    /// A removal is under way.
    Leaving,
    /// The host was refused the last removal; the DIMM is online.
    Refused,
    /// A DIMM that could not be brought online; it can be ejected.
    Failed,
}

/// The obstacle to a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A frame that is unmovable, or was still in use at the deadline.
    Frame {
        /// The frame.
        at: Pfn,
        /// The owner of the frame.
        owner: Owner,
    },
    /// Another obstacle, which the log names.
    Other,
}

/// The view of a slot that other threads have.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlotView {
    /// The phase of the slot.
    pub phase: SlotPhase,
    /// The zone that has its frames.
    pub zone: Option<ZoneId>,
    /// The usable frames. They are the allocator's while the DIMM is online.
    pub range: Option<PfnRange>,
    /// Size of the DIMM in bytes, usable or not.
    pub size_bytes: u64,
    /// Number of removals that ended, carried out or refused. A waiter compares it with an earlier
    /// value.
    pub removals: u64,
    /// Number of DIMMs brought online in this slot, at boot included.
    pub arrivals: u64,
    /// Number of frames moved elsewhere in the last removal.
    pub migrated: u64,
    /// Duration of the last event, in nanoseconds.
    pub took_ns: u64,
    /// How long the rebuild of the last event had interrupts off, in nanoseconds; 0 if there was no
    /// rebuild.
    pub irq_off_ns: u64,
    /// Why the last removal was refused.
    pub obstacle: Option<Obstacle>,
}

/// Number of frames migrated off leaving DIMMs since boot. It is written by the hot-plug thread.
static MIGRATED: AtomicU64 = AtomicU64::new(0);

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

/// Returns the number of frames migrated off leaving DIMMs since boot. Any context may call it.
pub fn migrated_frames() -> u64 {
    MIGRATED.load(Ordering::Relaxed)
}

/// Adds frames that were migrated off a DIMM that has left.
pub(super) fn count_migrated(frames: u64) {
    MIGRATED.fetch_add(frames, Ordering::Relaxed);
}

/// Returns a slot as the hot-plug thread last saw it. Task and hard-interrupt context may call it.
///
/// # Panics
///
/// Panics if `slot` is not below [`MAX_SLOTS`].
pub fn view(slot: usize) -> SlotView {
    BOARD.lock()[slot]
}

/// Returns the phase of a slot. Task and hard-interrupt context may call it.
///
/// # Panics
///
/// Panics if `slot` is not below [`MAX_SLOTS`].
pub fn phase(slot: usize) -> SlotPhase {
    view(slot).phase
}

/// Sleeps until a slot's view satisfies `is`, and returns that view.
///
/// # Errors
///
/// Returns [`TimedOut`] if it does not by `deadline_ns` (since boot).
pub fn wait(
    slot: usize,
    deadline_ns: u64,
    mut is: impl FnMut(&SlotView) -> bool,
    task: &Task,
) -> Result<SlotView, TimedOut> {
    let mut seen = EMPTY;
    CHANGED.wait_until(task, deadline_ns, || {
        seen = view(slot);
        is(&seen)
    })?;
    Ok(seen)
}

/// Changes a slot's view and wakes the threads that wait for a change.
pub(super) fn change(slot: usize, task: &Task, how: impl FnOnce(&mut SlotView)) {
    how(&mut BOARD.lock()[slot]);
    CHANGED.wake_all(task);
}
