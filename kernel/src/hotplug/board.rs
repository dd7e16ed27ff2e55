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

/// Frames migrated off leaving DIMMs since boot. Written by the hot-plug thread.
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

/// Returns how many frames were migrated off leaving DIMMs since boot. Any context.
pub fn migrated_frames() -> u64 {
    MIGRATED.load(Ordering::Relaxed)
}

/// Counts frames that were migrated off a DIMM that has left.
pub(super) fn count_migrated(frames: u64) {
    MIGRATED.fetch_add(frames, Ordering::Relaxed);
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
