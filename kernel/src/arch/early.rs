//! Memory before there is an allocator. It is carved off the loader's map and never given back.

use super::paging;
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

/// Bytes in a frame.
pub const FRAME_BYTES: u64 = 4096;
/// Most ranges that a memory map keeps.
pub const MAX_RANGES: usize = 128;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A range of physical memory, in bytes, frame-aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Range {
    const EMPTY: Self = Self { start: 0, end: 0 };

    fn is_empty(self) -> bool {
        self.start >= self.end
    }

    fn intersection(self, other: Self) -> Self {
        Self {
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        }
    }
}

/// The memory that remains for the frame allocator.
#[derive(Debug)]
pub struct MemoryMap {
    /// The ranges: ascending, disjoint and frame-aligned.
    pub ranges: [Range; MAX_RANGES],
    /// Number of ranges in use.
    pub len: usize,
    /// Bytes left out because the table of ranges was full.
    pub dropped_bytes: u64,
}

impl MemoryMap {
    /// Returns the ranges in use.
    pub fn as_slice(&self) -> &[Range] {
        &self.ranges[..self.len]
    }

    fn insert(&mut self, at: usize, range: Range) {
        if range.is_empty() {
            return;
        }
        if self.len == MAX_RANGES {
            self.dropped_bytes += range.end - range.start;
            return;
        }
        self.ranges.copy_within(at..self.len, at + 1);
        self.ranges[at] = range;
        self.len += 1;
    }

    fn add(&mut self, range: Range) {
        let at = self
            .as_slice()
            .iter()
            .position(|other| other.start > range.start)
            .unwrap_or(self.len);
        self.insert(at, range);
    }

    /// Removes `taken`, which lies within range `at`.
    fn carve(&mut self, at: usize, taken: Range) {
        let whole = self.ranges[at];
        self.ranges.copy_within(at + 1..self.len, at);
        self.len -= 1;
        let tail = Range {
            start: taken.end,
            end: whole.end,
        };
        self.insert(at, tail);
        let head = Range {
            start: whole.start,
            end: taken.start,
        };
        self.insert(at, head);
    }
}

/// Hands out memory from the loader's usable regions: the highest below 4 GiB first.
///
/// It leaves the first MiB to the trampoline and the DMA zone, and never hands out frame 0.
#[derive(Debug)]
pub struct BumpAllocator {
    map: MemoryMap,
}

impl BumpAllocator {
    /// Takes over the usable regions, each shrunk to whole frames.
    pub fn new(regions: &[MemoryRegion]) -> Self {
        let mut map = MemoryMap {
            ranges: [Range::EMPTY; MAX_RANGES],
            len: 0,
            dropped_bytes: 0,
        };
        for region in regions {
            if region.kind == MemoryRegionKind::Usable {
                map.add(Range {
                    start: region.start.next_multiple_of(FRAME_BYTES).max(FRAME_BYTES),
                    end: region.end & !(FRAME_BYTES - 1),
                });
            }
        }
        Self { map }
    }

    /// Takes `bytes` of physical memory aligned to `align` (a power of two, at least a frame), not
    /// zeroed. It lies below 4 GiB if possible, and never in the first MiB. Returns its physical
    /// address.
    pub fn alloc(&mut self, bytes: u64, align: u64) -> Option<u64> {
        let low = Range {
            start: MIB,
            end: 4 * GIB,
        };
        let high = Range {
            start: 4 * GIB,
            end: u64::MAX,
        };
        self.alloc_in(low, bytes, align)
            .or_else(|| self.alloc_in(high, bytes, align))
    }

    /// Takes memory as [`BumpAllocator::alloc`] does, at the highest place within `window`.
    pub fn alloc_in(&mut self, window: Range, bytes: u64, align: u64) -> Option<u64> {
        let align = align.max(FRAME_BYTES);
        let bytes = bytes.checked_next_multiple_of(FRAME_BYTES)?;
        for at in (0..self.map.len).rev() {
            let room = self.map.ranges[at].intersection(window);
            let Some(start) = room.end.checked_sub(bytes) else {
                continue;
            };
            let start = start & !(align - 1);
            if bytes > 0 && start >= room.start {
                self.map.carve(
                    at,
                    Range {
                        start,
                        end: start + bytes,
                    },
                );
                return Some(start);
            }
        }
        None
    }

    /// Takes one frame below 640 KiB, for code that starts in real mode.
    pub fn alloc_real_mode(&mut self) -> Option<PhysFrame> {
        let window = Range {
            start: FRAME_BYTES,
            end: 640 << 10,
        };
        let start = self.alloc_in(window, FRAME_BYTES, FRAME_BYTES)?;
        Some(PhysFrame::containing_address(PhysAddr::new(start)))
    }

    /// Takes zeroed memory, reached through the physical-memory map. [`paging::init`] has run
    /// before.
    pub fn alloc_zeroed(&mut self, bytes: usize, align: usize) -> Option<&'static mut [u8]> {
        let start = self.alloc(bytes as u64, align as u64)?;
        let memory = paging::phys_to_virt(start);
        // SAFETY: the memory is usable and mapped, and was carved off for this caller alone.
        unsafe {
            memory.write_bytes(0, bytes);
            Some(core::slice::from_raw_parts_mut(memory, bytes))
        }
    }

    /// Takes one frame, not zeroed.
    pub fn frame(&mut self) -> Option<PhysFrame> {
        let start = self.alloc(FRAME_BYTES, FRAME_BYTES)?;
        Some(PhysFrame::containing_address(PhysAddr::new(start)))
    }

    /// Returns the memory that is left now.
    pub fn map(&self) -> &MemoryMap {
        &self.map
    }

    /// Returns the memory that is left for the frame allocator.
    pub fn into_memory_map(self) -> MemoryMap {
        self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, end: u64, kind: MemoryRegionKind) -> MemoryRegion {
        MemoryRegion { start, end, kind }
    }

    fn allocator() -> BumpAllocator {
        use MemoryRegionKind::*;
        BumpAllocator::new(&[
            region(0, 0x9_fc00, Usable),
            region(0x9_fc00, 0xa_0000, Bootloader),
            region(MIB, 0x200_0800, Usable),
            region(0x200_0800, 0x300_0000, Bootloader),
            region(4 * GIB, 4 * GIB + 16 * MIB, Usable),
        ])
    }

    fn bytes(allocator: &BumpAllocator) -> u64 {
        let map = allocator.map();
        map.as_slice().iter().map(|r| r.end - r.start).sum()
    }

    #[test]
    fn usable_regions_shrink_to_whole_frames_without_frame_zero() {
        let allocator = allocator();
        assert_eq!(
            allocator.map().as_slice(),
            [
                Range {
                    start: 0x1000,
                    end: 0x9_f000
                },
                Range {
                    start: MIB,
                    end: 0x200_0000
                },
                Range {
                    start: 4 * GIB,
                    end: 4 * GIB + 16 * MIB
                },
            ]
        );
    }

    #[test]
    fn memory_below_4_gib_goes_first_from_the_top_and_then_above() {
        let mut allocator = allocator();
        assert_eq!(allocator.alloc(4096, 4096), Some(0x1ff_f000));
        assert_eq!(allocator.alloc(1, 1), Some(0x1ff_e000));
        assert_eq!(
            allocator.alloc(40 * MIB, 4096),
            None,
            "no range is that long"
        );
        assert_eq!(allocator.alloc(30 * MIB, 4096), Some(0x1ff_e000 - 30 * MIB));
        assert_eq!(allocator.alloc(8 * MIB, 2 * MIB), Some(4 * GIB + 8 * MIB));
    }

    #[test]
    fn an_aligned_piece_leaves_both_ends_in_the_map() {
        let mut allocator = allocator();
        let before = bytes(&allocator);
        allocator.alloc(4096, 4096).unwrap();
        assert_eq!(allocator.alloc(2 * MIB, 2 * MIB), Some(0x1c0_0000));
        assert_eq!(bytes(&allocator), before - 4096 - 2 * MIB);
        let ranges = allocator.into_memory_map();
        assert!(
            ranges
                .as_slice()
                .windows(2)
                .all(|pair| pair[0].end <= pair[1].start)
        );
    }

    #[test]
    fn only_the_trampoline_comes_from_the_first_mib() {
        let mut allocator = allocator();
        while let Some(start) = allocator.alloc(4096, 4096) {
            assert!(start >= MIB);
        }
        let frame = allocator.alloc_real_mode().unwrap();
        assert_eq!(frame.start_address().as_u64(), 0x9_e000);
        assert_eq!(bytes(&allocator), 0x9_e000 - 0x1000);
    }
}
