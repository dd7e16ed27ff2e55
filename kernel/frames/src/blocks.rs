//! Per-CPU caches of larger blocks: of the orders that are asked for again and again.
//!
//! They obey the protocol of the caches of single frames, whose owner flag they share: see `pcp`.
//! They are small, and a zone too small to miss their content has none. A cached block keeps its
//! bits, or the state of its areas, as an allocated one does; its entry says cached.

use crate::{
    CpuCaches, Frames, FreeFault, Order, Pfn, Platform, Request, ZoneId, cpuset,
    events::Counts,
    memory::AreaRef,
    mobility::{CACHED_KINDS, Mobility},
    mutant::{self, Mutant},
    owner::Entry,
    platform::step,
    zone::Mark,
};
use core::array;
use tidemark_sync::{
    Context, ContextKind,
    atomic::{AtomicU32, Ordering},
};

/// The orders that have caches, lowest first.
const ORDERS: [Order; SLOTS] = [
    Order::ONE,
    Order::TWO,
    Order::COSTLY,
    Order::HUGE,
    Order::MAX,
];
const SLOTS: usize = 5;
/// Blocks that a cache has room for.
const ROOM: usize = 15;
/// Blocks that come at once, if one word has so many.
const BATCH: u64 = 8;

/// The place of an order among those that have caches.
#[inline]
const fn slot_of(order: Order) -> Option<usize> {
    match order.get() {
        order @ 1..=3 => Some(order as usize - 1),
        order @ 9..=10 => Some(order as usize - 6),
        _ => None,
    }
}

/// Most blocks of an order in a cache.
#[inline]
const fn most(order: Order) -> u32 {
    if order.get() < Order::HUGE.get() {
        ROOM as u32
    } else {
        1
    }
}

/// The orders, as bits, that a CPU may keep blocks of, if its share of a zone is so many frames.
pub(crate) fn cached_orders(share: u64) -> u32 {
    let fits = |order: &&Order| u64::from(most(**order)) * order.frames() * 2 <= share;
    let orders = ORDERS.iter().filter(fits);
    orders.fold(0, |bits, order| bits | 1 << order.get())
}

/// One CPU's blocks of one zone.
pub(crate) type BlockCaches = [[BlockCache; SLOTS]; CACHED_KINDS];

/// A stack of blocks of one order, by their first frames. Touched inside sections only.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct BlockCache {
    count: AtomicU32,
    stack: [AtomicU32; ROOM],
}

impl BlockCache {
    fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            stack: array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Caches of one zone.
    pub(crate) fn of_zone() -> BlockCaches {
        array::from_fn(|_| array::from_fn(|_| Self::new()))
    }

    #[inline]
    fn len(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    fn iter(&self) -> impl Iterator<Item = Pfn> + '_ {
        let blocks = self.stack.iter().take(self.len() as usize);
        blocks.map(|pfn| Pfn(u64::from(pfn.load(Ordering::Relaxed))))
    }

    /// Puts a block on top, if there is room.
    #[inline]
    fn push(&self, pfn: Pfn) {
        let count = self.len();
        if let Some(place) = self.stack.get(count as usize) {
            place.store(pfn.0 as u32, Ordering::Relaxed);
            self.count.store(count + 1, Ordering::Relaxed);
        }
    }

    #[inline]
    fn pop(&self) -> Option<Pfn> {
        let top = self.len().wrapping_sub(1);
        // Nothing there: the index is far out of range.
        let pfn = self.stack.get(top as usize)?.load(Ordering::Relaxed);
        self.count.store(top, Ordering::Relaxed);
        Some(Pfn(u64::from(pfn)))
    }
}

/// Every cached block of a zone with its order.
pub(crate) fn each(caches: &BlockCaches) -> impl Iterator<Item = (Order, Pfn)> + '_ {
    caches
        .iter()
        .flat_map(|kind| ORDERS.iter().zip(kind))
        .flat_map(|(&order, cache)| cache.iter().map(move |pfn| (order, pfn)))
}

impl<'m, P: Platform> Frames<'m, P> {
    /// Takes a block of a larger order from this CPU's cache of a zone, filling it first if it is
    /// empty and blocks of the order come in numbers. Nothing if there is no such cache, or it
    /// cannot be used now. Pinned.
    #[inline]
    pub(crate) fn take_cached_block(
        &self,
        zone: ZoneId,
        order: Order,
        mobility: Mobility,
        cpu: &CpuCaches,
    ) -> Option<Pfn> {
        let slot = slot_of(order)?;
        self.enter(cpu)?;
        step!(self);
        let mut taken = None;
        if !self.caches_are_off(zone) {
            step!(self);
            let cache = &cpu.blocks[zone.index()][mobility as usize][slot];
            if cache.len() == 0 && most(order) > 1 {
                self.refill_blocks(zone, order, mobility, cache, cpu);
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
            let (area, frame) = self.area_of(pfn)?;
            let entry = area.entry_now(frame);
            if entry == Entry::cached(order) {
                return Some(pfn);
            }
            self.report_fault(FreeFault::CacheCorrupt, pfn, order, entry);
        }
    }

    /// Fills an empty cache with blocks of one word, with no more than what the zone has above HIGH:
    /// what is kept in larger blocks is of no use to whoever wants less.
    #[inline(never)]
    fn refill_blocks(
        &self,
        zone_id: ZoneId,
        order: Order,
        mobility: Mobility,
        cache: &BlockCache,
        cpu: &CpuCaches,
    ) {
        let zone = self.zone(zone_id);
        let above_high = zone.free().saturating_sub(zone.mark(Mark::High));
        let want = BATCH.min(above_high >> order.get()) as u32;
        if want == 0 || !zone.caches_order(order) {
            return;
        }
        let came = self.take_runs(zone_id, order, mobility, want, cpu, |area, frame| {
            step!(self);
            area.entry(frame)
                .store(Entry::cached(order).0, Ordering::Relaxed);
            cache.push(Pfn(area.start().0 + u64::from(frame)));
        });
        let events = &cpu.events[zone_id.index()];
        events.refills.add(1);
        events.refilled.add(u64::from(came) << order.get());
    }

    /// Puts a block of a larger order whose entry was checked into this CPU's cache; returns whether
    /// it did. As with single frames; a cache that is full takes nothing. Pinned.
    #[inline]
    pub(crate) fn free_block_to_cache(
        &self,
        area: AreaRef<'m>,
        frame: u32,
        order: Order,
        cpu: &CpuCaches,
    ) -> bool {
        let Some(slot) = slot_of(order) else {
            return false;
        };
        let zone_id = area.zone();
        let zone = self.zone(zone_id);
        let mobility = area.mobility();
        if mobility == Mobility::HighAtomic {
            return false;
        }
        let may_cache = || {
            let is_isolated = if order == Order::MAX {
                let [lower, upper] = area.core().pair.states();
                lower.is_isolated() || upper.is_isolated()
            } else {
                area.core().state().is_isolated()
            };
            !is_isolated && !self.caches_are_off(zone_id)
        };
        if mutant::is(Mutant::IsolationTestedBeforeFlag) && !may_cache() {
            return false;
        }
        step!(self);
        if self.enter(cpu).is_none() {
            return false;
        }
        step!(self);
        let cache = &cpu.blocks[zone_id.index()][mobility as usize][slot];
        // Inside the section: as with single frames.
        let cached = (mutant::is(Mutant::IsolationTestedBeforeFlag) || may_cache())
            && zone.caches_order(order)
            && cache.len() < most(order)
            && zone.free() >= zone.mark(Mark::High);
        if cached {
            step!(self);
            area.entry(frame)
                .store(Entry::cached(order).0, Ordering::Relaxed);
            cache.push(Pfn(area.start().0 + u64::from(frame)));
        }
        step!(self);
        self.leave(cpu);
        cached
    }

    /// Takes a larger block for a request that is plain but for its size out of this CPU's cache of
    /// the zone that serves its class first: without walk and mark test, as `alloc_hot`. Any
    /// context.
    #[inline]
    pub(crate) fn alloc_block_hot(&self, context: &impl Context, request: &Request) -> Option<Pfn> {
        let slot = slot_of(request.order())?;
        if cpuset::may_confine(&self.platform, context) {
            return None;
        }
        self.platform.pin();
        let cpu = self.platform.caches(self.storage.cpus);
        let taken = self.pop_block_hot(cpu, slot, context.kind(), request);
        self.platform.unpin();
        taken
    }

    /// The section of [`Frames::alloc_block_hot`]. Pinned.
    #[inline]
    fn pop_block_hot(
        &self,
        cpu: &CpuCaches,
        slot: usize,
        context: ContextKind,
        request: &Request,
    ) -> Option<Pfn> {
        let number = cpu.firsts.cache(request.class_of_any_size());
        let zone = number / CACHED_KINDS;
        let cache = &cpu.blocks.get(zone)?[number % CACHED_KINDS][slot];
        let events = cpu.events.get(zone)?;
        self.enter(cpu)?;
        step!(self);
        let mut taken = None;
        if let Some(pfn) = cache.pop() {
            step!(self);
            if let Some(meta) = self.books_of(pfn) {
                let place = meta.entry_of(pfn);
                let entry = Entry(place.load(Ordering::Relaxed));
                if entry == Entry::cached(request.order()) {
                    // The block is ours alone, as in `pop_hot`.
                    let entry = Entry::allocated(request.order(), request.owner());
                    place.store(entry.0, Ordering::Relaxed);
                    events.of(context).count_allocs(request.order(), 1, 0);
                    taken = Some(pfn);
                } else {
                    self.report_fault(FreeFault::CacheCorrupt, pfn, request.order(), entry);
                }
            }
        }
        step!(self);
        self.leave(cpu);
        taken
    }

    /// Gives a CPU's blocks of a zone back to their areas; returns how many frames. Inside a
    /// section.
    pub(crate) fn drain_blocks(&self, caches: &BlockCaches, events: &Counts) -> u64 {
        let mut drained = 0;
        for (&order, cache) in caches.iter().flat_map(|kind| ORDERS.iter().zip(kind)) {
            while let Some(pfn) = self.pop_block(cache, order) {
                step!(self);
                if let Some((area, frame)) = self.area_of(pfn) {
                    // Before bits or state say free: after that the entry is the next owner's.
                    area.entry(frame).store(Entry::FREE.0, Ordering::Relaxed);
                    self.return_block(area, frame, order);
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
        if self.enter(cpu).is_none() {
            return false;
        }
        let index = zone.index();
        let drained = self.drain_blocks(&cpu.blocks[index], &cpu.events[index]);
        self.leave(cpu);
        drained > 0
    }
}

#[cfg(all(test, not(loom)))]
#[path = "blocks_tests.rs"]
mod tests;
