//! Places in which one context leaves a block, and another one, on any CPU, takes it.

use crate::{
    counts::COUNTS,
    cpu,
    machine::OurBlock,
    owners::{self, Tag},
    requests,
};
use std::sync::atomic::{AtomicU64, Ordering::*};
use tidemark_frames::FrameHandle;

/// A place for a block, which any context may take next.
#[derive(Debug)]
pub struct Place(AtomicU64);

impl Place {
    /// Returns an empty place.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Puts a block into the place; returns the one that was there.
    pub fn put(&self, block: OurBlock) -> Option<OurBlock> {
        Self::block(self.0.swap(block.leak().into_raw(), AcqRel))
    }

    /// Takes the block out of the place.
    pub fn take(&self) -> Option<OurBlock> {
        Self::block(self.0.swap(0, AcqRel))
    }

    fn block(raw: u64) -> Option<OurBlock> {
        FrameHandle::from_raw(raw).and_then(requests::adopt)
    }
}

/// The places in which contexts and CPUs leave blocks for each other.
static SHELF: [Place; 48] = [const { Place::new() }; 48];

/// Puts a block on the shelf, and frees the one that was in its place.
pub fn put(block: OurBlock, tag: Tag) {
    owners::hand_on(&block, tag, Tag::SHELF);
    COUNTS.handed_on.add(1);
    let place = &SHELF[cpu::here().random().below(SHELF.len())];
    if let Some(pushed_off) = place.put(block) {
        requests::give(pushed_off, Tag::SHELF);
    }
}

/// Takes a block off a random place of the shelf, if there is one.
pub fn take(tag: Tag) -> Option<OurBlock> {
    let block = SHELF[cpu::here().random().below(SHELF.len())].take()?;
    owners::hand_on(&block, Tag::SHELF, tag);
    Some(block)
}

/// Frees all blocks on the shelf.
pub fn clear() {
    for block in SHELF.iter().filter_map(Place::take) {
        requests::give(block, Tag::SHELF);
    }
}
