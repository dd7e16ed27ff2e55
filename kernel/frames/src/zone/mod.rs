//! Zones: free counters, watermarks, reserves.

pub(crate) mod above;
pub(crate) mod cache_limit;
pub(crate) mod counter;
pub(crate) mod evict;
pub(crate) mod free_huge;
pub(crate) mod high_atomic;
pub(crate) mod hints;
pub(crate) mod places;
pub(crate) mod policy;
pub(crate) mod search;
pub(crate) mod sides;
pub(crate) mod watermark;
pub(crate) mod watermark_floor;

use crate::{
    base::{
        platform::Platform,
        resizing::Resizing,
        types::{Order, ZoneId, ZoneKind},
    },
    pageblock::{books::Books, flags::CACHES, section_meta::PAGEBLOCK_FRAMES},
    zone::{
        above::{AboveLow, ZoneBits},
        cache_limit::CacheLimit,
        free_huge::FreeHugeSeq,
        high_atomic::HighAtomic,
        places::PLACES,
        policy::Policy,
        sides::Sides,
        watermark::Watermarks,
        watermark_floor::{FLOORS, WatermarkFloor, floors},
    },
};
use core::array;
use tidemark_sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// One zone's counters and watermarks. Atomics only: zeroed memory is a valid value.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Zone {
    free: FreeCount,
    /// Watermarks, reserves, sizes: written under the hot-plug lock, read by anybody. A reader may
    /// see some of them before and some after a change; each is a policy number that is sane by
    /// itself.
    min: AtomicU64,
    low: AtomicU64,
    high: AtomicU64,
    reserve: [AtomicU64; 4],
    managed: AtomicU64,
    present: AtomicU64,
    /// Indices of the first pageblock and of the one after the last, holes included; grows only.
    first_pageblock: AtomicU64,
    end_pageblock: AtomicU64,
    cache_high: AtomicU32,
    cache_batch: AtomicU32,
    /// Orders above 0, as bits, of which CPUs may keep blocks.
    cached_orders: AtomicU32,
    /// Frames of the pageblocks in the high-atomic reserve, free or not. Whoever changes the kind
    /// of a pageblock changes it.
    high_atomic: AtomicU64,
    /// What follows from watermarks and reserves, so that the test of a watermark is one load and a
    /// comparison. Written with them.
    floors: [AtomicU32; FLOORS * ZoneKind::ALL.len()],
    pub(crate) free_huge: FreeHugeSeq,
    /// On which sides of its watermarks the zone is.
    pub(crate) sides: Sides,
    /// Pageblock at which the next compaction begins to look. Anybody who compacts writes it: a
    /// hint.
    compacted: AtomicU64,
}

/// Free frames, on a line of its own: every allocation and free that passes the caches writes it.
/// Exact at rest: each change of a pageblock's count knows by the same step whether the pageblock
/// was isolated, hence whether this counter had its frames. It may be below zero for a moment.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct FreeCount(AtomicI64);

/// The watermarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watermark {
    Min,
    Low,
    High,
}

/// How far down a request may take a zone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AllocFlags {
    pub(crate) floor: WatermarkFloor,
    /// Highest zone of the request: lower ones keep a reserve from it.
    pub(crate) highest: ZoneKind,
    pub(crate) high_atomic: HighAtomic,
}

impl AllocFlags {
    /// Returns what the fast path permits.
    #[inline]
    pub(crate) const fn fast(highest: ZoneKind) -> Self {
        Self {
            floor: WatermarkFloor::Low,
            highest,
            high_atomic: HighAtomic::Spared,
        }
    }

    /// Returns the place of the floor among a zone's.
    #[inline]
    pub(crate) const fn place(self) -> usize {
        (self.highest as usize * FLOORS + self.floor as usize) % (FLOORS * ZoneKind::ALL.len())
    }
}

impl Zone {
    /// Returns an empty zone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts free frames; returns at least 0.
    #[inline]
    pub(crate) fn free(&self) -> u64 {
        self.free.0.load(Ordering::Relaxed).max(0) as u64
    }

    #[inline]
    pub(crate) fn free_exact(&self) -> i64 {
        self.free.0.load(Ordering::Relaxed)
    }

    /// Returns the counter, for a look behind a move of the watermarks: SeqCst, so that either this
    /// sees a move of the counter or that one's look sees the watermarks.
    pub(crate) fn free_now(&self) -> i64 {
        self.free.0.load(Ordering::SeqCst)
    }

    /// Returns a watermark, for a look behind a move of the counter: SeqCst, as in
    /// [`Zone::free_now`].
    pub(crate) fn watermark_now(&self, watermark: Watermark) -> i64 {
        self.watermark_word(watermark).load(Ordering::SeqCst) as i64
    }

    /// Returns a floor, for a look behind a move of the counter: SeqCst, as in [`Zone::free_now`].
    /// On x86 that costs no more than a relaxed load.
    #[inline]
    pub(crate) fn floor_now(&self, alloc_flags: AllocFlags) -> i64 {
        self.floors[alloc_flags.place()]
            .load(Ordering::SeqCst)
            .into()
    }

    /// Adds free frames, and returns how many there were. Called by
    /// [`Zones::gain_returned`] only. SeqCst: see [`Zone::free_now`].
    #[inline]
    pub(crate) fn add_free(&self, frames: u32) -> i64 {
        self.free.0.fetch_add(i64::from(frames), Ordering::SeqCst)
    }

    /// Subtracts free frames, and returns how many there were. Called by [`Zones::lose`] only.
    /// SeqCst: see [`Zone::free_now`].
    #[inline]
    pub(crate) fn subtract_free(&self, frames: u32) -> i64 {
        self.free.0.fetch_sub(i64::from(frames), Ordering::SeqCst)
    }

    #[inline]
    fn watermark_word(&self, watermark: Watermark) -> &AtomicU64 {
        match watermark {
            Watermark::Min => &self.min,
            Watermark::Low => &self.low,
            Watermark::High => &self.high,
        }
    }

    #[inline]
    pub(crate) fn watermark(&self, watermark: Watermark) -> u64 {
        self.watermark_word(watermark).load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn reserve(&self, highest: ZoneKind) -> u64 {
        self.reserve[highest as usize].load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn managed(&self) -> u64 {
        self.managed.load(Ordering::Relaxed)
    }

    pub(crate) fn present(&self) -> u64 {
        self.present.load(Ordering::Relaxed)
    }

    pub(crate) fn is_populated(&self) -> bool {
        self.managed() > 0
    }

    /// Returns whether a request of this order leaves the zone above its floor, if `free` frames
    /// are free.
    #[inline]
    pub(crate) fn watermark_ok_with(
        &self,
        free: u64,
        order: Order,
        alloc_flags: AllocFlags,
    ) -> bool {
        free > self.kept(alloc_flags) + (order.frames() - 1)
    }

    /// Counts the frames that the zone keeps from a request, 0 if it may use everything.
    #[inline]
    fn kept(&self, alloc_flags: AllocFlags) -> u64 {
        self.floor(alloc_flags) as u64
    }

    /// Returns what the zone keeps, for comparison with the counter as it is, which may be below
    /// zero.
    #[inline]
    pub(crate) fn floor(&self, alloc_flags: AllocFlags) -> i64 {
        self.floor_at(alloc_flags.place())
    }

    /// Returns the floor at a place that [`AllocFlags::place`] says.
    #[inline]
    pub(crate) fn floor_at(&self, place: usize) -> i64 {
        // No place is out of range; the mask says so to the compiler.
        self.floors[place % (FLOORS * ZoneKind::ALL.len())]
            .load(Ordering::Relaxed)
            .into()
    }

    /// Returns the highest watermark that anybody follows: HIGH and the largest reserve, as
    /// reserves grow with the highest zone of the request. A zone that stays above it crosses
    /// neither HIGH nor any of the fast path's floors, nor LOW.
    #[inline]
    pub(crate) fn highest_followed(&self) -> i64 {
        self.floor_now(AllocFlags {
            floor: WatermarkFloor::High,
            ..AllocFlags::fast(ZoneKind::Movable)
        })
    }

    pub(crate) fn compacted(&self) -> u64 {
        self.compacted.load(Ordering::Relaxed)
    }

    pub(crate) fn set_compacted(&self, pageblock: u64) {
        self.compacted.store(pageblock, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn high_atomic(&self) -> u64 {
        self.high_atomic.load(Ordering::Relaxed)
    }

    /// Counts a pageblock more in the reserve, if it may still grow; returns whether.
    pub(crate) fn grow_high_atomic(&self) -> bool {
        let pageblock = PAGEBLOCK_FRAMES as u64;
        let most = match self.managed() / 100 {
            most if most < pageblock => 0,
            most => most.next_multiple_of(pageblock),
        };
        self.high_atomic
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |frames| {
                (frames + pageblock <= most).then_some(frames + pageblock)
            })
            .is_ok()
    }

    /// Counts a pageblock less in the reserve.
    pub(crate) fn shrink_high_atomic(&self) {
        let pageblock = PAGEBLOCK_FRAMES as u64;
        self.high_atomic.fetch_sub(pageblock, Ordering::Relaxed);
    }

    /// Counts the single frames that a request may take before the zone is at its watermark.
    pub(crate) fn above(&self, alloc_flags: AllocFlags) -> u64 {
        let keeps = self.kept(alloc_flags) + self.high_atomic();
        self.free().saturating_sub(keeps)
    }

    #[inline]
    pub(crate) fn cache_high(&self) -> u32 {
        self.cache_high.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn cache_batch(&self) -> u32 {
        self.cache_batch.load(Ordering::Relaxed)
    }

    /// Returns whether CPUs may keep blocks of an order above 0.
    #[inline]
    pub(crate) fn caches_order(&self, order: Order) -> bool {
        self.cached_orders.load(Ordering::Relaxed) >> order.get() & 1 != 0
    }

    /// Indices of the first pageblock and of the one after the last.
    pub(crate) fn span(&self) -> (u64, u64) {
        (
            self.first_pageblock.load(Ordering::Relaxed),
            self.end_pageblock.load(Ordering::Relaxed),
        )
    }

    /// Makes the span cover the pageblocks from `first` up to `end`.
    pub(crate) fn cover(&self, first: u64, end: u64, _: &Resizing<'_>) {
        let (old_first, old_end) = self.span();
        let is_new = old_first == old_end;
        if is_new || first < old_first {
            self.first_pageblock.store(first, Ordering::Relaxed);
        }
        if is_new || end > old_end {
            self.end_pageblock.store(end, Ordering::Relaxed);
        }
    }

    /// Counts frames that came.
    pub(crate) fn grow(&self, frames: u64, _: &Resizing<'_>) {
        self.managed.fetch_add(frames, Ordering::Relaxed);
        self.present.fetch_add(frames, Ordering::Relaxed);
    }

    /// Counts frames that left.
    pub(crate) fn shrink(&self, frames: u64, _: &Resizing<'_>) {
        self.managed.fetch_sub(frames, Ordering::Relaxed);
        self.present.fetch_sub(frames, Ordering::Relaxed);
    }

    /// Stores new watermarks, reserves and cache sizes; the caller makes what follows the
    /// watermarks follow them. SeqCst: see [`Zone::free_now`].
    pub(crate) fn set_policy(&self, policy: &Policy, _: &Resizing<'_>) {
        self.min.store(policy.watermarks.min, Ordering::Relaxed);
        self.low.store(policy.watermarks.low, Ordering::SeqCst);
        self.high.store(policy.watermarks.high, Ordering::SeqCst);
        for (ours, new) in self.reserve.iter().zip(policy.reserve) {
            ours.store(new, Ordering::Relaxed);
        }
        let floors = floors(&policy.watermarks, &policy.reserve);
        for (ours, new) in self.floors.iter().zip(floors.as_flattened()) {
            ours.store(*new, Ordering::SeqCst);
        }
        self.cache_batch.store(policy.batch, Ordering::Relaxed);
        self.cache_high.store(policy.cache_high, Ordering::Relaxed);
        self.cached_orders
            .store(policy.cached_orders, Ordering::Relaxed);
    }

    /// Returns the floors as they are stored, by highest zone, then by floor.
    pub(crate) fn floors(&self) -> [u32; FLOORS * ZoneKind::ALL.len()] {
        self.floors
            .each_ref()
            .map(|floor| floor.load(Ordering::Relaxed))
    }

    /// Changes one floor alone, as nothing else does; returns what it was.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn set_floor(&self, place: usize, floor: u32) -> u32 {
        self.floors[place].swap(floor, Ordering::SeqCst)
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy {
            watermarks: Watermarks {
                min: self.watermark(Watermark::Min),
                low: self.watermark(Watermark::Low),
                high: self.watermark(Watermark::High),
            },
            reserve: ZoneKind::ALL.map(|kind| self.reserve(kind)),
            batch: self.cache_batch(),
            cache_high: self.cache_high(),
            cached_orders: self.cached_orders.load(Ordering::Relaxed),
        }
    }
}

/// All zones, with what follows from their counters and watermarks, over the books of memory.
#[repr(C)]
pub struct Zones<'m, P> {
    books: Books<'m>,
    zones: &'m [Zone],
    /// By number of the cache: how much a CPU may keep in it.
    cache_limits: [CacheLimit; CACHES],
    /// By place of the cache: how much a CPU may keep in it of larger blocks.
    block_cache_limits: [CacheLimit; PLACES],
    above_low: AboveLow,
    platform: P,
}

impl<'m, P: Platform> Zones<'m, P> {
    pub(crate) fn new(platform: P, books: Books<'m>, zones: &'m [Zone]) -> Self {
        Self {
            books,
            zones,
            cache_limits: array::from_fn(|_| CacheLimit::new()),
            block_cache_limits: array::from_fn(|_| CacheLimit::new()),
            above_low: AboveLow::new(),
            platform,
        }
    }

    #[inline]
    pub(crate) fn platform(&self) -> &P {
        &self.platform
    }

    #[inline]
    pub(crate) fn books(&self) -> &Books<'m> {
        &self.books
    }

    /// Returns every zone that the storage has room for, by its number.
    #[inline]
    pub(crate) fn all(&self) -> &'m [Zone] {
        self.zones
    }

    /// Returns what a CPU may keep in a cache of single frames, by the cache's number; nothing for
    /// a number that is none.
    #[inline]
    pub(crate) fn cache_limit(&self, cache: usize) -> Option<&CacheLimit> {
        self.cache_limits.get(cache)
    }

    /// Returns what a CPU may keep in a cache of larger blocks, by its place.
    #[inline]
    pub(crate) fn block_cache_limit(&self, place: usize) -> &CacheLimit {
        &self.block_cache_limits[place]
    }

    /// Returns which zones are above LOW for requests up to this one.
    #[inline]
    pub(crate) fn above_low(&self, highest: ZoneKind) -> ZoneBits {
        self.above_low.zones(highest)
    }

    /// Says of a zone the opposite, as nothing does that is right.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn flip_above_low(&self, highest: ZoneKind, zone: ZoneId) {
        self.above_low.flip(highest, zone);
    }

    #[inline]
    pub(crate) fn zone(&self, zone: ZoneId) -> &'m Zone {
        &self.zones[zone.index()]
    }
}
