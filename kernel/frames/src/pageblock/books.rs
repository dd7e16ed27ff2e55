//! The books of all memory, by frame.

use crate::{
    base::{
        owner::{Entry, FrameState, Owner},
        types::{BlockNo, Order, Pfn, ZoneId},
    },
    pageblock::memory::{AREA_FRAMES, AreaRef, BLOCK_AREAS, BLOCK_FRAMES, BlockMeta, BlockSlot},
};
use tidemark_sync::atomic::Ordering;

/// The table of blocks of 128 MiB, with the books of those that have some.
#[derive(Debug)]
pub struct Books<'m> {
    blocks: &'m [BlockSlot<'m>],
}

impl<'m> Books<'m> {
    pub(crate) fn new(blocks: &'m [BlockSlot<'m>]) -> Self {
        Self { blocks }
    }

    /// Returns the number of places for blocks.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Returns the place of a block; nothing beyond the table.
    pub(crate) fn slot(&self, block: BlockNo) -> Option<&'m BlockSlot<'m>> {
        self.blocks.get(block.0)
    }

    /// Returns the area of this index, if its block has books.
    #[inline]
    pub(crate) fn area(&self, index: u64) -> Option<AreaRef<'m>> {
        let slot = self.blocks.get(index as usize / BLOCK_AREAS)?;
        Some(AreaRef::at(slot.meta()?, index))
    }

    /// Returns the books of a frame's block; of one that has none those of
    /// [`crate::BlockSlot::meta_or_none`].
    #[inline]
    pub(crate) fn books_of(&self, pfn: Pfn) -> Option<&'m BlockMeta> {
        let slot = self.blocks.get(pfn.0 as usize / BLOCK_FRAMES)?;
        Some(slot.meta_or_none())
    }

    /// Returns the area of a frame, and the frame's index in it.
    #[inline]
    pub(crate) fn area_of(&self, pfn: Pfn) -> Option<(AreaRef<'m>, u32)> {
        let area = self.area(pfn.0 / AREA_FRAMES as u64)?;
        Some((area, (pfn.0 % AREA_FRAMES as u64) as u32))
    }

    /// Returns what a frame's entry says; [`FrameState::Absent`] for what is not the allocator's.
    pub(crate) fn frame_state(&self, pfn: Pfn) -> FrameState {
        match self.area_of(pfn) {
            Some((area, frame)) if area.core().state().is_present() => {
                area.entry_now(frame).state()
            }
            _ => FrameState::Absent,
        }
    }

    /// Changes the owner of an allocated block by its first frame, if it is `from` now; returns
    /// whether it was.
    pub(crate) fn change_owner(&self, pfn: Pfn, from: Owner, to: Owner) -> bool {
        let Some((area, frame)) = self.area_of(pfn) else {
            return false;
        };
        let FrameState::Allocated { order, .. } = area.entry_now(frame).state() else {
            return false;
        };
        // Relaxed: the entry is a label; what it labels is published by whoever hands the frame on.
        area.entry(frame)
            .compare_exchange(
                Entry::allocated(order, from).0,
                Entry::allocated(order, to).0,
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Writes the entry of an allocated block; its sole owner calls it.
    pub(crate) fn label(&self, pfn: Pfn, order: Order, owner: Owner) {
        if let Some((area, frame)) = self.area_of(pfn) {
            let entry = Entry::allocated(order, owner);
            area.entry(frame).store(entry.0, Ordering::Relaxed);
        }
    }

    /// Returns the zone of a frame's area, while that is online.
    pub(crate) fn zone_of(&self, pfn: Pfn) -> Option<ZoneId> {
        let (area, _) = self.area_of(pfn)?;
        area.core().state().is_present().then(|| area.zone())
    }
}
