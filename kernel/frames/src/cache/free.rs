//! Frees: the checks of the entry, then the cache or the pageblock.
//!
//! The crate's documentation has a table of what an NMI meets at each step of a free.

use crate::{
    base::{
        handle::FrameHandle,
        mutant::{self, Mutant},
        owner::{Entry, FrameState, Owner},
        pin::Pinned,
        platform::{FreeFault, report_fault, step},
        types::{Order, Pfn},
    },
    cache::{Caches, cpu::PerCpu, inside::Inside, pcp::Pcp},
    pageblock::{
        flags::PageblockFlags,
        section_meta::{PageblockRef, SectionMeta},
    },
    zone::counter::Returned,
};
use tidemark_sync::atomic::{AtomicU32, Ordering};

impl<'m, P: PerCpu> Caches<'m, P> {
    /// Frees a block: into this CPU's cache, if there is one for its order that has room. Takes no
    /// lock, and asks no zonelist protocol. Any context.
    #[doc(alias("free_unref_page", "__free_pages", "free_pages_nolock"))]
    #[inline(never)]
    pub(crate) fn free_hot(&self, handle: FrameHandle) {
        let pfn = handle.single();
        // The number of a larger block has its order in its high bits: it has no books.
        let Some(meta) = self.books().books_of(pfn) else {
            return self.free_block(handle);
        };
        let place = meta.entry_of(pfn);
        let entry = Entry(place.load(Ordering::Relaxed));
        if !entry.is_allocated(Order::ZERO) {
            return self.report_not_allocated(handle, entry);
        }
        if !self.claim_for_free(place, Order::ZERO) {
            return self.report_late(pfn, Order::ZERO);
        }
        self.free_single(pfn, meta);
    }

    /// Frees a single frame. Its entry was checked before.
    #[inline]
    pub(crate) fn free_single(&self, pfn: Pfn, meta: &'m SectionMeta) {
        let tested_early = mutant::is(Mutant::IsolationTestedBeforeFlag)
            .then(|| self.has_room(meta.flags_of(pfn)));
        step!(self);
        let number = meta.flags_of(pfn).cache();
        let Some(cache_limit) = self.zones.cache_limit(number) else {
            return self.free_uncached(pfn, meta);
        };
        let Some(inside) = self.enter() else {
            return self.free_uncached(pfn, meta);
        };
        let cache = &self.caches_of(&inside).pcp[number];
        let (frame, entry) = ((pfn, Order::ZERO), meta.entry_of(pfn));
        self.put_into(
            inside,
            (cache, cache_limit),
            frame,
            entry,
            tested_early,
            |inside| {
                self.free_to_full(inside, cache, pfn, meta);
            },
        );
    }

    /// Returns whether the cache has room. Only a mutant asks this outside a gated section.
    fn has_room(&self, flags: PageblockFlags) -> bool {
        let pinned = Pinned::new(self.platform());
        let cpu = self.this_cpu(pinned.on_cpu());
        let number = flags.cache();
        let places = cpu.pcp.get(number).zip(self.zones.cache_limit(number));
        places.is_some_and(|(cache, cache_limit)| cache_limit.is_for(cache.len()))
    }

    /// Frees a single frame that cannot go into a cache.
    #[inline(never)]
    fn free_uncached(&self, pfn: Pfn, meta: &'m SectionMeta) {
        let pinned = Pinned::new(self.platform());
        self.free_to_pageblock(pfn, meta, pinned.on_cpu());
    }

    /// Frees a single frame past a cache that takes no more: one that is full, or whose zone is
    /// below LOW, or that an offline has turned off. It goes into its pageblock, unless the last
    /// frame that came here lies in the same word.
    #[inline(never)]
    fn free_to_full(&self, inside: Inside<'_>, cache: &Pcp, pfn: Pfn, meta: &'m SectionMeta) {
        if !cache.is_apart(pfn) {
            return self.free_in_row(inside, pfn, meta);
        }
        self.free_to_pageblock(pfn, meta, inside.on_cpu());
        self.leave_unpinned(inside);
    }

    /// Frees one of several frames that come in a row past such a cache. If it is only full, a
    /// batch of cached frames goes back, and the frame goes into the cache.
    #[inline(never)]
    fn free_in_row(&self, inside: Inside<'_>, pfn: Pfn, meta: &'m SectionMeta) {
        let pinned = Pinned::new(self.platform());
        let cpu = self.this_cpu(pinned.on_cpu());
        let flags = meta.flags_of(pfn);
        let zone = flags.zone();
        match (
            cpu.pcp.get(flags.cache()),
            self.zones.cache_limit(flags.cache()),
        ) {
            (Some(cache), Some(cache_limit)) if cache_limit.is_for(0) && cache.len() > 0 => {
                self.make_room(zone, cache, &cpu.events[zone.index()], &inside);
                step!(self);
                meta.entry_of(pfn).store(Entry::CACHED.0, Ordering::Relaxed);
                cache.push(pfn);
            }
            _ => self.free_to_pageblock(pfn, meta, cpu.on_cpu()),
        }
        step!(self);
        self.leave(inside, cpu);
    }

    /// Claims a block for its free, if the platform wants that; its entry was checked before. The
    /// entry then says *free* from here on. Returns `false` if another free had claimed the block.
    #[inline]
    pub(crate) fn claim_for_free(&self, place: &AtomicU32, order: Order) -> bool {
        if !self.platform().frees_by_exchange() {
            return true;
        }
        step!(self);
        let claim = |entry| {
            let entry = Entry(entry);
            entry.is_allocated(order).then_some(Entry::FREE.0)
        };
        // Relaxed: the entry alone decides between the two frees.
        place
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim)
            .is_ok()
    }

    /// Reports a free that lost to another one of the same block.
    #[cold]
    pub(crate) fn report_late(&self, pfn: Pfn, order: Order) {
        let found = self.books().pageblock_of(pfn);
        let entry = found.map_or(Entry::ABSENT, |(pageblock, frame)| {
            pageblock.entry_now(frame)
        });
        report_fault(self.platform(), FreeFault::DoubleFree, pfn, order, entry);
    }

    /// Returns the pageblock and index of an allocated block. If the block is not allocated,
    /// reports why, and returns `None`.
    #[inline]
    pub(crate) fn check_allocated(
        &self,
        pfn: Pfn,
        order: Order,
    ) -> Option<(PageblockRef<'m>, u32)> {
        let found = self.books().pageblock_of(pfn);
        let entry = found.map_or(Entry::ABSENT, |(pageblock, frame)| {
            pageblock.entry_now(frame)
        });
        if entry.is_allocated(order) {
            return found;
        }
        self.report_not_allocated(FrameHandle::new(pfn, order), entry);
        None
    }

    /// Reports why a block cannot be freed, by what its entry says.
    #[cold]
    #[inline(never)]
    pub(crate) fn report_not_allocated(&self, handle: FrameHandle, entry: Entry) {
        let (pfn, order) = (handle.pfn(), handle.order());
        let found = self.books().pageblock_of(pfn);
        let is_gone = found.is_none_or(|(pageblock, _)| !pageblock.core().state().is_present());
        let fault = match entry.state() {
            _ if is_gone => FreeFault::Foreign,
            FrameState::Free => FreeFault::DoubleFree,
            FrameState::Cached => FreeFault::DoubleFreeCached,
            FrameState::Allocated { .. } => FreeFault::WrongOrder,
            FrameState::Absent => FreeFault::Foreign,
        };
        report_fault(self.platform(), fault, pfn, order, entry);
    }

    /// Returns a larger block to its pageblocks. Its entry says *free* already.
    pub(crate) fn return_block(&self, pageblock: PageblockRef<'m>, frame: u32, order: Order) {
        match order {
            Order::MAX => self.free_pair(pageblock),
            Order::HUGE => self.free_pageblock(pageblock),
            _ => self.free_run_of(pageblock, frame, order),
        }
    }

    /// Frees a block of orders 1 to 8 into its pageblock.
    fn free_run_of(&self, pageblock: PageblockRef<'m>, frame: u32, order: Order) {
        // The zone is read before the addition, after which the pageblock may leave.
        let zone = pageblock.zone();
        let (cleared, before) = pageblock.core().free(frame, order);
        if u64::from(cleared) != order.frames() {
            let pfn = Pfn(pageblock.start().0 + u64::from(frame));
            report_fault(
                self.platform(),
                FreeFault::BitsClear,
                pfn,
                order,
                Entry::FREE,
            );
        }
        step!(self);
        self.zones
            .gain_returned(zone, Returned::to(before, cleared));
    }

    /// Frees an order 9.
    fn free_pageblock(&self, pageblock: PageblockRef<'m>) {
        let zone = pageblock.zone();
        let Some(before) = pageblock.core().give() else {
            report_fault(
                self.platform(),
                FreeFault::BitsClear,
                pageblock.start(),
                Order::HUGE,
                Entry::FREE,
            );
            return;
        };
        step!(self);
        self.zones.gain_returned(zone, Returned::whole(&[before]));
    }

    /// Frees an order 10.
    fn free_pair(&self, pageblock: PageblockRef<'m>) {
        let zone = pageblock.zone();
        let Some(before) = pageblock.core().pair.give() else {
            report_fault(
                self.platform(),
                FreeFault::BitsClear,
                pageblock.start(),
                Order::MAX,
                Entry::FREE,
            );
            return;
        };
        step!(self);
        self.zones.gain_returned(zone, Returned::whole(&before));
    }

    /// Turns an allocated block into two halves. Only the block's owner may call it. An offline
    /// that scans meanwhile may see the upper half without an entry. It takes that for a birth
    /// under way, and looks again.
    pub(crate) fn halve(&self, pfn: Pfn, order: Order, half: Order, owner: Owner) {
        if order == Order::HUGE
            && let Some((pageblock, _)) = self.books().pageblock_of(pfn)
        {
            pageblock.core().break_up();
        }
        step!(self);
        self.books().label(pfn, half, owner);
        step!(self);
        self.books().label(Pfn(pfn.0 + half.frames()), half, owner);
    }
}

#[cfg(all(test, not(loom)))]
#[path = "free_tests.rs"]
mod tests;
