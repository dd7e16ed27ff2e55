//! Zones: free counters, watermarks and reserves, and what follows from them.
//!
//! A table in `zone/watermark_floor` names each place where a watermark is tested.

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

/// One zone's counters and watermarks. They are atomics only, so zeroed memory is a valid value: an
/// empty zone.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Zone {
    free: FreeCount,
    /// Watermarks, reserves and sizes are written under the hot-plug lock and read without it. A
    /// reader may see some of them before and some after a change; each is a valid policy by
    /// itself.
    min: AtomicU64,
    low: AtomicU64,
    high: AtomicU64,
    reserve: [AtomicU64; 4],
    managed: AtomicU64,
    present: AtomicU64,
    /// Indices of the first pageblock and of the one after the last, holes included. The span only
    /// grows.
    first_pageblock: AtomicU64,
    end_pageblock: AtomicU64,
    cache_high: AtomicU32,
    cache_batch: AtomicU32,
    /// The orders above 0, as bits, that CPUs may cache.
    cached_orders: AtomicU32,
    /// Frames of the pageblocks in the high-atomic reserve, free or not. The code that changes a
    /// pageblock's kind changes this.
    high_atomic: AtomicU64,
    /// Watermark floors with lowmem reserves, so that the test of a watermark is one load and a
    /// comparison. They are written with the watermarks.
    floors: [AtomicU32; FLOORS * ZoneKind::ALL.len()],
    pub(crate) free_huge: FreeHugeSeq,
    /// The sides of its watermarks on which the zone is.
    pub(crate) sides: Sides,
    /// Pageblock at which the next compaction begins to look. Every compaction writes it, so it is
    /// a hint.
    compacted: AtomicU64,
}

/// The zone's counter of free frames, on a line of its own: every allocation and free that bypasses
/// the caches writes it. It is exact at rest. The step that changes a pageblock's count also says
/// whether the pageblock was isolated, and so whether this counter had its frames. The counter may
/// be below zero for a moment.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct FreeCount(AtomicI64);

/// A watermark of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watermark {
    Min,
    Low,
    High,
}

/// How far down a request may take a zone, and whether it may use the high-atomic reserve.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AllocFlags {
    pub(crate) floor: WatermarkFloor,
    /// Highest zone of the request. Lower zones keep a lowmem reserve from it.
    pub(crate) highest: ZoneKind,
    pub(crate) high_atomic: HighAtomic,
}

impl AllocFlags {
    /// Returns the flags of the fast path.
    #[inline]
    pub(crate) const fn fast(highest: ZoneKind) -> Self {
        Self {
            floor: WatermarkFloor::Low,
            highest,
            high_atomic: HighAtomic::Spared,
        }
    }

    /// Returns the index of the floor in a zone's table of floors.
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

    /// Returns the number of free frames, at least 0.
    #[inline]
    pub(crate) fn free(&self) -> u64 {
        self.free.0.load(Ordering::Relaxed).max(0) as u64
    }

    #[inline]
    pub(crate) fn free_exact(&self) -> i64 {
        self.free.0.load(Ordering::Relaxed)
    }

    /// Returns the counter, for a look after a move of the watermarks. SeqCst: either this load
    /// sees a move of the counter, or the look after that move sees the new watermarks.
    pub(crate) fn free_now(&self) -> i64 {
        self.free.0.load(Ordering::SeqCst)
    }

    /// Returns a watermark, for a look after a move of the counter. SeqCst: see [`Zone::free_now`].
    pub(crate) fn watermark_now(&self, watermark: Watermark) -> i64 {
        self.watermark_word(watermark).load(Ordering::SeqCst) as i64
    }

    /// Returns a floor, for a look after a move of the counter. SeqCst: see [`Zone::free_now`]. On
    /// x86 that costs no more than a relaxed load.
    #[inline]
    pub(crate) fn floor_now(&self, alloc_flags: AllocFlags) -> i64 {
        self.floors[alloc_flags.place()]
            .load(Ordering::SeqCst)
            .into()
    }

    /// Adds free frames, and returns the counter before. Only [`Zones::gain_returned`] calls it.
    /// SeqCst: see [`Zone::free_now`].
    #[inline]
    pub(crate) fn add_free(&self, frames: u32) -> i64 {
        self.free.0.fetch_add(i64::from(frames), Ordering::SeqCst)
    }

    /// Subtracts free frames, and returns the counter before. Only [`Zones::lose`] calls it.
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

    /// Returns whether a request of this order leaves the zone no lower than its floor, if `free`
    /// frames are free.
    #[doc(alias = "__zone_watermark_ok")]
    #[inline]
    pub(crate) fn watermark_ok_with(
        &self,
        free: u64,
        order: Order,
        alloc_flags: AllocFlags,
    ) -> bool {
        free > self.kept(alloc_flags) + (order.frames() - 1)
    }

    /// Returns how many frames the zone keeps from a request; 0 if it may use everything.
    #[inline]
    fn kept(&self, alloc_flags: AllocFlags) -> u64 {
        self.floor(alloc_flags) as u64
    }

    /// Returns how many frames the zone keeps from a request, as a signed number for comparison
    /// with the counter, which may be below zero.
    #[inline]
    pub(crate) fn floor(&self, alloc_flags: AllocFlags) -> i64 {
        self.floor_at(alloc_flags.place())
    }

    /// Returns the floor at an index from [`AllocFlags::place`].
    #[inline]
    pub(crate) fn floor_at(&self, place: usize) -> i64 {
        // No index is out of range; the mask says so to the compiler.
        self.floors[place % (FLOORS * ZoneKind::ALL.len())]
            .load(Ordering::Relaxed)
            .into()
    }

    /// Returns the highest of the watermarks and floors that `sides` follows: HIGH plus the largest
    /// lowmem reserve, which is that of the highest zone. A zone that stays above it crosses none
    /// of them.
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

    /// Adds a pageblock to the size of the high-atomic reserve, if that may grow; returns whether
    /// it did.
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

    /// Subtracts a pageblock from the size of the high-atomic reserve.
    pub(crate) fn shrink_high_atomic(&self) {
        let pageblock = PAGEBLOCK_FRAMES as u64;
        self.high_atomic.fetch_sub(pageblock, Ordering::Relaxed);
    }

    /// Returns how many single frames a request may take before the zone is at its floor.
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

    /// Returns whether CPUs may cache blocks of an order above 0.
    #[inline]
    pub(crate) fn caches_order(&self, order: Order) -> bool {
        self.cached_orders.load(Ordering::Relaxed) >> order.get() & 1 != 0
    }

    /// Returns the indices of the first pageblock and of the one after the last.
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

    /// Adds frames to the zone's sizes.
    pub(crate) fn grow(&self, frames: u64, _: &Resizing<'_>) {
        self.managed.fetch_add(frames, Ordering::Relaxed);
        self.present.fetch_add(frames, Ordering::Relaxed);
    }

    /// Subtracts frames from the zone's sizes.
    pub(crate) fn shrink(&self, frames: u64, _: &Resizing<'_>) {
        self.managed.fetch_sub(frames, Ordering::Relaxed);
        self.present.fetch_sub(frames, Ordering::Relaxed);
    }

    /// Stores new watermarks, reserves and cache sizes. The caller then sets the cache limits and
    /// calls [`Zones::follow_watermarks`]. SeqCst: see [`Zone::free_now`].
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

    /// Returns the stored floors, ordered by highest zone, then by floor.
    pub(crate) fn floors(&self) -> [u32; FLOORS * ZoneKind::ALL.len()] {
        self.floors
            .each_ref()
            .map(|floor| floor.load(Ordering::Relaxed))
    }

    /// Changes one floor alone, which only a test does; returns the old one.
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

/// All zones, the cache limits and hints that follow from their counters and watermarks, and the
/// memory's books.
#[repr(C)]
pub struct Zones<'m, P> {
    books: Books<'m>,
    zones: &'m [Zone],
    /// The limits of the caches of single frames, by the cache's number.
    cache_limits: [CacheLimit; CACHES],
    /// The limits of the caches of larger blocks, by the cache's place.
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

    /// Returns every zone, populated or not, by its number.
    #[inline]
    pub(crate) fn all(&self) -> &'m [Zone] {
        self.zones
    }

    /// Returns the limit of a cache of single frames, by its number; `None` if no cache has that
    /// number.
    #[inline]
    pub(crate) fn cache_limit(&self, cache: usize) -> Option<&CacheLimit> {
        self.cache_limits.get(cache)
    }

    /// Returns the limit of a cache of larger blocks, by its place.
    #[inline]
    pub(crate) fn block_cache_limit(&self, place: usize) -> &CacheLimit {
        &self.block_cache_limits[place]
    }

    /// Returns the zones that are above LOW for requests with this highest zone.
    #[inline]
    pub(crate) fn above_low(&self, highest: ZoneKind) -> ZoneBits {
        self.above_low.zones(highest)
    }

    /// Flips a zone's bit although it has crossed no floor.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn flip_above_low(&self, highest: ZoneKind, zone: ZoneId) {
        self.above_low.flip(highest, zone);
    }

    #[inline]
    pub(crate) fn zone(&self, zone: ZoneId) -> &'m Zone {
        &self.zones[zone.index()]
    }
}
