//! Frames in tests: signed blocks, zones taken down to a level.

use crate::{
    arch::{context::Task, paging::phys_to_virt},
    mm,
};
use tidemark_frames::{FRAME_SIZE, Order, Owner, OwnerKind, Pfn, ZoneId, ZoneInfo};

pub use mm::{KernelBlock as Block, Pile, between_min_and_low, quiet, unmovable};

/// The owner of what tests hold.
pub const OWNER: Owner = Owner::new(OwnerKind::Test, 1);

const WORDS: usize = FRAME_SIZE as usize / 8;

/// Words of a frame that carry its signature.
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

/// Which free count a zone is taken down to.
pub type Level = fn(&ZoneInfo) -> u64;

/// Takes free frames of a zone, whatever its watermarks, until `free` are left. Returns what is
/// free then.
pub fn take_down(zone: ZoneId, free: u64, pile: &mut Pile) -> u64 {
    pile.take_down(zone, free, OWNER)
}

/// Takes every zone whose kind passes `which` down to a level; caches are drained first.
pub fn take_all_down(task: &Task, which: fn(ZoneId) -> bool, level: Level, pile: &mut Pile) {
    mm::frames().drain_all(task);
    for zone in mm::frames().zones().filter(|zone| which(zone.id)) {
        take_down(zone.id, level(&zone), pile);
    }
}

/// No request that respects MIN passes; one that may dip below it does.
pub fn at_min(zone: &ZoneInfo) -> u64 {
    zone.reserve[tidemark_frames::ZoneKind::Normal as usize] + zone.min
}

/// Nothing free.
pub fn nothing(_: &ZoneInfo) -> u64 {
    0
}
