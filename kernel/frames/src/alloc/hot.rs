//! The call [`Frames::alloc`], and the hot path: a plain block out of this CPU's cache.
//!
//! The request's class is an index into this CPU's `FirstCaches`, which has the number of the cache
//! to try first. There is no walk and no watermark test: a cached frame has left its zone's free
//! count already. The watermarks are tested when frames enter the cache, at the refill and at the
//! free (`CacheLimit`).
//!
//! Everything else takes the general path: requests that are not plain, and those for which no
//! first cache is known yet. So does a request if the gate is open already, or the cache is empty
//! or has a wrong entry on top.

use crate::{
    alloc::{block::Block, context::AllocContext, cpuset},
    base::{
        mistake::Mistake,
        outcome::{AllocError, WalkInfo},
        pin::Pinned,
        platform::{Point, step},
        request::{Class, Request},
        resizing::Resizing,
        types::{NodeMask, Order, Pfn, ZoneId},
    },
    cache::{
        cpu::PerCpu, events::Counter, first_caches::FirstCaches, inside::Inside, stack::FrameStack,
    },
    frames::Frames,
    pageblock::{
        flags::{CACHES, PageblockFlags},
        migrate_type::MigrateType,
    },
    zone::places::place_of,
    zonelist::Eligible,
};
use tidemark_sync::{
    Context,
    atomic::{Ordering, fence},
};

/// The result of the hot path.
pub(crate) enum Hot<'c> {
    /// The request got a block.
    Taken(Pfn),
    /// The request got a block. The caller must do what is owed at the gated section's end.
    TakenUnsettled(Pfn),
    /// No gated section was begun.
    Outside,
    /// No cache of single frames is for the request. The gated section is still open.
    Unserved(Inside<'c>),
    /// The cache has no block for the request. The caller must end the gated section.
    Inside(Inside<'c>),
}

impl<'m, P: PerCpu> Frames<'m, P> {
    /// Allocates a block. Any context; DIRECT_RECLAIM acts only in a task's, given by its token.
    ///
    /// # Errors
    ///
    /// See [`AllocError`].
    #[doc(alias("alloc_pages", "__alloc_pages"))]
    #[inline]
    pub fn alloc<'f>(
        &'f self,
        context: &impl Context,
        request: &Request,
    ) -> Result<Block<'f, 'm, P>, AllocError> {
        // The error is made at the end: a result with an error in it would not fit into registers.
        self.get_hot(context, request)
            .ok_or_else(|| self.why_not(request))
    }

    /// Allocates a block as [`Frames::alloc`] does, and adds to `info` what the request met. Any
    /// context.
    ///
    /// # Errors
    ///
    /// See [`AllocError`].
    pub fn alloc_traced<'f>(
        &'f self,
        context: &impl Context,
        request: &Request,
        info: &mut WalkInfo,
    ) -> Result<Block<'f, 'm, P>, AllocError> {
        let order = request.order();
        let hot = match self.take_hot(context, request) {
            Hot::Unserved(inside) => self.take_block_hot(inside, context, request),
            hot => hot,
        };
        match hot {
            Hot::Taken(pfn) => return Ok(self.block(pfn, order)),
            Hot::TakenUnsettled(pfn) => {
                self.caches().settle();
                return Ok(self.block(pfn, order));
            }
            Hot::Outside => {}
            Hot::Unserved(inside) | Hot::Inside(inside) => self.caches().leave_unpinned(inside),
        }
        self.get_by_walk(context, request, info)
            .ok_or_else(|| self.why_not(request))
    }

    /// Allocates a block: for a plain request from this CPU's cache, else on the general path.
    ///
    /// Rare cases are calls at the very end, so that no register must be saved for code after them.
    #[inline]
    pub(crate) fn get_hot<'f>(
        &'f self,
        context: &impl Context,
        request: &Request,
    ) -> Option<Block<'f, 'm, P>> {
        match self.take_hot(context, request) {
            Hot::Unserved(inside) => self.complete_block(inside, context, request),
            hot => self.complete(hot, Order::ZERO, context, request),
        }
    }

    /// Completes an allocation of this order after the hot path.
    #[inline]
    pub(crate) fn complete<'f>(
        &'f self,
        hot: Hot<'_>,
        order: Order,
        context: &impl Context,
        request: &Request,
    ) -> Option<Block<'f, 'm, P>> {
        match hot {
            Hot::Taken(pfn) => Some(self.block(pfn, order)),
            Hot::TakenUnsettled(pfn) => self.complete_slow(pfn, order),
            Hot::Outside => self.get_untraced(context, request),
            Hot::Unserved(inside) | Hot::Inside(inside) => {
                self.leave_and_walk(inside, context, request)
            }
        }
    }

    /// Takes a single frame for a plain request, if this CPU has one in the cache to try first.
    #[inline]
    pub(crate) fn take_hot(&self, context: &impl Context, request: &Request) -> Hot<'_> {
        if cpuset::may_confine(self.platform(), context) {
            return Hot::Outside;
        }
        let Some(inside) = self.caches().enter() else {
            return Hot::Outside;
        };
        let cpu = self.caches().caches_of(&inside);
        let Some(cache) = cpu.pcp.get(cpu.first_caches.cache(request.class())) else {
            return Hot::Unserved(inside);
        };
        self.take_top(inside, cache, Order::ZERO, request, || {
            cache.taken_by(context.kind())
        })
    }

    /// Takes the top of a cache for a request, writes its entry and counts the allocation.
    #[inline(always)]
    fn take_top<'f, const N: usize>(
        &'f self,
        inside: Inside<'f>,
        cache: &FrameStack<N>,
        order: Order,
        request: &Request,
        taken: impl FnOnce() -> &'f Counter,
    ) -> Hot<'f> {
        step!(self);
        let Some(pfn) = self.caches().pop_labelled(cache, order, request, &inside) else {
            return Hot::Inside(inside);
        };
        taken().add(1);
        step!(self);
        if self.caches().leave_gate(inside) {
            return Hot::TakenUnsettled(pfn);
        }
        Hot::Taken(pfn)
    }

    #[inline(never)]
    fn leave_and_walk<'f>(
        &'f self,
        inside: Inside<'_>,
        context: &impl Context,
        request: &Request,
    ) -> Option<Block<'f, 'm, P>> {
        self.caches().leave_unpinned(inside);
        self.get_untraced(context, request)
    }

    #[cold]
    #[inline(never)]
    fn complete_slow<'f>(&'f self, pfn: Pfn, order: Order) -> Option<Block<'f, 'm, P>> {
        self.caches().settle();
        Some(self.block(pfn, order))
    }

    /// Completes an allocation that [`Frames::take_hot`] has declined. If the request is plain but
    /// for its order, tries this CPU's cache of that order, without walk and watermark test.
    /// Otherwise takes the general path.
    #[inline(never)]
    pub(crate) fn complete_block<'f>(
        &'f self,
        inside: Inside<'_>,
        context: &impl Context,
        request: &Request,
    ) -> Option<Block<'f, 'm, P>> {
        let hot = self.take_block_hot(inside, context, request);
        self.complete(hot, request.order(), context, request)
    }

    /// Takes a block of the request's order, if this CPU has one in the cache to try first.
    #[inline(always)]
    pub(crate) fn take_block_hot<'f>(
        &'f self,
        inside: Inside<'f>,
        context: &impl Context,
        request: &Request,
    ) -> Hot<'f> {
        let cpu = self.caches().caches_of(&inside);
        let number = cpu.first_caches.cache(request.class_of_any_size());
        if number >= CACHES {
            return Hot::Inside(inside);
        }
        let order = request.order();
        let place = place_of(number, order);
        self.take_top(inside, &cpu.blocks[place], order, request, || {
            &cpu.taken[place].0[context.kind() as usize]
        })
    }

    /// Finds the cache to try first for requests of this class, and stores its number, if this CPU
    /// knows none. The general path calls it.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_first(&self, class: Class, ac: &AllocContext) {
        if !class.is_plain() {
            return;
        }
        let pinned = Pinned::new(self.platform());
        let cpu = self.caches().this_cpu(pinned.on_cpu());
        let first = &cpu.first_caches.0[class.index()];
        if first.load(Ordering::Relaxed) != FirstCaches::UNKNOWN {
            return;
        }
        // Acquire pairs with the release in `forget_firsts`: the list is at least as new as the
        // count.
        let before = self.lists().rebuilt().0.load(Ordering::Acquire);
        let (list, _) = self.list_in_force(ac, pinned.on_cpu());
        // A cpuset may confine the task of this request. It does not confine the class.
        let anywhere = Eligible {
            nodes: NodeMask::ALL,
            ..ac.eligible
        };
        // A walk compares the entries' indices, and while the list is rewritten an index may be
        // another zone's (H7). So the zone's own kind is compared as well before it is remembered.
        let between = || self.platform().point(Point::NoteEntry);
        let mut eligible = list.walk(0, anywhere, between).map(|(_, zone)| zone);
        let is_its_own = |zone: &ZoneId| {
            zone.kind() <= anywhere.highest || self.platform().planted(Mistake::TornRemembered)
        };
        let Some(zone) = eligible.find(is_its_own) else {
            return;
        };
        let cache = PageblockFlags::cache_of(zone, MigrateType::of(ac.gfp).within(zone));
        step!(self);
        first.store(cache as u32, Ordering::Relaxed);
        self.platform().point(Point::FirstNoted { zone });
        step!(self);
        // The fence pairs with that in `forget_firsts`: either this load sees the new count and
        // resets the number, or `forget_firsts` resets it after this store.
        fence(Ordering::SeqCst);
        if self.lists().rebuilt().0.load(Ordering::Relaxed) != before {
            first.store(FirstCaches::UNKNOWN, Ordering::Relaxed);
        }
    }

    /// Resets the first caches of all CPUs, after the lists have changed.
    pub(crate) fn forget_firsts(&self, _: &Resizing<'_>) {
        // Release pairs with the acquire in `note_first`.
        self.lists().rebuilt().0.fetch_add(1, Ordering::Release);
        // The fence pairs with that in `note_first`.
        fence(Ordering::SeqCst);
        for cpu in self.caches().cpus() {
            cpu.first_caches.forget();
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "hot_tests.rs"]
mod tests;
