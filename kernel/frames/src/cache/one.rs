//! The protocol of every cache of a CPU, of single frames as of larger blocks: enter, take or put,
//! label, leave. A cache is a stack. Here the caches differ only in the stack's size.

use crate::{
    base::{
        mutant::{self, Mutant},
        owner::Entry,
        platform::{FreeFault, report_fault, step},
        request::Request,
        types::{Order, Pfn, ZoneId},
    },
    cache::{
        Caches,
        cpu::{PerCpu, ThisCpu},
        inside::Inside,
        stack::FrameStack,
    },
    zone::cache_limit::CacheLimit,
};
use tidemark_sync::atomic::{AtomicU32, Ordering};

impl<'m, P: PerCpu> Caches<'m, P> {
    /// Takes a block of this order from a zone's cache on this CPU, after `refill` has filled it if
    /// it was empty. Returns `None` if the cache cannot be used now, or is still empty.
    #[inline]
    pub(super) fn take_from<const N: usize>(
        &self,
        zone: ZoneId,
        order: Order,
        cache: &FrameStack<N>,
        cpu: ThisCpu<'_>,
        refill: impl FnOnce(&Inside<'_>),
    ) -> Option<Pfn> {
        let inside = self.enter()?;
        step!(self);
        let mut taken = None;
        if !self.zones().caches_are_off(zone) {
            step!(self);
            if cache.len() == 0 {
                refill(&inside);
            }
            taken = self.pop_checked(cache, order, &inside);
        }
        step!(self);
        self.leave(inside, cpu);
        taken
    }

    /// Pops a block with an entry that says *cached* with this order. Any other block was freed by
    /// two CPUs at once: it is reported, and lost for good.
    #[inline]
    pub(super) fn pop_checked<const N: usize>(
        &self,
        cache: &FrameStack<N>,
        order: Order,
        _: &Inside<'_>,
    ) -> Option<Pfn> {
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

    /// Pops a block and writes the request's entry to it. Returns `None` if the cache is empty, or
    /// the entry of its top is wrong: the general path then reports that block.
    #[inline(always)]
    pub(crate) fn pop_labelled<const N: usize>(
        &self,
        cache: &FrameStack<N>,
        order: Order,
        request: &Request,
        _: &Inside<'_>,
    ) -> Option<Pfn> {
        // It does not matter here whether an offline has just turned the caches off: until its
        // drain, cached blocks may still be handed out.
        let (pfn, _) = cache.top()?;
        step!(self);
        let place = self.books().books_of(pfn)?.entry_of(pfn);
        if Entry(place.load(Ordering::Relaxed)) != Entry::cached(order) {
            return None;
        }
        cache.drop_top();
        step!(self);
        // The block is the caller's alone. Another CPU that reads the entry meanwhile gets a hint.
        place.store(request.entry().0, Ordering::Relaxed);
        step!(self);
        Some(pfn)
    }

    /// Puts a block, which had its entry checked, into this CPU's cache, and ends the gated
    /// section. If the cache takes no more, `full` ends it instead.
    #[inline(always)]
    pub(super) fn put_into<const N: usize>(
        &self,
        inside: Inside<'_>,
        (cache, limit): (&FrameStack<N>, &CacheLimit),
        (pfn, order): (Pfn, Order),
        entry: &AtomicU32,
        tested_early: Option<bool>,
        full: impl FnOnce(Inside<'_>),
    ) {
        step!(self);
        // The limit is tested inside the gated section: an offline turns the caches off first and
        // drains then. If it were tested before the gate is open, the drain could come in between,
        // and the block would enter a drained cache. Pageblocks are isolated for an offline only
        // while the caches of their zone are off, and those that are compacted have no cache's
        // number.
        let count = cache.len();
        if !tested_early.unwrap_or_else(|| limit.is_for(count)) {
            return full(inside);
        }
        if mutant::is(Mutant::FlagClearedEarly) {
            self.platform().leave_gate();
        }
        step!(self);
        // The entry is written first, so that each block in a cache says *cached*.
        entry.store(Entry::cached(order).0, Ordering::Relaxed);
        step!(self);
        if !cache.put(count, pfn) {
            return full(inside);
        }
        step!(self);
        if mutant::is(Mutant::FlagClearedEarly) {
            self.platform().enter_gate();
        }
        self.leave_unpinned(inside);
    }
}
