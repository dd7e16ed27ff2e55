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
    BlockMeta, CpuCaches, Frames, FreeFault, NodeMask, Order, Pfn, Platform, Request,
    alloc::Walk,
    cpuset,
    home::Home,
    memory::BLOCK_FRAMES,
    mobility::Mobility,
    mutant::{self, Mutant},
    owner::Entry,
    platform::{Pinned, step},
    request::Class,
    zonelist::Eligible,
};
use core::array;
use tidemark_sync::{
    Context, ContextKind,
    atomic::{AtomicU8, AtomicU32, Ordering, fence},
};

/// Of each class of requests: the number of the cache that serves it first. Written by
/// its own CPU, and by rebuilds, which forget.
#[derive(Debug)]
pub(crate) struct Firsts([AtomicU8; Class::TABLE]);

impl Firsts {
    /// No cache's number.
    const UNKNOWN: u8 = u8::MAX;

    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| AtomicU8::new(Self::UNKNOWN)))
    }

    pub(crate) fn forget(&self) {
        for first in &self.0 {
            first.store(Self::UNKNOWN, Ordering::Relaxed);
        }
    }

    #[inline]
    fn cache(&self, class: Class) -> usize {
        usize::from(self.0[class.index()].load(Ordering::Relaxed))
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

impl<'m, P: Platform> Frames<'m, P> {
    /// Takes a frame for a plain request out of this CPU's cache. Any context.
    #[inline]
    pub(crate) fn alloc_hot(
        &self,
        context: &impl Context,
        request: &Request,
    ) -> Option<(Pfn, &'m BlockMeta)> {
        if cpuset::may_confine(&self.platform, context) {
            return None;
        }
        self.platform.pin();
        let cpu = self.platform.caches(self.storage.cpus);
        let taken = self.pop_hot(cpu, context.kind(), request);
        self.platform.unpin();
        taken
    }

    /// The section of [`Frames::alloc_hot`]. Pinned.
    #[inline]
    fn pop_hot(
        &self,
        cpu: &CpuCaches,
        context: ContextKind,
        request: &Request,
    ) -> Option<(Pfn, &'m BlockMeta)> {
        let cache = cpu.pcp.get(cpu.firsts.cache(request.class()))?;
        self.enter(cpu)?;
        step!(self);
        let mut taken = None;
        // An offline that has just turned the caches off does not matter here: what is in the
        // cache until its drain comes may be handed out, as it might have been a moment before.
        if let Some(pfn) = cache.pop() {
            step!(self);
            if let Some(meta) = self.books_of(pfn) {
                let place = meta.entry_of(pfn);
                let entry = Entry(place.load(Ordering::Relaxed));
                if entry == Entry::CACHED {
                    // The frame is ours alone; whoever looks at the entry meanwhile gets a hint.
                    let entry = Entry::allocated(Order::ZERO, request.owner());
                    place.store(entry.0, Ordering::Relaxed);
                    step!(self);
                    cache.count_taken(context);
                    taken = Some((pfn, meta));
                } else {
                    self.report_fault(FreeFault::CacheCorrupt, pfn, Order::ZERO, entry);
                }
            }
        }
        step!(self);
        self.leave(cpu);
        taken
    }

    /// The books of a frame's block.
    #[inline]
    pub(crate) fn books_of(&self, pfn: Pfn) -> Option<&'m BlockMeta> {
        let slot = self.storage.blocks.get(pfn.0 as usize / BLOCK_FRAMES)?;
        slot.meta.get()
    }

    /// Puts a frame, whose books are known, into this CPU's cache if that is all there is to its
    /// free; returns whether it did. Any context.
    #[inline]
    pub(crate) fn free_hot(&self, pfn: Pfn, meta: &BlockMeta) -> bool {
        let entry = Entry(meta.entry_of(pfn).load(Ordering::Relaxed));
        if !entry.is_allocated(Order::ZERO) {
            return false;
        }
        self.platform.pin();
        let cpu = self.platform.caches(self.storage.cpus);
        let is_cached = self.push_hot(cpu, pfn, meta);
        self.platform.unpin();
        is_cached
    }

    /// The section of [`Frames::free_hot`]. Pinned.
    #[inline]
    fn push_hot(&self, cpu: &CpuCaches, pfn: Pfn, meta: &BlockMeta) -> bool {
        let home = meta.home_of(pfn).cache();
        let (Some(cache), Some(room)) = (cpu.pcp.get(home), self.rooms.get(home)) else {
            return false;
        };
        let tested_early =
            mutant::is(Mutant::IsolationTestedBeforeFlag).then(|| room.is_for(cache.len()));
        step!(self);
        if self.enter(cpu).is_none() {
            return false;
        }
        step!(self);
        // Inside the section: an offline turns the caches off first and drains then. Were this
        // tested before the flag is set, its drain could run in between, and the frame go into a
        // drained cache. Areas are isolated only while the caches of their zone are off.
        let count = cache.len();
        let may = tested_early.unwrap_or_else(|| room.is_for(count)) && cache.has_place(count);
        if may {
            if mutant::is(Mutant::FlagClearedEarly) {
                cpu.owner.clear_early();
            }
            step!(self);
            let place = meta.entry_of(pfn);
            place.store(Entry::CACHED.0, Ordering::Relaxed);
            step!(self);
            cache.push(pfn);
        }
        step!(self);
        self.leave(cpu);
        may
    }

    /// Notes which cache serves requests of this class first, if that is not known on this CPU. The
    /// general path calls it.
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
        let Some((_, zone)) = list.walk(0, anywhere, || ()).next() else {
            return;
        };
        let cache = Home::cache_of(zone, Mobility::of(walk.gfp).within(zone));
        first.store(cache as u8, Ordering::Relaxed);
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
