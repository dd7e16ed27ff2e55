//! Faults that are made on purpose, to show that the verdict finds them.

use crate::{
    counts::COUNTS,
    cpu,
    machine::{OurBlock, frames},
};
use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};
use tidemark_frames::{FrameHandle, FrameState};

/// The faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// An interrupt handler forgets a block that it holds.
    LostFrame,
    /// A request gets a block that has an owner already.
    TwoOwners,
    /// A block is freed twice.
    DoubleFree,
    /// A CPU's task turns interrupts off and stops.
    Hang,
    /// The writers' critical section leaves interrupts on, in protocols that turn them off.
    IrqOn,
}

/// The fault of this run.
static CHOSEN: OnceLock<Plant> = OnceLock::new();

/// Whether the fault was made.
static MADE: AtomicBool = AtomicBool::new(false);

/// Number of allocations before a fault is made. The machine is full by then.
const AFTER: u64 = 50_000;

impl Plant {
    const ALL: [Self; 5] = [
        Self::LostFrame,
        Self::TwoOwners,
        Self::DoubleFree,
        Self::Hang,
        Self::IrqOn,
    ];

    /// Returns the name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LostFrame => "lost-frame",
            Self::TwoOwners => "two-owners",
            Self::DoubleFree => "double-free",
            Self::Hang => "hang",
            Self::IrqOn => "irq-on",
        }
    }

    /// Returns all names.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Returns the fault of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plant| plant.name() == name)
    }
}

/// Chooses the fault of this run, before it begins.
pub fn choose(plant: Option<Plant>) {
    if let Some(plant) = plant {
        CHOSEN.get_or_init(|| plant);
    }
}

/// Returns whether this fault is to be made in this run.
pub fn is(plant: Plant) -> bool {
    CHOSEN.get() == Some(&plant)
}

/// Returns whether this fault is to be made now. It is once in a run, after a while.
pub fn is_due(plant: Plant) -> bool {
    is(plant) && COUNTS.signed.get() >= AFTER && !MADE.swap(true, Relaxed)
}

/// Returns whether a fault of this run has not been made yet. Interrupts that are left on are no
/// single event.
pub fn is_pending() -> bool {
    let chosen = CHOSEN.get().filter(|&&plant| plant != Plant::IrqOn);
    chosen.is_some() && !MADE.load(Relaxed)
}

/// Returns what an allocation returns: its block, or if a fault is planted, one that has an owner
/// already.
pub fn handed_out(came: OurBlock) -> OurBlock {
    /// The last allocation's block, as a handle.
    static LAST: AtomicU64 = AtomicU64::new(0);
    if !is(Plant::TwoOwners) {
        return came;
    }
    if let Some(handle) = FrameHandle::from_raw(LAST.load(Relaxed))
        && is_allocated(&handle)
        && is_due(Plant::TwoOwners)
        && let Ok(block) = frames().adopt(handle)
    {
        drop(came);
        return block;
    }
    let raw = came.leak().into_raw();
    LAST.store(raw, Relaxed);
    let handle = FrameHandle::from_raw(raw).expect("a block was leaked to this number");
    frames().adopt(handle).expect("it is allocated")
}

fn is_allocated(handle: &FrameHandle) -> bool {
    matches!(frames().frame_state(handle.pfn()),
        FrameState::Allocated { order, .. } if order == handle.order())
}

/// Frees a block, and frees it twice if that is planted.
pub fn freed(block: OurBlock) {
    if !is(Plant::DoubleFree) || !is_due(Plant::DoubleFree) {
        return drop(block);
    }
    let raw = block.leak().into_raw();
    for _ in 0..2 {
        if let Some(handle) = FrameHandle::from_raw(raw)
            && let Ok(block) = frames().adopt(handle)
        {
            drop(block);
        }
    }
}

/// Hangs the CPU that calls this, if that is planted: with interrupts off, in a task.
pub fn hang_if_due() {
    if is_due(Plant::Hang) {
        let _off = tidemark_sync::IrqOff::<crate::machine::Machine>::new();
        cpu::here().doing(cpu::Doing::Hang);
        loop {
            std::thread::yield_now();
        }
    }
}
