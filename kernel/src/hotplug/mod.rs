//! Memory hot-plug: a DIMM is asked for by the host, emptied, and let go; or it arrives.
//!
//! The interrupt handler only acknowledges and wakes the hot-plug thread, which does the work.

pub mod gpe;
pub mod policy;
pub mod ports;
pub mod slot;

use slot::MAX_SLOTS;

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
    /// A DIMM that could not be brought online.
    Failed,
}

/// What hot-plug has done since boot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// System control interrupts taken for memory hot-plug.
    pub sci: u64,
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

/// Sets up the interrupt and the thread, and brings the DIMMs online that are there at boot.
/// Call once, in a task, after `mm::init` and once threads and the IO-APIC work.
pub fn init() {
    todo!()
}

/// Returns what hot-plug has done so far. Any context.
pub fn counters() -> Counters {
    todo!()
}

/// Returns where a slot stands. Any context.
pub fn phase(slot: usize) -> SlotPhase {
    assert!(slot < MAX_SLOTS, "slot {slot} of {MAX_SLOTS}");
    todo!()
}
