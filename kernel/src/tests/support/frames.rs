//! Frames in tests: signed blocks, piles of any height without a heap, zones taken down to a level.

use crate::{
    arch::{context::Task, paging::phys_to_virt},
    mm::{self, platform::Kernel},
};
use tidemark_frames::{FRAME_SIZE, FrameHandle, Order, Owner, OwnerKind, Pfn, ZoneId, ZoneInfo};
use tidemark_sync::ContextKind;

/// An allocated block of the kernel's allocator.
pub type Block = tidemark_frames::Block<'static, 'static, Kernel>;

/// The owner of what tests hold.
pub const OWNER: Owner = Owner::new(OwnerKind::Test, 1);

const WORDS: usize = FRAME_SIZE as usize / 8;

/// Words of a frame that carry its signature; word 0 is left to [`Pile`].
const SIGNED: [usize; 4] = [1, 2, WORDS / 2, WORDS - 1];

fn word(pfn: Pfn, index: usize) -> *mut u64 {
    phys_to_virt(pfn.address())
        .cast::<u64>()
        .wrapping_add(index)
}

fn expected(pfn: Pfn, index: usize, tag: u64) -> u64 {
    (pfn.0 << 20 | index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ tag
}

fn frames_of(pfn: Pfn, order: Order) -> impl Iterator<Item = Pfn> {
    (pfn.0..pfn.0 + order.frames()).map(Pfn)
}

/// Writes a signature into every frame of a block. Any context.
pub fn sign(block: &Block, tag: u64) {
    for pfn in frames_of(block.pfn(), block.order()) {
        for index in SIGNED {
            // SAFETY: the block is allocated and ours, and the direct map has it.
            unsafe { word(pfn, index).write_volatile(expected(pfn, index, tag)) };
        }
    }
}

/// The first frame of a block whose signature is not the one that [`sign`] wrote.
pub fn unsigned(block: &Block, tag: u64) -> Option<Pfn> {
    frames_of(block.pfn(), block.order()).find(|&pfn| {
        SIGNED.iter().any(|&index| {
            // SAFETY: as in `sign`.
            unsafe { word(pfn, index).read_volatile() != expected(pfn, index, tag) }
        })
    })
}

/// Breaks the signature of a frame that may be anybody's: what a planted fault does.
pub fn deface(pfn: Pfn) {
    for index in SIGNED {
        // SAFETY: the direct map has the frame. That it is somebody else's is the fault planted;
        // only tests' frames are ever given here.
        unsafe { word(pfn, index).write_volatile(!expected(pfn, index, 0)) };
    }
}

/// Whether every byte of a block is zero.
pub fn is_zero(block: &Block) -> bool {
    frames_of(block.pfn(), block.order()).all(|pfn| {
        // SAFETY: as in `sign`; the index stays within the frame.
        (0..WORDS).all(|index| unsafe { word(pfn, index).read_volatile() == 0 })
    })
}

/// Blocks stacked on each other: each one's first word leads to the next. Dropping the pile frees
/// them.
#[derive(Debug, Default)]
pub struct Pile {
    top: u64,
    frames: u64,
}

impl Pile {
    /// An empty pile.
    pub const fn new() -> Self {
        Self { top: 0, frames: 0 }
    }

    /// Puts a block on top.
    pub fn push(&mut self, block: Block) {
        self.frames += block.order().frames();
        // SAFETY: the block is allocated and ours; word 0 is not part of the signature.
        unsafe { word(block.pfn(), 0).write_volatile(self.top) };
        self.top = block.leak().into_raw();
    }

    /// Takes the top block.
    pub fn pop(&mut self) -> Option<Block> {
        let handle = FrameHandle::from_raw(self.top)?;
        // SAFETY: as in `push`, which wrote the word.
        self.top = unsafe { word(handle.pfn(), 0).read_volatile() };
        let block = mm::frames().adopt(handle).ok()?;
        self.frames -= block.order().frames();
        Some(block)
    }

    /// Frames in the pile.
    pub fn frames(&self) -> u64 {
        self.frames
    }
}

impl Drop for Pile {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// Which free count a zone is taken down to.
pub type Level = fn(&ZoneInfo) -> u64;

/// Takes free frames of a zone, whatever its watermarks, until `free` are left. Returns what is
/// free then: other users may have freed or taken some meanwhile.
pub fn take_down(zone: ZoneId, free: u64, pile: &mut Pile) -> u64 {
    let frames = mm::frames();
    let mut order = Order::MAX.get();
    loop {
        let now = frames.zone_info(zone).free;
        let Some(size) = Order::new(order) else {
            return now;
        };
        if now >= free + size.frames()
            && let Some(block) = frames.alloc_in_zone(ContextKind::Task, zone, size, OWNER)
        {
            pile.push(block);
        } else if order == 0 {
            return now;
        } else {
            order -= 1;
        }
    }
}

/// Takes every zone whose kind passes `which` down to a level; caches are drained first.
pub fn take_all_down(task: &Task, which: fn(ZoneId) -> bool, level: Level, pile: &mut Pile) {
    mm::frames().drain_all(task);
    for zone in mm::frames().zones().filter(|zone| which(zone.id)) {
        take_down(zone.id, level(&zone), pile);
    }
}

/// Empties the page cache, so that reclaim, which every slow path wakes, finds nothing to free
/// while a test holds zones at a level.
pub fn quiet(task: &Task) {
    mm::page_cache::drop_all(task);
    mm::frames().drain_all(task);
}

/// Zones that unmovable requests may use.
pub fn unmovable(zone: ZoneId) -> bool {
    zone.kind() != tidemark_frames::ZoneKind::Movable
}

/// Between MIN and LOW for requests without a zone flag: the fast path fails, the slow path passes.
pub fn between_min_and_low(zone: &ZoneInfo) -> u64 {
    zone.reserve[tidemark_frames::ZoneKind::Normal as usize] + (zone.min + zone.low) / 2
}

/// No request that respects MIN passes; one that may dip below it does.
pub fn at_min(zone: &ZoneInfo) -> u64 {
    zone.reserve[tidemark_frames::ZoneKind::Normal as usize] + zone.min
}

/// Nothing free.
pub fn nothing(_: &ZoneInfo) -> u64 {
    0
}
