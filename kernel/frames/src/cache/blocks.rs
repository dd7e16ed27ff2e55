//! Per-CPU caches of larger blocks: of the orders that are asked for again and again.
//!
//! They obey the protocol of the caches of single frames, whose owner flag they share: see `pcp`.
//! They are small, and a zone too small to miss their content has none. A cached block keeps its
//! bits, or the state of its pageblocks, as an allocated one does; its entry says cached.

use crate::{
    base::{
        handle::FrameHandle,
        mutant::{self, Mutant},
        owner::Entry,
        platform::{FreeFault, Pinned, report_fault, step},
        types::{Order, Pfn, ZoneId},
    },
    cache::{
        Caches,
        cpu::{CpuCaches, PerCpu},
        events::{CONTEXTS, Counter, Counts},
        stack::Stack,
    },
    pageblock::{
        flags::PageblockFlags,
        migrate_type::MigrateType,
        section_meta::{PAGEBLOCK_FRAMES, PageblockRef, SectionMeta},
    },
    zone::{
        Watermark,
        places::{ORDERS, ROOM, SLOTS, has_slot, most, place_of},
    },
};
use core::{array, ops::Deref};
use tidemark_sync::atomic::Ordering;

/// Blocks that come at once, if one pageblock has so many.
const BATCH: u64 = 8;

/// Blocks that came without a walk, by kind of context. Of one place, written inside gated
/// sections.
#[derive(Debug)]
pub(crate) struct TakeCounts(pub(crate) [Counter; CONTEXTS]);

impl TakeCounts {
    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| Counter::new()))
    }
}

/// Counts the blocks of each order that has caches, from the places of one zone.
pub(crate) fn taken(places: &[TakeCounts]) -> impl Iterator<Item = (Order, [u64; CONTEXTS])> + '_ {
    let slots = places.chunks_exact(SLOTS);
    slots
        .flat_map(|slots| ORDERS.into_iter().zip(slots))
        .map(|(order, taken)| (order, taken.0.each_ref().map(Counter::get)))
}

/// Blocks of one order, by their first frames, on a line of their own.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct BlockCache(Stack<ROOM>);

impl BlockCache {
    pub(crate) fn new() -> Self {
        Self(Stack::new())
    }
}

impl Deref for BlockCache {
    type Target = Stack<ROOM>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Returns the caches at the places of one zone, with their orders.
pub(crate) fn with_orders(places: &[BlockCache]) -> impl Iterator<Item = (Order, &BlockCache)> {
    let slots = places.chunks_exact(SLOTS);
    slots.flat_map(|slots| ORDERS.into_iter().zip(slots))
}

/// Returns every block cached there with its order.
pub(crate) fn each(places: &[BlockCache]) -> impl Iterator<Item = (Order, Pfn)> + '_ {
    with_orders(places).flat_map(|(order, cache)| cache.iter().map(move |pfn| (order, pfn)))
}

impl<'m, P: PerCpu> Caches<'m, P> {
    /// Takes a block of a larger order from this CPU's cache of a zone, filling it first if it is
    /// empty and blocks of the order come in numbers. Nothing if there is no such cache, or it
    /// cannot be used now. Pinned.
    #[inline]
    pub(crate) fn take_cached_block(
        &self,
        zone: ZoneId,
        order: Order,
        migrate_type: MigrateType,
        cpu: &CpuCaches,
    ) -> Option<Pfn> {
        if !has_slot(order) {
            return None;
        }
        self.enter()?;
        step!(self);
        let mut taken = None;
        if !self.zones.caches_are_off(zone) {
            step!(self);
            let cache = &cpu.blocks[place_of(PageblockFlags::cache_of(zone, migrate_type), order)];
            if cache.len() == 0 && most(order) > 1 {
                self.refill_blocks(zone, order, migrate_type, cache, cpu);
            }
            taken = self.pop_block(cache, order);
        }
        step!(self);
        self.leave(cpu);
        taken
    }

    /// Pops a block whose entry says that it is cached; as with single frames.
    #[inline]
    fn pop_block(&self, cache: &BlockCache, order: Order) -> Option<Pfn> {
        loop {
            let pfn = cache.pop()?;
            step!(self);
            let (pageblock, frame) = self.books().pageblock_of(pfn)?;
            let entry = pageblock.entry_now(frame);
            if entry == Entry::cached(order) {
                return Some(pfn);
            }
            report_fault(self.platform(), FreeFault::CacheCorrupt, pfn, order, entry);
        }
    }

    /// Fills an empty cache with blocks of one pageblock, with no more than what the zone has above
    /// HIGH: what is kept in larger blocks is of no use to whoever wants less.
    #[inline(never)]
    fn refill_blocks(
        &self,
        zone_id: ZoneId,
        order: Order,
        migrate_type: MigrateType,
        cache: &BlockCache,
        cpu: &CpuCaches,
    ) {
        let zone = self.zones.zone(zone_id);
        let above_high = zone.free().saturating_sub(zone.watermark(Watermark::High));
        let want = BATCH.min(above_high >> order.get()) as u32;
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

    /// Frees what is no single frame of the allocator's: a larger block, into this CPU's cache, if
    /// there is one that has room; as `free_single`. Any context.
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
        // An order 10 lies in two pageblocks. They are one zone's, by `take_pair`; and what is
        // wholly taken is not compacted. So the first one's flags speak for both.
        let Some(flags) = meta.flags_of(pfn).cached_in() else {
            return self.free_uncached_block(handle, meta);
        };
        let place = place_of(flags, order);
        let cache_limit = self.zones.block_cache_limit(place);
        let tested_early = mutant::is(Mutant::IsolationTestedBeforeFlag)
            .then(|| cache_limit.is_for(self.this_cpu().blocks[place].len()));
        step!(self);
        if self.enter().is_none() {
            return self.free_uncached_block(handle, meta);
        }
        step!(self);
        let cache = &self.this_cpu().blocks[place];
        // Inside the gated section: as with single frames. The word says limit, HIGH and offlines.
        let count = cache.len();
        if !tested_early.unwrap_or_else(|| cache_limit.is_for(count)) {
            return self.leave_then_free(handle, meta);
        }
        step!(self);
        entry_of.store(Entry::cached(order).0, Ordering::Relaxed);
        step!(self);
        if !cache.put(count, pfn) {
            return self.leave_then_free(handle, meta);
        }
        step!(self);
        if self.leave_gate() {
            self.settle();
        }
    }

    /// Frees a block whose cache has no room. Inside a gated section, which it ends.
    #[inline(never)]
    fn leave_then_free(&self, handle: FrameHandle, meta: &'m SectionMeta) {
        step!(self);
        self.leave_unpinned();
        self.free_uncached_block(handle, meta);
    }

    /// Frees a block above order 0 that no cache is for now.
    #[inline(never)]
    fn free_uncached_block(&self, handle: FrameHandle, meta: &'m SectionMeta) {
        let _pinned = Pinned::new(self.platform());
        let (pfn, order) = (handle.pfn(), handle.order());
        let entry = meta.entry_of(pfn);
        // Before bits or state say free: after that the entry is the next owner's.
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

    /// Gives a CPU's blocks of a zone back to their pageblocks; returns how many frames. Inside a
    /// gated section.
    pub(crate) fn drain_blocks(&self, places: &[BlockCache], events: &Counts) -> u64 {
        let mut drained = 0;
        for (order, cache) in with_orders(places) {
            while let Some(pfn) = self.pop_block(cache, order) {
                step!(self);
                if let Some((pageblock, frame)) = self.books().pageblock_of(pfn) {
                    // Before bits or state say free: after that the entry is the next owner's.
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

    /// Gives back what this CPU keeps of a zone in larger blocks, for a request that found nothing
    /// else; returns whether there was something. Pinned.
    #[cold]
    pub(crate) fn give_up_blocks(&self, zone: ZoneId, cpu: &CpuCaches) -> bool {
        if self.enter().is_none() {
            return false;
        }
        let events = &cpu.events[zone.index()];
        let drained = self.drain_blocks(cpu.block_caches(zone), events);
        self.leave(cpu);
        drained > 0
    }
}

#[cfg(all(test, not(loom)))]
#[path = "blocks_tests.rs"]
mod tests;
