//! Freeing: the checks, then the cache or the area.

use crate::{
    base::{
        handle::FrameHandle,
        mutant::{self, Mutant},
        owner::{Entry, FrameState, Owner},
        platform::{FreeFault, Pinned, report_fault, step},
        types::{Order, Pfn},
    },
    cache::{
        Caches,
        cpu::{CpuCaches, PerCpu},
        pcp::Pcp,
    },
    pageblock::{
        home::Home,
        memory::{AreaRef, BlockMeta},
    },
    zone::whole::Returned,
};
use tidemark_sync::atomic::{AtomicU32, Ordering};

impl<'m, P: PerCpu> Caches<'m, P> {
    /// Frees a block: a single frame into this CPU's cache, if that has room. Any context.
    #[inline(never)]
    pub(crate) fn free_hot(&self, handle: FrameHandle) {
        let pfn = handle.single();
        // A larger block has no books under this number.
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

    /// Frees a single frame whose entry was checked.
    #[inline]
    pub(crate) fn free_single(&self, pfn: Pfn, meta: &'m BlockMeta) {
        let tested_early = mutant::is(Mutant::IsolationTestedBeforeFlag)
            .then(|| self.has_room(self.this_cpu(), meta.home_of(pfn)));
        step!(self);
        let home = meta.home_of(pfn).cache();
        let Some(room) = self.zones.room(home) else {
            return self.free_uncached(pfn, meta);
        };
        if self.enter().is_none() {
            return self.free_uncached(pfn, meta);
        }
        step!(self);
        let cache = &self.this_cpu().pcp[home];
        // Inside the section: an offline turns the caches off first and drains then. Were this
        // tested before the flag is set, its drain could run in between, and the frame go into a
        // drained cache. Areas are isolated for an offline only while the caches of their zone are
        // off; those that are being compacted are no cache's home.
        let count = cache.len();
        if !tested_early.unwrap_or_else(|| room.is_for(count)) {
            return self.free_to_full(cache, pfn, meta);
        }
        if mutant::is(Mutant::FlagClearedEarly) {
            self.platform().end_section();
        }
        step!(self);
        // The entry first: what is in a cache says so.
        meta.entry_of(pfn).store(Entry::CACHED.0, Ordering::Relaxed);
        step!(self);
        if !cache.put(count, pfn) {
            return self.free_to_full(cache, pfn, meta);
        }
        step!(self);
        if mutant::is(Mutant::FlagClearedEarly) {
            self.platform().begin_section();
        }
        if self.end_section() {
            self.settle();
        }
    }

    fn has_room(&self, cpu: &CpuCaches, home: Home) -> bool {
        let home = home.cache();
        let places = cpu.pcp.get(home).zip(self.zones.room(home));
        places.is_some_and(|(cache, room)| room.is_for(cache.len()))
    }

    /// Frees a single frame that no cache is for now.
    #[inline(never)]
    fn free_uncached(&self, pfn: Pfn, meta: &'m BlockMeta) {
        let _pinned = Pinned::new(self.platform());
        self.free_to_area(pfn, meta);
    }

    /// Frees a single frame whose cache has no room: into its area, unless it lies in the word of
    /// the one before it. Inside a section, which it ends.
    #[inline(never)]
    fn free_to_full(&self, cache: &Pcp, pfn: Pfn, meta: &'m BlockMeta) {
        if !cache.is_apart(pfn) {
            return self.free_in_row(pfn, meta);
        }
        self.free_to_area(pfn, meta);
        if self.end_section() {
            self.settle();
        }
    }

    /// Frees frames that come in a row past a full cache: some of its frames go back together.
    /// Inside a section, which it ends.
    #[inline(never)]
    fn free_in_row(&self, pfn: Pfn, meta: &'m BlockMeta) {
        let _pinned = Pinned::new(self.platform());
        let cpu = self.this_cpu();
        let home = meta.home_of(pfn);
        let zone = home.zone();
        match (cpu.pcp.get(home.cache()), self.zones.room(home.cache())) {
            (Some(cache), Some(room)) if room.is_for(0) && cache.len() > 0 => {
                self.make_room(zone, cache, &cpu.events[zone.index()]);
                step!(self);
                meta.entry_of(pfn).store(Entry::CACHED.0, Ordering::Relaxed);
                cache.push(pfn);
            }
            _ => self.free_to_area(pfn, meta),
        }
        step!(self);
        self.leave(cpu);
    }

    /// Claims a block whose entry was checked for its free, if the platform wants that: then the
    /// entry says free from here on, a death in flight. Returns whether nobody else had claimed it.
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
        // Relaxed: the two frees agree on the entry alone.
        place
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim)
            .is_ok()
    }

    /// Reports a free that lost to another one of the same block.
    #[cold]
    pub(crate) fn report_late(&self, pfn: Pfn, order: Order) {
        let found = self.books().area_of(pfn);
        let entry = found.map_or(Entry::ABSENT, |(area, frame)| area.entry_now(frame));
        report_fault(self.platform(), FreeFault::DoubleFree, pfn, order, entry);
    }

    /// Finds the area and index of an allocated block; reports why not, otherwise.
    #[inline]
    pub(crate) fn check_allocated(&self, pfn: Pfn, order: Order) -> Option<(AreaRef<'m>, u32)> {
        let found = self.books().area_of(pfn);
        let entry = found.map_or(Entry::ABSENT, |(area, frame)| area.entry_now(frame));
        if entry.is_allocated(order) {
            return found;
        }
        self.report_not_allocated(FrameHandle::new(pfn, order), entry);
        None
    }

    /// Reports why a block cannot be freed: its entry was found to say something else.
    #[cold]
    #[inline(never)]
    pub(crate) fn report_not_allocated(&self, handle: FrameHandle, entry: Entry) {
        let (pfn, order) = (handle.pfn(), handle.order());
        let found = self.books().area_of(pfn);
        let is_gone = found.is_none_or(|(area, _)| !area.core().state().is_present());
        let fault = match entry.state() {
            _ if is_gone => FreeFault::Foreign,
            FrameState::Free => FreeFault::DoubleFree,
            FrameState::Cached => FreeFault::DoubleFreeCached,
            FrameState::Allocated { .. } => FreeFault::WrongOrder,
            FrameState::Absent => FreeFault::Foreign,
        };
        report_fault(self.platform(), fault, pfn, order, entry);
    }

    /// Returns a larger block to its areas; its entry says free already. Pinned.
    pub(crate) fn return_block(&self, area: AreaRef<'m>, frame: u32, order: Order) {
        match order {
            Order::MAX => self.free_pair(area),
            Order::HUGE => self.free_area(area),
            _ => self.free_run_of(area, frame, order),
        }
    }

    /// Orders 1 to 8, into the area.
    fn free_run_of(&self, area: AreaRef<'m>, frame: u32, order: Order) {
        // Read before the addition, after which the area may leave.
        let zone = area.zone();
        let (cleared, before) = area.core().free(frame, order);
        if u64::from(cleared) != order.frames() {
            let pfn = Pfn(area.start().0 + u64::from(frame));
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
    fn free_area(&self, area: AreaRef<'m>) {
        let zone = area.zone();
        let Some(before) = area.core().give() else {
            report_fault(
                self.platform(),
                FreeFault::BitsClear,
                area.start(),
                Order::HUGE,
                Entry::FREE,
            );
            return;
        };
        step!(self);
        self.zones.gain_returned(zone, Returned::whole(&[before]));
    }

    /// Frees an order 10.
    fn free_pair(&self, area: AreaRef<'m>) {
        let zone = area.zone();
        let Some(before) = area.core().pair.give() else {
            report_fault(
                self.platform(),
                FreeFault::BitsClear,
                area.start(),
                Order::MAX,
                Entry::FREE,
            );
            return;
        };
        step!(self);
        self.zones.gain_returned(zone, Returned::whole(&before));
    }

    /// Turns an allocated block into two halves; its sole owner calls it. An offline that scans
    /// meanwhile may see the upper half without an entry: in flight, it looks again.
    pub(crate) fn halve(&self, pfn: Pfn, order: Order, half: Order, owner: Owner) {
        if order == Order::HUGE
            && let Some((area, _)) = self.books().area_of(pfn)
        {
            area.core().break_up();
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
