//! Places in which blocks wait: one context leaves a block, another one, on any CPU, takes it.

use crate::{
    counts::COUNTS,
    cpu,
    machine::OurBlock,
    owners::{self, Tag},
    requests,
};
use std::sync::atomic::{AtomicU64, Ordering::*};
use tidemark_frames::FrameHandle;

/// A place in which a block waits, whatever context takes it next.
#[derive(Debug)]
pub struct Place(AtomicU64);

impl Place {
    /// Returns an empty one.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Puts a block there; returns the one that was there.
    pub fn put(&self, block: OurBlock) -> Option<OurBlock> {
        Self::block(self.0.swap(block.leak().into_raw(), AcqRel))
    }

    /// Takes the block that is there.
    pub fn take(&self) -> Option<OurBlock> {
        Self::block(self.0.swap(0, AcqRel))
    }

    fn block(raw: u64) -> Option<OurBlock> {
        FrameHandle::from_raw(raw).and_then(requests::adopt)
    }
}

/// Where contexts and CPUs leave blocks for each other.
static SHELF: [Place; 48] = [const { Place::new() }; 48];

/// Puts a block on the shelf, and frees the one that it pushes off.
pub fn put(block: OurBlock, tag: Tag) {
    owners::hand_on(&block, tag, Tag::SHELF);
    COUNTS.handed_on.add(1);
    let place = &SHELF[cpu::here().random().below(SHELF.len())];
    if let Some(pushed_off) = place.put(block) {
        requests::give(pushed_off, Tag::SHELF);
    }
}

/// Takes a block off the shelf, if there is one where this looks.
pub fn take(tag: Tag) -> Option<OurBlock> {
    let block = SHELF[cpu::here().random().below(SHELF.len())].take()?;
    owners::hand_on(&block, Tag::SHELF, tag);
    Some(block)
}

/// Frees what is on the shelf.
pub fn clear() {
    for block in SHELF.iter().filter_map(Place::take) {
        requests::give(block, Tag::SHELF);
    }
}
