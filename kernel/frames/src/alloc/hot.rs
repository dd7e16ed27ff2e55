//! The hot path: a plain single frame out of this CPU's cache, and back into it.
//!
//! What a request may use is decided before it comes here: its class (`Request`) is an index into
//! this CPU's table of first zones, and what that says is the number of a cache. There is no walk
//! and no mark test. A cached frame has left its zone's free count already: to hand it out takes
//! nothing from under the mark. The marks stand where frames enter the cache, at the refill and at
//! the free (`room`).
//!
//! Whatever is not plain (no zone known yet, the cache empty, full or in use, a fault found) is
//! left undone for the general path.

use crate::{
    alloc::{
        block::{Block, FrameHandle},
        context::Walk,
        cpuset,
        mobility::Mobility,
    },
    base::{
        mistake::Mistake,
        mutant::{self, Mutant},
        outcome::{AllocError, WalkInfo},
        owner::Entry,
        platform::{Pinned, Platform, Point, step},
        request::{Class, Request},
        types::{NodeMask, Order, Pfn, ZoneId},
    },
    cache::{cpu::CpuCaches, pcp::Pcp},
    frames::Frames,
    pageblock::{
        home::Home,
        memory::{BLOCK_FRAMES, BlockMeta},
    },
    zonelist::Eligible,
};
use core::array;
use tidemark_sync::{
    Context, ContextKind,
    atomic::{AtomicU32, Ordering, fence},
};

/// Of each class of requests: the number of the cache that serves it first. Written by
/// its own CPU, and by rebuilds, which forget.
#[derive(Debug)]
pub(crate) struct Firsts([AtomicU32; Class::TABLE]);

impl Firsts {
    /// No cache's number.
    const UNKNOWN: u32 = u32::MAX;

    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| AtomicU32::new(Self::UNKNOWN)))
    }

    pub(crate) fn forget(&self) {
        for first in &self.0 {
            first.store(Self::UNKNOWN, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn cache(&self, class: Class) -> usize {
        self.0[class.index()].load(Ordering::Relaxed) as usize
    }
}

/// Rebuilds of the zonelists that are over, for those who remember what they read in a list.
#[derive(Debug)]
pub(crate) struct Rebuilt(AtomicU32);

impl Rebuilt {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }
}

/// What became of a request on the hot path.
pub(crate) enum Hot {
    /// A frame came.
    Taken(Pfn),
    /// The same; what is owed at the section's end is to be settled.
    TakenUnsettled(Pfn),
    /// Nothing was begun.
    Outside,
    /// There is no cache of single frames for the request; the section is open still.
    Unserved,
    /// The cache has nothing that could be taken; the section is to be ended.
    Inside,
}

impl<'m, P: Platform> Frames<'m, P> {
    /// Allocates a block: for a plain request from this CPU's cache, else on the general path.
    ///
    /// Whatever is rare is a call at the very end, so that nothing has to be kept for after it.
    #[inline]
    pub(crate) fn alloc_hot<'f>(
        &'f self,
        context: &impl Context,
        request: &Request,
    ) -> Option<Block<'f, 'm, P>> {
        match self.take_hot(context, request) {
            Hot::Unserved => self.alloc_block_hot(context, request),
            hot => self.alloc_after(hot, Order::ZERO, context, request),
        }
    }

    /// The rest of an allocation of that order.
    #[inline]
    pub(crate) fn alloc_after<'f>(
        &'f self,
        hot: Hot,
        order: Order,
        context: &impl Context,
        request: &Request,
    ) -> Option<Block<'f, 'm, P>> {
        match hot {
            Hot::Taken(pfn) => Some(self.block(pfn, order)),
            Hot::TakenUnsettled(pfn) => self.alloc_then_settle(pfn, order),
            Hot::Outside => self.alloc_general(context, request),
            Hot::Unserved | Hot::Inside => self.leave_then_alloc(context, request),
        }
    }

    /// The same, and tells what the request met.
    pub(crate) fn alloc_hot_traced<'f>(
        &'f self,
        context: &impl Context,
        request: &Request,
        info: &mut WalkInfo,
    ) -> Result<Block<'f, 'm, P>, AllocError> {
        let order = request.order();
        let hot = match self.take_hot(context, request) {
            Hot::Unserved => self.take_block_hot(context, request),
            hot => hot,
        };
        match hot {
            Hot::Taken(pfn) => return Ok(self.block(pfn, order)),
            Hot::TakenUnsettled(pfn) => {
                self.settle();
                return Ok(self.block(pfn, order));
            }
            Hot::Outside => {}
            Hot::Unserved | Hot::Inside => self.leave_unpinned(),
        }
        self.alloc_walking(context, request, info)
    }

    #[inline]
    fn take_hot(&self, context: &impl Context, request: &Request) -> Hot {
        if cpuset::may_confine(&self.platform, context) || self.enter().is_none() {
            return Hot::Outside;
        }
        let cpu = self.this_cpu();
        let Some(cache) = cpu.pcp.get(cpu.firsts.cache(request.class())) else {
            return Hot::Unserved;
        };
        step!(self);
        let Some(pfn) = self.pop_hot(cache, context.kind(), request) else {
            return Hot::Inside;
        };
        step!(self);
        if self.end_section() {
            return Hot::TakenUnsettled(pfn);
        }
        Hot::Taken(pfn)
    }

    /// Pops a frame and labels it. Nothing if the cache is empty, or its top is not what it should
    /// be: then it stays for the general path, which reports it. Inside a section.
    #[inline]
    fn pop_hot(&self, cache: &Pcp, context: ContextKind, request: &Request) -> Option<Pfn> {
        // An offline that has just turned the caches off does not matter here: what is in the
        // cache until its drain comes may be handed out, as it might have been a moment before.
        let (pfn, below) = cache.top()?;
        step!(self);
        let place = self.books_of(pfn)?.entry_of(pfn);
        if Entry(place.load(Ordering::Relaxed)) != Entry::CACHED {
            return None;
        }
        cache.cut_to(below);
        step!(self);
        // The frame is ours alone; whoever looks at the entry meanwhile gets a hint.
        place.store(request.entry().0, Ordering::Relaxed);
        step!(self);
        cache.count_taken(context);
        Some(pfn)
    }

    #[inline(never)]
    fn leave_then_alloc<'f>(
        &'f self,
        context: &impl Context,
        request: &Request,
    ) -> Option<Block<'f, 'm, P>> {
        self.leave_unpinned();
        self.alloc_general(context, request)
    }

    /// Ends a section, and does what is owed. Not pinned.
    pub(crate) fn leave_unpinned(&self) {
        if self.end_section() {
            self.settle();
        }
    }

    #[cold]
    #[inline(never)]
    fn alloc_then_settle<'f>(&'f self, pfn: Pfn, order: Order) -> Option<Block<'f, 'm, P>> {
        self.settle();
        Some(self.block(pfn, order))
    }

    /// The books of a frame's block; of one that has none those of [`crate::BlockSlot::meta_or_none`].
    #[inline]
    pub(crate) fn books_of(&self, pfn: Pfn) -> Option<&'m BlockMeta> {
        let slot = self.storage.blocks.get(pfn.0 as usize / BLOCK_FRAMES)?;
        Some(slot.meta_or_none())
    }

    /// Frees a block: a single frame into this CPU's cache, if that has room. Any context.
    #[inline(never)]
    pub(crate) fn free_hot(&self, handle: FrameHandle) {
        let pfn = handle.single();
        // A larger block has no books under this number.
        let Some(meta) = self.books_of(pfn) else {
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
        let Some(room) = self.rooms.get(home) else {
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
            self.platform.end_section();
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
            self.platform.begin_section();
        }
        if self.end_section() {
            self.settle();
        }
    }

    fn has_room(&self, cpu: &CpuCaches, home: Home) -> bool {
        let home = home.cache();
        let places = cpu.pcp.get(home).zip(self.rooms.get(home));
        places.is_some_and(|(cache, room)| room.is_for(cache.len()))
    }

    /// Frees a single frame that no cache is for now.
    #[inline(never)]
    fn free_uncached(&self, pfn: Pfn, meta: &'m BlockMeta) {
        let _pinned = Pinned::new(&self.platform);
        self.free_to_area(pfn, meta);
    }

    /// Frees a single frame whose cache has no room: into its area, unless it lies in the word of the
    /// one before it. Inside a section, which it ends.
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

    /// The same for frames that come in a row: some of the cache go back together. Inside a section,
    /// which it ends.
    #[inline(never)]
    fn free_in_row(&self, pfn: Pfn, meta: &'m BlockMeta) {
        let _pinned = Pinned::new(&self.platform);
        let cpu = self.this_cpu();
        let home = meta.home_of(pfn);
        let zone = home.zone();
        match (cpu.pcp.get(home.cache()), self.rooms.get(home.cache())) {
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

    /// Notes which cache serves requests of this class first, if that is not known on this CPU. The
    /// general path calls it.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_first(&self, class: Class, walk: &Walk) {
        if !class.is_plain() {
            return;
        }
        let _pinned = Pinned::new(&self.platform);
        let first = &self.this_cpu().firsts.0[class.index()];
        if first.load(Ordering::Relaxed) != Firsts::UNKNOWN {
            return;
        }
        // Acquire pairs with the release in `forget_firsts`: the list is not older than the count.
        let before = self.rebuilt.0.load(Ordering::Acquire);
        let (list, _) = self.list_in_force(walk);
        // Of the task that asks, a cpuset may have taken nodes away; of the class it has not.
        let anywhere = Eligible {
            nodes: NodeMask::ALL,
            ..walk.eligible
        };
        // A walk goes by the entries' indices, and one of them may be another zone's while the list
        // is rewritten (H7). What is remembered is looked at by the zone's own kind as well.
        let between = || self.platform.point(Point::NoteEntry);
        let mut eligible = list.walk(0, anywhere, between).map(|(_, zone)| zone);
        let is_its_own = |zone: &ZoneId| {
            zone.kind() <= anywhere.highest || self.platform.planted(Mistake::TornRemembered)
        };
        let Some(zone) = eligible.find(is_its_own) else {
            return;
        };
        let cache = Home::cache_of(zone, Mobility::of(walk.gfp).within(zone));
        step!(self);
        first.store(cache as u32, Ordering::Relaxed);
        self.platform.point(Point::FirstNoted { zone });
        step!(self);
        // Pairs with the fence in `forget_firsts`: either this sees the new count and forgets
        // itself, or that forgets after this store.
        fence(Ordering::SeqCst);
        if self.rebuilt.0.load(Ordering::Relaxed) != before {
            first.store(Firsts::UNKNOWN, Ordering::Relaxed);
        }
    }

    /// Forgets what CPUs have noted: the lists have changed. Under the hot-plug lock, or at boot.
    pub(crate) fn forget_firsts(&self) {
        // Release pairs with the acquire in `note_first`.
        self.rebuilt.0.fetch_add(1, Ordering::Release);
        // Pairs with the fence in `note_first`.
        fence(Ordering::SeqCst);
        for cpu in self.storage.cpus {
            cpu.firsts.forget();
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "hot_tests.rs"]
mod tests;
