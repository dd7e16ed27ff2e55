//! The machine's memory: two nodes, and 640 MiB of physical addresses without any bytes. Instead
//! there is a word for each frame that names its owner.
//!
//! | block | at boot | |
//! |---|---|---|
//! | 31 | node 0 DMA32, but for its first 64 MiB, which are not there | stays |
//! | 32 | node 0 Normal | stays |
//! | 33, 34, 35 | node 0 Movable, node 1 Normal, node 1 Movable | come and go, each time in another zone |

use crate::machine::{Machine, frames, set_frames};
use std::sync::{OnceLock, atomic::AtomicU32};
use tidemark_frames::{
    CpuCaches, Frames, Node, NodeId, NodeMask, Pfn, PfnRange, SECTION_FRAMES, SectionMeta,
    SectionNo, SectionSlot, Storage, Topology, Variant, Zone, ZoneId, ZoneKind,
};

/// Number of nodes.
pub const NODES: usize = 2;

const DMA32_SECTION: SectionNo = SectionNo(31);
const NORMAL_SECTION: SectionNo = SectionNo(32);
/// Memory sections that come and leave, with their zones at boot.
pub const PLUGGED: [(SectionNo, ZoneId); 3] = [
    (SectionNo(33), ZoneId::new(NodeId(0), ZoneKind::Movable)),
    (SectionNo(34), ZoneId::new(NodeId(1), ZoneKind::Normal)),
    (SectionNo(35), ZoneId::new(NodeId(1), ZoneKind::Movable)),
];
/// Zones that a memory section may come back in.
pub const PLUGGED_ZONES: [ZoneId; 4] = [
    ZoneId::new(NodeId(0), ZoneKind::Normal),
    ZoneId::new(NodeId(0), ZoneKind::Movable),
    ZoneId::new(NodeId(1), ZoneKind::Normal),
    ZoneId::new(NodeId(1), ZoneKind::Movable),
];
/// Number of memory sections, from the first one on.
const SECTIONS: usize = 5;
/// Frames that stay: half a memory section, and a whole one.
pub const FRAMES_THAT_STAY: u64 = SECTION_FRAMES as u64 * 3 / 2;
/// Frames, if every memory section is present.
pub const MOST_FRAMES: usize = SECTIONS * SECTION_FRAMES - SECTION_FRAMES / 2;

static OWNERS: OnceLock<Vec<AtomicU32>> = OnceLock::new();

/// Returns the frames of a memory section.
pub fn range_of(block: SectionNo) -> PfnRange {
    PfnRange::new(block.start(), SectionNo(block.0 + 1).start())
}

/// Returns the word of each frame: see [`crate::owners`].
pub fn owners() -> &'static [AtomicU32] {
    OWNERS.get().expect("boot has made them")
}

/// Returns the index of a frame's word.
pub fn index_of(pfn: Pfn) -> usize {
    (pfn.0 - DMA32_SECTION.start().0) as usize
}

/// Returns the frame of the word at an index.
pub fn frame_at(index: usize) -> Pfn {
    Pfn(DMA32_SECTION.start().0 + index as u64)
}

fn books<T>(count: usize, book: impl FnMut() -> T) -> &'static [T] {
    let books: Vec<T> = std::iter::repeat_with(book).take(count).collect();
    books.leak()
}

/// Makes the allocator and gives it its memory.
pub fn boot(variant: Variant, cpus: usize) {
    OWNERS.get_or_init(|| {
        (0..SECTIONS * SECTION_FRAMES)
            .map(|_| AtomicU32::new(0))
            .collect()
    });
    let storage = Storage {
        sections: books(DMA32_SECTION.0 + SECTIONS, SectionSlot::new),
        cpus: books(cpus, CpuCaches::new),
        nodes: books(NODES, Node::new),
        zones: books(NODES * ZoneKind::ALL.len(), Zone::new),
    };
    set_frames(Frames::new(Machine, storage, variant));
    frames().set_topology(&Topology::flat(NodeMask((1 << NODES) - 1)));
    for section in DMA32_SECTION.0..DMA32_SECTION.0 + SECTIONS {
        let meta = &books(1, SectionMeta::new)[0];
        frames()
            .add_section(SectionNo(section), meta)
            .expect("the section is new");
    }
    let all = range_of(DMA32_SECTION);
    let half = PfnRange::new(Pfn(all.start.0 + all.len() / 2), all.end);
    let boot_ranges = [
        (half, ZoneId::new(NodeId(0), ZoneKind::Dma32)),
        (
            range_of(NORMAL_SECTION),
            ZoneId::new(NodeId(0), ZoneKind::Normal),
        ),
    ];
    let plugged = PLUGGED.map(|(block, zone)| (range_of(block), zone));
    for (range, zone) in boot_ranges.into_iter().chain(plugged) {
        assert_eq!(frames().add_boot_range(range, zone), Ok(range.len()));
    }
    frames().finish_boot();
}
