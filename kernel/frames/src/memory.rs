//! The memory that the allocator keeps its books in; the caller hands it in.

use crate::{Pfn, ZoneId};
use core::array;
use tidemark_sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// Frames in a block of 128 MiB.
pub const BLOCK_FRAMES: usize = 1 << 15;
pub(crate) const AREA_FRAMES: usize = 512;
pub(crate) const BLOCK_AREAS: usize = BLOCK_FRAMES / AREA_FRAMES;

/// The books of one block of 128 MiB: bits, area states, area zones and the frame table; about
/// 132 KiB. It consists of atomics only: zeroed memory is a valid value, and means that none of its
/// frames are the allocator's yet.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct BlockMeta {
    pub(crate) bits: [AreaBits; BLOCK_AREAS],
    pub(crate) pairs: [AreaPair; BLOCK_AREAS / 2],
    pub(crate) zones: [AtomicU8; BLOCK_AREAS],
    pub(crate) entries: [AtomicU32; BLOCK_FRAMES],
}

/// One bit a frame of a 2 MiB area, 1 = not free: one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct AreaBits(pub(crate) [AtomicU64; 8]);

/// The states of the two areas of a 4 MiB pair.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct AreaPair(pub(crate) AtomicU32);

impl BlockMeta {
    /// Returns the books of a block without frames.
    pub fn new() -> Self {
        Self {
            bits: array::from_fn(|_| AreaBits(array::from_fn(|_| AtomicU64::new(0)))),
            pairs: array::from_fn(|_| AreaPair(AtomicU32::new(0))),
            zones: array::from_fn(|_| AtomicU8::new(0)),
            entries: array::from_fn(|_| AtomicU32::new(0)),
        }
    }
}

impl Default for BlockMeta {
    fn default() -> Self {
        Self::new()
    }
}

/// A place in the table of blocks; index = block number. Once filled it stays so. Not valid when
/// zeroed: write `BlockSlot::new()` into each.
#[derive(Debug)]
pub struct BlockSlot<'m> {
    pub(crate) meta: spin::Once<&'m BlockMeta>,
}

impl BlockSlot<'_> {
    /// Returns an empty place.
    pub const fn new() -> Self {
        Self {
            meta: spin::Once::new(),
        }
    }
}

impl Default for BlockSlot<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// One CPU's caches, about 17 KiB. Atomics only: zeroed memory is a valid value.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct CpuCaches {
    _todo: AtomicU32,
}

impl CpuCaches {
    /// Returns empty caches.
    pub fn new() -> Self {
        Self {
            _todo: AtomicU32::new(0),
        }
    }
}

impl Default for CpuCaches {
    fn default() -> Self {
        Self::new()
    }
}

/// One node's zonelists. Atomics only: zeroed memory is a valid value.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Node {
    _todo: AtomicU32,
}

impl Node {
    /// Returns a node with empty lists.
    pub fn new() -> Self {
        Self {
            _todo: AtomicU32::new(0),
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

/// Why memory could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// The block's number is beyond the table of blocks, or it has no books.
    NoBlock {
        /// First frame concerned.
        at: Pfn,
    },
    /// The area belongs to another zone.
    OtherZone {
        /// First frame of the area.
        at: Pfn,
        /// The zone that has it.
        zone: ZoneId,
    },
    /// The frame is the allocator's already.
    Present {
        /// The frame.
        at: Pfn,
    },
    /// The node's number is beyond the storage.
    NoNode,
}
