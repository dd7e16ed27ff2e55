//! Memory before there is an allocator: carved off the loader's map, never given back.

use bootloader_api::info::MemoryRegion;
use x86_64::structures::paging::PhysFrame;

/// Bytes of a frame.
pub const FRAME_BYTES: u64 = 4096;
/// The most ranges that a memory map is kept in.
pub const MAX_RANGES: usize = 128;

/// A range of physical memory, in bytes, frame-aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// What remains for the frame allocator.
#[derive(Debug)]
pub struct MemoryMap {
    /// Ascending, disjoint, frame-aligned.
    pub ranges: [Range; MAX_RANGES],
    /// How many of them are used.
    pub len: usize,
}

/// Hands out memory from the loader's usable regions, highest below 4 GiB first.
#[derive(Debug)]
pub struct BumpAllocator {
    map: MemoryMap,
}

impl BumpAllocator {
    /// Takes over the usable regions.
    pub fn new(regions: &[MemoryRegion]) -> Self {
        let _ = regions;
        todo!()
    }

    /// Takes `bytes` of physical memory aligned to `align` (a power of two, at least a frame),
    /// not zeroed; None if there is no such stretch.
    pub fn alloc(&mut self, bytes: u64, align: u64) -> Option<u64> {
        let _ = (bytes, align);
        todo!()
    }

    /// Takes zeroed memory, reached through the physical-memory map ([`super::paging::init`] ran).
    pub fn alloc_zeroed(&mut self, bytes: usize, align: usize) -> Option<&'static mut [u8]> {
        let _ = (bytes, align);
        todo!()
    }

    /// Takes one frame.
    pub fn frame(&mut self) -> Option<PhysFrame> {
        todo!()
    }

    /// Returns what is left for the frame allocator.
    pub fn into_memory_map(self) -> MemoryMap {
        self.map
    }
}
