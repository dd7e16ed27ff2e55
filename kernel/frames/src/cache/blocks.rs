//! Per-CPU caches of larger blocks, for the orders that are requested often.
//!
//! They follow the protocol of the caches of single frames, and share their gate: see `pcp`. They
//! are small, and a zone has none for orders that would take too much of it. A cached block keeps
//! its bits, or the state of its pageblocks, as an allocated one does. Its entry says *cached*.

use crate::{
    base::{
        handle::FrameHandle,
        mutant::{self, Mutant},
        owner::Entry,
        pin::Pinned,
        platform::step,
        types::{Order, Pfn, ZoneId},
    },
    cache::{
        Caches,
        cpu::{PerCpu, ThisCpu},
        events::{CONTEXTS, Counter, Counts},
        inside::Inside,
        stack::FrameStack,
    },
    pageblock::{
        flags::PageblockFlags,
        migrate_type::MigrateType,
        section_meta::{PAGEBLOCK_FRAMES, PageblockRef, SectionMeta},
    },
    zone::{
        Watermark,
        places::{CACHED_ORDERS, ROOM, SLOTS, has_slot, most, place_of},
    },
};
use core::{array, ops::Deref};
use tidemark_sync::atomic::Ordering;

/// The most blocks of one refill, all of one pageblock.
const BLOCKS_AT_ONCE: u64 = 8;

/// Blocks that the hot path took out of the cache at one place, by kind of context. They are
/// counted inside gated sections.
#[derive(Debug)]
pub(crate) struct TakeCounts(pub(crate) [Counter; CONTEXTS]);

impl TakeCounts {
    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| Counter::new()))
    }
}

/// Returns the counts of each order that has caches, from the places of one zone.
pub(crate) fn taken(places: &[TakeCounts]) -> impl Iterator<Item = (Order, [u64; CONTEXTS])> + '_ {
    let slots = places.chunks_exact(SLOTS);
    slots
        .flat_map(|slots| CACHED_ORDERS.into_iter().zip(slots))
        .map(|(order, taken)| (order, taken.0.each_ref().map(Counter::get)))
}

/// Blocks of one order, by their first frames, on a cache line of their own.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct BlockCache(FrameStack<ROOM>);

impl BlockCache {
    pub(crate) fn new() -> Self {
        Self(FrameStack::new())
    }
}

impl Deref for BlockCache {
    type Target = FrameStack<ROOM>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Returns the caches at the places of one zone, with their orders.
pub(crate) fn with_orders(places: &[BlockCache]) -> impl Iterator<Item = (Order, &BlockCache)> {
    let slots = places.chunks_exact(SLOTS);
    slots.flat_map(|slots| CACHED_ORDERS.into_iter().zip(slots))
}

/// Returns every block cached at the places of one zone, with its order.
pub(crate) fn each(places: &[BlockCache]) -> impl Iterator<Item = (Order, Pfn)> + '_ {
    with_orders(places).flat_map(|(order, cache)| cache.iter().map(move |pfn| (order, pfn)))
}

impl<'m, P: PerCpu> Caches<'m, P> {
    /// Takes a larger block from this CPU's cache of a zone. An empty cache of an order below 9 is
    /// filled first. Returns `None` if there is no such cache, it cannot be used now, or the zone
    /// has nothing for it.
    #[inline]
    pub(crate) fn take_cached_block(
        &self,
        zone: ZoneId,
        order: Order,
        migrate_type: MigrateType,
        cpu: ThisCpu<'_>,
    ) -> Option<Pfn> {
        if !has_slot(order) {
            return None;
        }
        let cache = &cpu.blocks[place_of(PageblockFlags::cache_of(zone, migrate_type), order)];
        self.take_from(zone, order, cache, cpu, |_| {
            if most(order) > 1 {
                self.refill_blocks(zone, order, migrate_type, cache, cpu);
            }
        })
    }

    /// Fills an empty cache with blocks of one pageblock, but with no more frames than the zone has
    /// above HIGH: cached larger blocks are of no use to smaller requests.
    #[inline(never)]
    fn refill_blocks(
        &self,
        zone_id: ZoneId,
        order: Order,
        migrate_type: MigrateType,
        cache: &BlockCache,
        cpu: ThisCpu<'_>,
    ) {
        let zone = self.zones.zone(zone_id);
        let above_high = zone.free().saturating_sub(zone.watermark(Watermark::High));
        let want = BLOCKS_AT_ONCE.min(above_high >> order.get()) as u32;
        if want == 0 || !zone.caches_order(order) {
            return;
        }
        let came = self.zones.take_runs(
            zone_id,
            order,
            migrate_type,
            want,
            &cpu.hints,
            |pageblock, frame| {
                step!(self);
                pageblock
                    .entry(frame)
                    .store(Entry::cached(order).0, Ordering::Relaxed);
                cache.push(Pfn(pageblock.start().0 + u64::from(frame)));
            },
        );
        let events = &cpu.events[zone_id.index()];
        events.refills.add(1);
        events.refilled.add(u64::from(came) << order.get());
    }

    /// Frees a larger block into this CPU's cache, if it has one with room, as `free_single` does.
    /// Reports a number that is no frame of the allocator. Any context.
    #[inline(never)]
    pub(crate) fn free_block(&self, handle: FrameHandle) {
        let (pfn, order) = (handle.pfn(), handle.order());
        let Some(meta) = self.books().books_of(pfn) else {
            return self.report_not_allocated(handle, Entry::ABSENT);
        };
        let entry_of = meta.entry_of(pfn);
        let entry = Entry(entry_of.load(Ordering::Relaxed));
        if !entry.is_allocated(order) {
            return self.report_not_allocated(handle, entry);
        }
        if !self.claim_for_free(entry_of, order) {
            return self.report_late(pfn, order);
        }
        // An order 10 lies in two pageblocks. They are in one zone, by `take_pair`, and a taken
        // pageblock is not compacted. So the flags of the lower one are enough.
        let Some(number) = meta.flags_of(pfn).cached_in() else {
            return self.free_uncached_block(handle, meta);
        };
        let place = place_of(number, order);
        let cache_limit = self.zones.block_cache_limit(place);
        let tested_early =
            mutant::is(Mutant::IsolationTestedBeforeFlag).then(|| self.has_room_for_block(place));
        step!(self);
        let Some(inside) = self.enter() else {
            return self.free_uncached_block(handle, meta);
        };
        let cache = &self.caches_of(&inside).blocks[place];
        let block = (pfn, order);
        self.put_into(
            inside,
            (cache, cache_limit),
            block,
            entry_of,
            tested_early,
            |inside| {
                self.leave_then_free(inside, handle, meta);
            },
        );
    }

    /// Returns whether the cache has room. Only a mutant asks this outside a gated section.
    fn has_room_for_block(&self, place: usize) -> bool {
        let pinned = Pinned::new(self.platform());
        let count = self.this_cpu(pinned.on_cpu()).blocks[place].len();
        self.zones.block_cache_limit(place).is_for(count)
    }

    /// Ends the gated section and frees a block past its cache, which has no room.
    #[inline(never)]
    fn leave_then_free(&self, inside: Inside<'_>, handle: FrameHandle, meta: &'m SectionMeta) {
        step!(self);
        self.leave_unpinned(inside);
        self.free_uncached_block(handle, meta);
    }

    /// Frees a block above order 0 into its pageblock.
    #[inline(never)]
    fn free_uncached_block(&self, handle: FrameHandle, meta: &'m SectionMeta) {
        let _pinned = Pinned::new(self.platform());
        let (pfn, order) = (handle.pfn(), handle.order());
        let entry = meta.entry_of(pfn);
        // This comes before bits or state say free: after that the entry is the next owner's.
        if !mutant::is(Mutant::EntryAfterBits) {
            entry.store(Entry::FREE.0, Ordering::Relaxed);
        }
        step!(self);
        let frame = (pfn.0 % PAGEBLOCK_FRAMES as u64) as u32;
        self.return_block(PageblockRef::of(meta, pfn), frame, order);
        step!(self);
        if mutant::is(Mutant::EntryAfterBits) {
            entry.store(Entry::FREE.0, Ordering::Relaxed);
        }
    }

    /// Gives a CPU's cached blocks of a zone back to their pageblocks; returns how many frames they
    /// had.
    pub(crate) fn drain_blocks(
        &self,
        places: &[BlockCache],
        events: &Counts,
        inside: &Inside<'_>,
    ) -> u64 {
        let mut drained = 0;
        for (order, cache) in with_orders(places) {
            while let Some(pfn) = self.pop_checked(cache, order, inside) {
                step!(self);
                if let Some((pageblock, frame)) = self.books().pageblock_of(pfn) {
                    // This comes before bits or state say free: after that the entry is the next
                    // owner's.
                    pageblock
                        .entry(frame)
                        .store(Entry::FREE.0, Ordering::Relaxed);
                    self.return_block(pageblock, frame, order);
                    drained += order.frames();
                }
            }
        }
        if drained > 0 {
            events.drains.add(1);
            events.drained.add(drained);
        }
        drained
    }

    /// Gives back the larger blocks that this CPU caches of a zone, for a request that found
    /// nothing else. Returns whether there were any.
    #[cold]
    pub(crate) fn give_up_blocks(&self, zone: ZoneId, cpu: ThisCpu<'_>) -> bool {
        let Some(inside) = self.enter() else {
            return false;
        };
        let events = &cpu.events[zone.index()];
        let drained = self.drain_blocks(cpu.block_caches(zone), events, &inside);
        self.leave(inside, cpu);
        drained > 0
    }
}

#[cfg(all(test, not(loom)))]
#[path = "blocks_tests.rs"]
mod tests;
