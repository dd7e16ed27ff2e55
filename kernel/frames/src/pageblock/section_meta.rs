//! A memory section's books: the metadata of its pageblocks and frames, in memory that the caller
//! provides.

use crate::{
    base::{
        owner::Entry,
        resizing::Resizing,
        types::{Order, Pfn, ZoneId},
    },
    pageblock::{
        bits::{Pageblock, StateFilter},
        flags::PageblockFlags,
        migrate_type::{MigrateType, PageblockKind},
    },
};
use core::{array, ptr};
use tidemark_sync::{
    OnceOr,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Frames in a memory section of 128 MiB.
pub const SECTION_FRAMES: usize = 1 << 15;
pub(crate) const PAGEBLOCK_FRAMES: usize = 512;
pub(crate) const PAGEBLOCK_WORDS: usize = PAGEBLOCK_FRAMES / 64;
pub(crate) const SECTION_PAGEBLOCKS: usize = SECTION_FRAMES / PAGEBLOCK_FRAMES;

/// The books of one memory section, about 132 KiB: its pageblocks' bits, states and flags, and its
/// frames' entries. They are atomics only, so zeroed memory is a valid value. It says that the
/// allocator manages none of the frames yet.
#[doc(alias = "mem_section")]
#[derive(Debug)]
#[repr(C, align(64))]
pub struct SectionMeta {
    pub(crate) bits: [PageblockBits; SECTION_PAGEBLOCKS],
    pub(crate) pairs: [PageblockPair; SECTION_PAGEBLOCKS / 2],
    /// The flags of each pageblock; see [`PageblockFlags`].
    pub(crate) flags: [AtomicU32; SECTION_PAGEBLOCKS],
    pub(crate) entries: [AtomicU32; SECTION_FRAMES],
}

/// One bit for each frame of a pageblock, 1 = not free, in one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct PageblockBits(pub(crate) [AtomicU64; PAGEBLOCK_WORDS]);

/// The states of the two pageblocks of a 4 MiB pair.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct PageblockPair(pub(crate) AtomicU32);

impl SectionMeta {
    /// Returns the books of a section without frames.
    pub fn new() -> Self {
        Self {
            bits: array::from_fn(|_| PageblockBits(array::from_fn(|_| AtomicU64::new(0)))),
            pairs: array::from_fn(|_| PageblockPair(AtomicU32::new(0))),
            flags: array::from_fn(|_| AtomicU32::new(0)),
            entries: array::from_fn(|_| AtomicU32::new(0)),
        }
    }
}

impl SectionMeta {
    /// Returns the flags of a pageblock. Only the low 6 bits of `pageblock` count.
    #[inline]
    pub(crate) fn flags(&self, pageblock: usize) -> PageblockFlags {
        PageblockFlags(self.flags[pageblock % SECTION_PAGEBLOCKS].load(Ordering::Relaxed))
    }

    /// Returns the flags of a frame's pageblock. Only the low 15 bits of the frame's number count.
    #[inline]
    pub(crate) fn flags_of(&self, pfn: Pfn) -> PageblockFlags {
        self.flags(pfn.0 as usize / PAGEBLOCK_FRAMES)
    }

    /// Returns the entry of a frame. Only the low 15 bits of its number count.
    #[inline]
    pub(crate) fn entry_of(&self, pfn: Pfn) -> &AtomicU32 {
        &self.entries[pfn.0 as usize % SECTION_FRAMES]
    }
}

impl Default for SectionMeta {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<PageblockBits>() == 64);
    assert!(size_of::<PageblockPair>() == 4);
    // A frame takes five bytes at most, of which four are its entry.
    assert!(size_of::<SectionMeta>() <= SECTION_FRAMES * 5);
};

/// A pageblock of a section that has books.
#[doc(alias = "pageblock")]
#[derive(Clone, Copy)]
pub(crate) struct PageblockRef<'m> {
    meta: &'m SectionMeta,
    /// Index of the pageblock in the whole memory: frame number / 512.
    pub(crate) index: u64,
}

impl<'m> PageblockRef<'m> {
    /// Returns the pageblock of a frame of the section with these books.
    #[inline]
    pub(crate) fn of(meta: &'m SectionMeta, pfn: Pfn) -> Self {
        let index = pfn.0 / PAGEBLOCK_FRAMES as u64;
        Self { meta, index }
    }

    /// Returns the pageblock of this index, in the section with these books.
    #[inline]
    pub(crate) fn at(meta: &'m SectionMeta, index: u64) -> Self {
        Self { meta, index }
    }

    /// Returns the lock-free core of the pageblock.
    #[inline]
    pub(crate) fn core(self) -> Pageblock<'m> {
        let local = self.local();
        Pageblock {
            bits: &self.meta.bits[local],
            pair: &self.meta.pairs[local / 2],
            shift: (local as u32 & 1) * 16,
        }
    }

    /// Returns the index of the pageblock in its section, 0 to 63.
    #[inline]
    fn local(self) -> usize {
        self.index as usize % SECTION_PAGEBLOCKS
    }

    /// Returns the flags.
    #[inline]
    pub(crate) fn flags(self) -> PageblockFlags {
        self.meta.flags(self.local())
    }

    /// Returns the zone of the pageblock. It is fixed while a frame of the pageblock is reserved,
    /// allocated or cached, while a compaction has isolated it, or while the hot-plug lock is held:
    /// a pageblock changes its zone only by leaving.
    #[inline]
    pub(crate) fn zone(self) -> ZoneId {
        self.flags().zone()
    }

    /// Returns the kind of the pageblock. What may change it is in `pageblock/state`.
    /// A stale value puts a block into a pageblock of another kind, and does no other harm.
    #[doc(alias = "get_pageblock_migratetype")]
    #[inline]
    pub(crate) fn kind(self) -> PageblockKind {
        self.flags().kind()
    }

    /// Returns the migrate type of the pageblock.
    #[inline]
    pub(crate) fn migrate_type(self) -> MigrateType {
        self.kind().migrate_type
    }

    /// Changes the kind, if it is `from` now; returns whether it was.
    #[doc(alias = "set_pageblock_migratetype")]
    pub(crate) fn change_kind(self, from: PageblockKind, to: PageblockKind) -> bool {
        let now = self.flags();
        now.kind() == from && self.exchange_flags(now, now.with(to))
    }

    /// Replaces the flags, if they are `from` now; returns whether they were. `to` has the same
    /// zone: a pageblock changes its zone only by leaving.
    pub(crate) fn exchange_flags(self, from: PageblockFlags, to: PageblockFlags) -> bool {
        debug_assert_eq!(from.zone(), to.zone());
        // Relaxed: the kind is a policy. A stale one does no harm.
        self.meta.flags[self.local()]
            .compare_exchange(from.0, to.0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Sets whether frames that are freed into the pageblock are kept out of all caches.
    pub(crate) fn keep_out_of_caches(self, is_kept_out: bool) {
        let flags = &self.meta.flags[self.local()];
        // Relaxed: a free that runs at the same time may or may not put its frame into a cache.
        if is_kept_out {
            flags.fetch_or(PageblockFlags::KEPT_OUT, Ordering::Relaxed);
        } else {
            flags.fetch_and(!PageblockFlags::KEPT_OUT, Ordering::Relaxed);
        }
    }

    /// Gives the pageblock this kind, unless it is in the high-atomic reserve.
    #[inline]
    pub(crate) fn turn_to(self, kind: PageblockKind) {
        let now = self.kind();
        if now != kind && now.migrate_type != MigrateType::HighAtomic {
            self.change_kind(now, kind);
        }
    }

    /// Writes the zone before the pageblock joins. [`Pageblock::join`] publishes it.
    pub(crate) fn set_zone(self, zone: ZoneId, _: &Resizing<'_>) {
        let flags = PageblockFlags::new(
            zone,
            PageblockKind::of(MigrateType::default().within(zone), Order::ZERO),
        );
        self.meta.flags[self.local()].store(flags.0, Ordering::Relaxed);
    }

    /// Returns the first frame.
    #[inline]
    pub(crate) fn start(self) -> Pfn {
        Pfn(self.index * PAGEBLOCK_FRAMES as u64)
    }

    /// Returns the entry of a frame of the pageblock. The holder of the frame writes it; to other
    /// readers it is a hint.
    #[inline]
    pub(crate) fn entry(self, frame: u32) -> &'m AtomicU32 {
        &self.meta.entries[self.local() * PAGEBLOCK_FRAMES + frame as usize]
    }

    /// Returns the entries of the 64 frames of one word of bits.
    #[inline]
    pub(crate) fn entries_of_word(self, word: usize) -> &'m [AtomicU32; 64] {
        let words = self.meta.entries.as_chunks::<64>().0;
        &words[self.local() * PAGEBLOCK_WORDS + word % PAGEBLOCK_WORDS]
    }

    /// Returns the first frame of one word of bits.
    #[inline]
    pub(crate) fn start_of_word(self, word: usize) -> Pfn {
        Pfn(self.start().0 + word as u64 * 64)
    }

    /// Returns what the entry of a frame says.
    #[inline]
    pub(crate) fn entry_now(self, frame: u32) -> Entry {
        Entry(self.entry(frame).load(Ordering::Relaxed))
    }

    /// Returns the first pageblock from this one on, in the same section and before `end`, with a
    /// state that the filter looks for.
    #[inline]
    pub(crate) fn first_seen(self, end: u64, filter: StateFilter) -> Option<Self> {
        let first = self.local();
        let pairs = &self.meta.pairs;
        let at = |local: usize| {
            let index = self.index - first as u64 + local as u64;
            (index < end).then_some(Self { index, ..self })
        };
        if first % 2 == 1 && filter.has(pairs[first / 2].state(1)) {
            return at(first);
        }
        // Pairs behind `end` are left out: `at` would refuse their pageblocks.
        let behind = first + (end - self.index) as usize;
        let from = first.div_ceil(2);
        let pair = from + filter.first_of(pairs.get(from..behind.div_ceil(2))?)?;
        let is_upper = !filter.has(pairs[pair].state(0));
        at(pair * 2 + usize::from(is_upper))
    }

    /// Returns the upper pageblock of this one's pair.
    pub(crate) fn upper(self) -> Self {
        Self {
            index: self.index | 1,
            ..self
        }
    }
}

/// Yields the indices of the set bits of a mask, from the lowest on.
#[inline]
pub(crate) fn bits_of(mut mask: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let bit = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

/// A slot of the table of memory sections; its index is the section's number. Once filled it stays
/// filled. Zeroed memory is not a valid slot: write `SectionSlot::new()` into each.
#[derive(Debug)]
pub struct SectionSlot<'m> {
    meta: OnceOr<'m, SectionMeta>,
}

/// Returns the books that stand for those of sections without any. They say that no frame is
/// allocated or cached, and so they are never written.
#[cfg(not(loom))]
fn no_books() -> &'static SectionMeta {
    &NO_BOOKS
}

#[cfg(loom)]
fn no_books() -> &'static SectionMeta {
    unreachable!("no model has sections")
}

#[cfg(not(loom))]
static NO_BOOKS: SectionMeta = SectionMeta {
    bits: [const { PageblockBits([const { AtomicU64::new(0) }; PAGEBLOCK_WORDS]) };
        SECTION_PAGEBLOCKS],
    pairs: [const { PageblockPair(AtomicU32::new(0)) }; SECTION_PAGEBLOCKS / 2],
    flags: [const { AtomicU32::new(0) }; SECTION_PAGEBLOCKS],
    entries: [const { AtomicU32::new(0) }; SECTION_FRAMES],
};

impl<'m> SectionSlot<'m> {
    /// Returns an empty slot.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            meta: OnceOr::new(&NO_BOOKS),
        }
    }

    /// Returns an empty slot.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            meta: OnceOr::new(no_books()),
        }
    }

    /// Returns the books, if the slot is filled.
    #[inline]
    pub(crate) fn meta(&self) -> Option<&'m SectionMeta> {
        let meta = self.meta.get();
        (!ptr::eq(meta, no_books())).then_some(meta)
    }

    /// Returns the books, or those that stand for none, which say that all frames are free. It is
    /// for readers of an entry that stop if the frame is free.
    #[inline]
    pub(crate) fn meta_or_none(&self) -> &'m SectionMeta {
        self.meta.get()
    }

    /// Puts books into an empty slot; returns them if the slot is filled already.
    pub(crate) fn fill(&self, meta: &'m SectionMeta) -> Result<(), &'m SectionMeta> {
        self.meta.set(no_books(), meta)
    }
}

impl Default for SectionSlot<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// Why memory could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// The section's number is beyond the table, or the section has no books.
    NoSection {
        /// First frame concerned.
        at: Pfn,
    },
    /// The section lies at 16 TiB or above, where frame numbers have more than 32 bits.
    TooHigh {
        /// First frame concerned.
        at: Pfn,
    },
    /// The pageblock belongs to another zone.
    OtherZone {
        /// First frame of the pageblock.
        at: Pfn,
        /// The zone of the pageblock.
        zone: ZoneId,
    },
    /// The allocator manages the frame already.
    Present {
        /// The frame.
        at: Pfn,
    },
    /// The allocator has no node of this number.
    NoNode,
}

#[cfg(all(test, not(loom)))]
#[path = "section_meta_tests.rs"]
mod tests;
