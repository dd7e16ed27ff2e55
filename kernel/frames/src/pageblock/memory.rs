//! The memory that the allocator keeps its books in; the caller hands it in.

use crate::{
    base::{
        owner::Entry,
        types::{Order, Pfn, ZoneId},
    },
    pageblock::{
        area::{Area, Sought},
        home::Home,
        migrate_type::{Kind, Mobility},
    },
};
use core::{array, ptr};
use tidemark_sync::{
    OnceOr,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Frames in a block of 128 MiB.
pub const BLOCK_FRAMES: usize = 1 << 15;
pub(crate) const AREA_FRAMES: usize = 512;
pub(crate) const AREA_WORDS: usize = AREA_FRAMES / 64;
pub(crate) const BLOCK_AREAS: usize = BLOCK_FRAMES / AREA_FRAMES;

/// The books of one block of 128 MiB: bits, area states, the areas' homes and the frame table;
/// about 132 KiB. It consists of atomics only: zeroed memory is a valid value, and means that none
/// of its frames are the allocator's yet.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct BlockMeta {
    pub(crate) bits: [AreaBits; BLOCK_AREAS],
    pub(crate) pairs: [AreaPair; BLOCK_AREAS / 2],
    /// Of each area; see [`Home`].
    pub(crate) homes: [AtomicU32; BLOCK_AREAS],
    pub(crate) entries: [AtomicU32; BLOCK_FRAMES],
}

/// One bit a frame of a 2 MiB area, 1 = not free: one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct AreaBits(pub(crate) [AtomicU64; AREA_WORDS]);

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
            homes: array::from_fn(|_| AtomicU32::new(0)),
            entries: array::from_fn(|_| AtomicU32::new(0)),
        }
    }
}

impl BlockMeta {
    /// Returns the zone and kind of an area, and where its single frames are cached; only the low 6
    /// bits of `area` count.
    #[inline]
    pub(crate) fn home(&self, area: usize) -> Home {
        Home(self.homes[area % BLOCK_AREAS].load(Ordering::Relaxed))
    }

    /// Returns the home of a frame; only the low 15 bits of its number count.
    #[inline]
    pub(crate) fn home_of(&self, pfn: Pfn) -> Home {
        self.home(pfn.0 as usize / AREA_FRAMES)
    }

    /// Returns the entry of a frame; only the low 15 bits of its number count.
    #[inline]
    pub(crate) fn entry_of(&self, pfn: Pfn) -> &AtomicU32 {
        &self.entries[pfn.0 as usize % BLOCK_FRAMES]
    }
}

impl Default for BlockMeta {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<AreaBits>() == 64);
    assert!(size_of::<AreaPair>() == 4);
    // Five bytes a frame at most: four of them are its entry.
    assert!(size_of::<BlockMeta>() <= BLOCK_FRAMES * 5);
};

/// An area of a block that has books.
#[derive(Clone, Copy)]
pub(crate) struct AreaRef<'m> {
    meta: &'m BlockMeta,
    /// Index of the area in the whole of memory: frame number / 512.
    pub(crate) index: u64,
}

impl<'m> AreaRef<'m> {
    /// Returns the area of a frame of the block with these books.
    #[inline]
    pub(crate) fn of(meta: &'m BlockMeta, pfn: Pfn) -> Self {
        let index = pfn.0 / AREA_FRAMES as u64;
        Self { meta, index }
    }

    /// Returns the area of this index, in the block with these books.
    #[inline]
    pub(crate) fn at(meta: &'m BlockMeta, index: u64) -> Self {
        Self { meta, index }
    }

    /// Returns the lock-free core of the area.
    #[inline]
    pub(crate) fn core(self) -> Area<'m> {
        let local = self.local();
        Area {
            bits: &self.meta.bits[local],
            pair: &self.meta.pairs[local / 2],
            shift: (local as u32 & 1) * 16,
        }
    }

    /// Returns the index of the area in its block, 0 to 63.
    #[inline]
    fn local(self) -> usize {
        self.index as usize % BLOCK_AREAS
    }

    /// Returns where its single frames are cached, and whose it is.
    #[inline]
    pub(crate) fn home(self) -> Home {
        self.meta.home(self.local())
    }

    /// Returns the zone that has the area. Fixed while a frame of it is reserved, allocated or
    /// cached, or while hot-plug is locked: an area changes zones only by leaving.
    #[inline]
    pub(crate) fn zone(self) -> ZoneId {
        self.home().zone()
    }

    /// Returns the kind of blocks that the area is for. Anybody who takes of it may change it; a
    /// stale look puts a block into the wrong area, nothing worse.
    #[inline]
    pub(crate) fn kind(self) -> Kind {
        self.home().kind()
    }

    /// Returns the mobility of its blocks.
    #[inline]
    pub(crate) fn mobility(self) -> Mobility {
        self.kind().mobility
    }

    /// Changes the kind, if it is `from` now; returns whether it was.
    pub(crate) fn change_kind(self, from: Kind, to: Kind) -> bool {
        let now = self.home();
        now.kind() == from && self.exchange_home(now, now.with(to))
    }

    /// Replaces zone and kind, if they are `from` now; returns whether they were. `to` has the
    /// same zone: an area changes zones only by leaving.
    pub(crate) fn exchange_home(self, from: Home, to: Home) -> bool {
        debug_assert_eq!(from.zone(), to.zone());
        // Relaxed: a policy, as above.
        self.meta.homes[self.local()]
            .compare_exchange(from.0, to.0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Keeps frames that are freed into the area out of all caches, or no more.
    pub(crate) fn keep_out_of_caches(self, is_kept_out: bool) {
        let home = &self.meta.homes[self.local()];
        // Relaxed: a free that runs at this moment may go either way.
        if is_kept_out {
            home.fetch_or(Home::KEPT_OUT, Ordering::Relaxed);
        } else {
            home.fetch_and(!Home::KEPT_OUT, Ordering::Relaxed);
        }
    }

    /// Makes it an area for such blocks, unless it is kept in reserve.
    #[inline]
    pub(crate) fn turn_to(self, kind: Kind) {
        let now = self.kind();
        if now != kind && now.mobility != Mobility::HighAtomic {
            self.change_kind(now, kind);
        }
    }

    /// Writes the zone before the area joins; published by [`Area::join`].
    pub(crate) fn set_zone(self, zone: ZoneId) {
        let home = Home::new(
            zone,
            Kind::of(Mobility::default().within(zone), Order::ZERO),
        );
        self.meta.homes[self.local()].store(home.0, Ordering::Relaxed);
    }

    /// Returns the first frame.
    #[inline]
    pub(crate) fn start(self) -> Pfn {
        Pfn(self.index * AREA_FRAMES as u64)
    }

    /// Returns the entry of a frame of the area. Written by whoever holds the frame; anybody may
    /// look, and gets a hint.
    #[inline]
    pub(crate) fn entry(self, frame: u32) -> &'m AtomicU32 {
        &self.meta.entries[self.local() * AREA_FRAMES + frame as usize]
    }

    /// Returns the entries of the 64 frames of one word of bits.
    #[inline]
    pub(crate) fn entries_of_word(self, word: usize) -> &'m [AtomicU32; 64] {
        let words = self.meta.entries.as_chunks::<64>().0;
        &words[self.local() * AREA_WORDS + word % AREA_WORDS]
    }

    /// Returns first frame of one word of bits.
    #[inline]
    pub(crate) fn start_of_word(self, word: usize) -> Pfn {
        Pfn(self.start().0 + word as u64 * 64)
    }

    /// Returns what the entry of a frame says.
    #[inline]
    pub(crate) fn entry_now(self, frame: u32) -> Entry {
        Entry(self.entry(frame).load(Ordering::Relaxed))
    }

    /// Returns the first area from this one on, in the same block and before `end`, in a state that
    /// is looked for.
    #[inline]
    pub(crate) fn first_seen(self, end: u64, sought: Sought) -> Option<Self> {
        let first = self.local();
        let pairs = &self.meta.pairs;
        let at = |local: usize| {
            let index = self.index - first as u64 + local as u64;
            (index < end).then_some(Self { index, ..self })
        };
        if first % 2 == 1 && sought.has(pairs[first / 2].state(1)) {
            return at(first);
        }
        // A pair behind `end` is not looked at: `at` would refuse what is seen there.
        let behind = first + (end - self.index) as usize;
        let from = first.div_ceil(2);
        let pair = from + sought.first_of(pairs.get(from..behind.div_ceil(2))?)?;
        let is_upper = !sought.has(pairs[pair].state(0));
        at(pair * 2 + usize::from(is_upper))
    }

    /// Returns the other area of the pair, if this is the lower one.
    pub(crate) fn upper(self) -> Self {
        Self {
            index: self.index | 1,
            ..self
        }
    }
}

/// Indices of the set bits of a mask, from the lowest on.
#[inline]
pub(crate) fn bits_of(mut mask: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let bit = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

/// A place in the table of blocks; index = block number. Once filled it stays so. Not valid when
/// zeroed: write `BlockSlot::new()` into each.
#[derive(Debug)]
pub struct BlockSlot<'m> {
    meta: OnceOr<'m, BlockMeta>,
}

/// Returns the books of blocks that have none: no frame is allocated or cached, and so nothing is
/// ever written.
#[cfg(not(loom))]
fn no_books() -> &'static BlockMeta {
    &NO_BOOKS
}

#[cfg(loom)]
fn no_books() -> &'static BlockMeta {
    unreachable!("no model has blocks")
}

#[cfg(not(loom))]
static NO_BOOKS: BlockMeta = BlockMeta {
    bits: [const { AreaBits([const { AtomicU64::new(0) }; AREA_WORDS]) }; BLOCK_AREAS],
    pairs: [const { AreaPair(AtomicU32::new(0)) }; BLOCK_AREAS / 2],
    homes: [const { AtomicU32::new(0) }; BLOCK_AREAS],
    entries: [const { AtomicU32::new(0) }; BLOCK_FRAMES],
};

impl<'m> BlockSlot<'m> {
    /// Returns an empty place.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            meta: OnceOr::new(&NO_BOOKS),
        }
    }

    /// Returns an empty place.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            meta: OnceOr::new(no_books()),
        }
    }

    /// Returns the books, if there are some.
    #[inline]
    pub(crate) fn meta(&self) -> Option<&'m BlockMeta> {
        let meta = self.meta.get();
        (!ptr::eq(meta, no_books())).then_some(meta)
    }

    /// Returns the books, or those of no block, whose frames are all free: for who reads an entry,
    /// and goes no further unless that says more.
    #[inline]
    pub(crate) fn meta_or_none(&self) -> &'m BlockMeta {
        self.meta.get()
    }

    /// Puts books into an empty place.
    pub(crate) fn fill(&self, meta: &'m BlockMeta) -> Result<(), &'m BlockMeta> {
        self.meta.set(no_books(), meta)
    }
}

impl Default for BlockSlot<'_> {
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
    /// The block lies at 16 TiB or above, where frame numbers have more than 32 bits.
    TooHigh {
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

#[cfg(all(test, not(loom)))]
#[path = "memory_tests.rs"]
mod tests;
