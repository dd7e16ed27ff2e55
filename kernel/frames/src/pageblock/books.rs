//! The table of all memory sections' books, searched by frame number.

use crate::{
    base::{
        owner::{Entry, FrameState, Owner},
        types::{Order, Pfn, SectionNo, ZoneId},
    },
    pageblock::section_meta::{
        PAGEBLOCK_FRAMES, PageblockRef, SECTION_FRAMES, SECTION_PAGEBLOCKS, SectionMeta,
        SectionSlot,
    },
};
use tidemark_sync::atomic::Ordering;

/// The table of memory sections, with the books of those that have been given some.
#[derive(Debug)]
pub struct Books<'m> {
    sections: &'m [SectionSlot<'m>],
}

impl<'m> Books<'m> {
    pub(crate) fn new(sections: &'m [SectionSlot<'m>]) -> Self {
        Self { sections }
    }

    /// Returns the number of the table's slots.
    pub(crate) fn len(&self) -> usize {
        self.sections.len()
    }

    /// Returns the slot of a section, or `None` beyond the table.
    pub(crate) fn slot(&self, section: SectionNo) -> Option<&'m SectionSlot<'m>> {
        self.sections.get(section.0)
    }

    /// Returns the pageblock of this index, if its section has books.
    #[inline]
    pub(crate) fn pageblock(&self, index: u64) -> Option<PageblockRef<'m>> {
        let slot = self.sections.get(index as usize / SECTION_PAGEBLOCKS)?;
        Some(PageblockRef::at(slot.meta()?, index))
    }

    /// Returns the books of a frame's section. A section that has none yields those of
    /// [`crate::SectionSlot::meta_or_none`], a frame beyond the table `None`.
    #[inline]
    pub(crate) fn books_of(&self, pfn: Pfn) -> Option<&'m SectionMeta> {
        let slot = self.sections.get(pfn.0 as usize / SECTION_FRAMES)?;
        Some(slot.meta_or_none())
    }

    /// Returns the pageblock of a frame, and the frame's index in it.
    #[inline]
    pub(crate) fn pageblock_of(&self, pfn: Pfn) -> Option<(PageblockRef<'m>, u32)> {
        let pageblock = self.pageblock(pfn.0 / PAGEBLOCK_FRAMES as u64)?;
        Some((pageblock, (pfn.0 % PAGEBLOCK_FRAMES as u64) as u32))
    }

    /// Returns what a frame's entry says; [`FrameState::Absent`] for a frame that the allocator
    /// does not manage.
    pub(crate) fn frame_state(&self, pfn: Pfn) -> FrameState {
        match self.pageblock_of(pfn) {
            Some((pageblock, frame)) if pageblock.core().state().is_present() => {
                pageblock.entry_now(frame).state()
            }
            _ => FrameState::Absent,
        }
    }

    /// Changes the owner of the allocated block that begins at `pfn`, if it is `from` now; returns
    /// whether it was.
    pub(crate) fn change_owner(&self, pfn: Pfn, from: Owner, to: Owner) -> bool {
        let Some((pageblock, frame)) = self.pageblock_of(pfn) else {
            return false;
        };
        let FrameState::Allocated { order, .. } = pageblock.entry_now(frame).state() else {
            return false;
        };
        // Relaxed: the entry is a label. The code that passes the block on publishes its content.
        pageblock
            .entry(frame)
            .compare_exchange(
                Entry::allocated(order, from).0,
                Entry::allocated(order, to).0,
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Writes the entry of an allocated block. Only the block's owner may call it.
    pub(crate) fn label(&self, pfn: Pfn, order: Order, owner: Owner) {
        if let Some((pageblock, frame)) = self.pageblock_of(pfn) {
            let entry = Entry::allocated(order, owner);
            pageblock.entry(frame).store(entry.0, Ordering::Relaxed);
        }
    }

    /// Returns the zone of a frame's pageblock, or `None` if that is gone.
    pub(crate) fn zone_of(&self, pfn: Pfn) -> Option<ZoneId> {
        let (pageblock, _) = self.pageblock_of(pfn)?;
        pageblock
            .core()
            .state()
            .is_present()
            .then(|| pageblock.zone())
    }
}
