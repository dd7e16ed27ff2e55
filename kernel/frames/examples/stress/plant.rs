//! Faults that are made on purpose: a verdict counts only if one of them turns it red.

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
    /// A request is given a block that somebody has already.
    TwoOwners,
    /// A block is freed twice.
    DoubleFree,
    /// A CPU's task turns interrupts off and goes on no more.
    Hang,
    /// The writers' critical section leaves interrupts on: for protocols that turn them off.
    IrqOn,
}

/// The fault of this run.
static CHOSEN: OnceLock<Plant> = OnceLock::new();

/// Whether it was made.
static MADE: AtomicBool = AtomicBool::new(false);

/// Allocations of a run before a fault is made: the machine is full by then.
const AFTER: u64 = 50_000;

impl Plant {
    const ALL: [Self; 5] = [
        Self::LostFrame,
        Self::TwoOwners,
        Self::DoubleFree,
        Self::Hang,
        Self::IrqOn,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LostFrame => "lost-frame",
            Self::TwoOwners => "two-owners",
            Self::DoubleFree => "double-free",
            Self::Hang => "hang",
            Self::IrqOn => "irq-on",
        }
    }

    /// Every name.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The fault of this name.
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

/// Whether this fault is to be made in this run.
pub fn is(plant: Plant) -> bool {
    CHOSEN.get() == Some(&plant)
}

/// Whether this fault is to be made here and now: once in a run, after a while.
pub fn is_due(plant: Plant) -> bool {
    is(plant) && COUNTS.signed.get() >= AFTER && !MADE.swap(true, Relaxed)
}

/// Whether a fault of this run is still to be made. Interrupts that are left on are no event.
pub fn is_pending() -> bool {
    let chosen = CHOSEN.get().filter(|&&plant| plant != Plant::IrqOn);
    chosen.is_some() && !MADE.load(Relaxed)
}

/// What an allocation returns: the block that came, or, planted, one that somebody has.
pub fn handed_out(came: OurBlock) -> OurBlock {
    /// The block that came last, as a handle.
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

/// Frees a block; planted, twice.
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
