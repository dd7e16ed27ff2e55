//! The call, and the hot path: a plain block out of this CPU's cache.
//!
//! What a request may use is decided before it comes here: its class (`Request`) is an index into
//! this CPU's table of first zones, and what that says is the number of a cache. There is no walk
//! and no watermark test. A cached frame has left its zone's free count already: to hand it out
//! takes nothing from under the watermark. The watermarks stand where frames enter the cache, at
//! the refill and at the free (`CacheLimit`).
//!
//! Whatever is not plain (no zone known yet, the cache empty, full or in use, a fault found) is
//! left undone for the general path.

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

/// What became of a request on the hot path.
pub(crate) enum Hot<'c> {
    /// A frame came.
    Taken(Pfn),
    /// A frame came; what is owed at the gated section's end is to be settled.
    TakenUnsettled(Pfn),
    /// Nothing was begun.
    Outside,
    /// There is no cache of single frames for the request; the gated section is open still.
    Unserved(Inside<'c>),
    /// The cache has nothing that could be taken; the gated section is to be ended.
    Inside(Inside<'c>),
}

impl<'m, P: PerCpu> Frames<'m, P> {
    /// Allocates a block. DIRECT_RECLAIM acts only with a task token.
    ///
    /// # Errors
    ///
    /// See [`AllocError`].
    #[inline]
    pub fn alloc<'f>(
        &'f self,
        context: &impl Context,
        request: &Request,
    ) -> Result<Block<'f, 'm, P>, AllocError> {
        // Why nothing came is found out at the end: an error in the result would keep that out of
        // registers.
        self.get_hot(context, request)
            .ok_or_else(|| self.why_not(request))
    }

    /// Allocates a block, and tells what the request met.
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

    /// Gets a block: for a plain request from this CPU's cache, else on the general path.
    ///
    /// Whatever is rare is a call at the very end, so that nothing has to be kept for after it.
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

    /// Completes an allocation of that order.
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

    /// Takes a single frame for a plain request, if this CPU has one; labels and counts it.
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

    /// Takes the top of a cache for a request; labels and counts it.
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

    /// Allocates a block above order 0: a plain request but for its size out of this CPU's cache of
    /// the zone that serves its class first, without walk and watermark test, as `take_hot`, which
    /// has declined it; else on the general path.
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

    /// Takes the block for it, if there is one.
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

    /// Notes which cache serves requests of this class first, if that is not known on this CPU. The
    /// general path calls it.
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
        // Acquire pairs with the release in `forget_firsts`: the list is not older than the count.
        let before = self.lists().rebuilt().0.load(Ordering::Acquire);
        let (list, _) = self.list_in_force(ac, pinned.on_cpu());
        // Of the task that asks, a cpuset may have taken nodes away; of the class it has not.
        let anywhere = Eligible {
            nodes: NodeMask::ALL,
            ..ac.eligible
        };
        // A walk goes by the entries' indices, and one of them may be another zone's while the list
        // is rewritten (H7). What is remembered is looked at by the zone's own kind as well.
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
        // Pairs with the fence in `forget_firsts`: either this sees the new count and forgets
        // itself, or that forgets after this store.
        fence(Ordering::SeqCst);
        if self.lists().rebuilt().0.load(Ordering::Relaxed) != before {
            first.store(FirstCaches::UNKNOWN, Ordering::Relaxed);
        }
    }

    /// Forgets what CPUs have noted: the lists have changed.
    pub(crate) fn forget_firsts(&self, _: &Resizing<'_>) {
        // Release pairs with the acquire in `note_first`.
        self.lists().rebuilt().0.fetch_add(1, Ordering::Release);
        // Pairs with the fence in `note_first`.
        fence(Ordering::SeqCst);
        for cpu in self.caches().cpus() {
            cpu.first_caches.forget();
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "hot_tests.rs"]
mod tests;
