//! The general path, and its first part, the fast path: one walk of the list, down to LOW.

use crate::{
    alloc::{
        block::Block,
        context::{AllocContext, ZoneRequest},
        cpuset,
    },
    base::{
        handle::FrameHandle,
        outcome::{AllocError, WalkInfo},
        owner::{Entry, Owner},
        pin::{OnCpu, Pinned},
        platform::step,
        request::{Gfp, Request},
        types::{Order, Pfn, ZoneId},
    },
    cache::cpu::{PerCpu, ThisCpu},
    frames::Frames,
    pageblock::{flags::CACHES, migrate_type::MigrateType},
    zone::{
        AllocFlags,
        above::{self, ZoneBits},
    },
    zonelist::{Eligible, Generation, List, ListKind},
};
use tidemark_sync::{Context, ContextKind, atomic::Ordering};

impl<'m, P: PerCpu> Frames<'m, P> {
    /// Returns why a request failed.
    #[cold]
    pub(crate) fn why_not(&self, request: &Request) -> AllocError {
        let node = request.node();
        let missing = node.filter(|node| usize::from(node.0) >= self.lists().nodes().len());
        let order = request.order();
        missing.map_or(AllocError::NoMemory { order }, AllocError::NoNode)
    }

    /// Allocates a block by walks of the list, without a record of what they met.
    #[inline(never)]
    pub(crate) fn get_untraced<'f>(
        &'f self,
        context: &impl Context,
        request: &Request,
    ) -> Option<Block<'f, 'm, P>> {
        self.get_by_walk(context, request, &mut WalkInfo::default())
    }

    /// Allocates a block by walks of the list, and records in `info` what they met.
    #[inline(always)]
    pub(crate) fn get_by_walk<'f>(
        &'f self,
        context: &impl Context,
        request: &Request,
        info: &mut WalkInfo,
    ) -> Option<Block<'f, 'm, P>> {
        let mut ac = self.prepare_alloc(context, request)?;
        let pfn = match self.try_list(&ac) {
            Some(pfn) => pfn,
            None => self.alloc_slow(context.task(), &mut ac, info)?,
        };
        if request.gfp().contains(Gfp::ZERO) {
            self.platform().zero(pfn, request.order());
        }
        Some(self.block(pfn, request.order()))
    }

    /// Calls [`Frames::note_first`], if this CPU knows no cache to try first for the request's
    /// class.
    #[inline]
    pub(crate) fn learn_first(&self, ac: &AllocContext, on_cpu: OnCpu<'_>) {
        if ac.class.is_plain()
            && self.caches().this_cpu(on_cpu).first_caches.cache(ac.class) >= CACHES
        {
            self.note_first(ac.class, ac);
        }
    }

    /// Makes the value of a block that the caller has just taken from a pageblock or a cache.
    #[inline]
    pub(crate) fn block<'f>(&'f self, pfn: Pfn, order: Order) -> Block<'f, 'm, P> {
        Block {
            frames: self,
            handle: FrameHandle::new(pfn, order),
        }
    }

    /// Makes the [`AllocContext`] of a request; returns `None` if its node does not exist.
    #[doc(alias = "prepare_alloc_pages")]
    #[inline]
    pub(crate) fn prepare_alloc(
        &self,
        context: &impl Context,
        request: &Request,
    ) -> Option<AllocContext<'m>> {
        let node = request
            .node()
            .unwrap_or_else(|| self.platform().local_node());
        let lists = self.lists().nodes().get(usize::from(node.0))?;
        Some(AllocContext {
            gfp: request.gfp(),
            order: request.order(),
            class: request.class_of_any_size(),
            entry: request.entry(),
            context: context.kind(),
            node,
            lists,
            nodes: request.nodes(),
            kind: if request.gfp().contains(Gfp::THISNODE) {
                ListKind::NoFallback
            } else {
                ListKind::Fallback
            },
            eligible: Eligible {
                highest: request.gfp().highest_zone(),
                nodes: cpuset::own_nodes(self.platform(), context, request.nodes()),
            },
        })
    }

    /// Returns the list in force that the request walks, and its generation. The caller may use
    /// them only as long as it is pinned.
    #[inline]
    pub(crate) fn list_in_force<'p>(
        &self,
        ac: &AllocContext<'p>,
        _: OnCpu<'p>,
    ) -> (List<'p>, Generation) {
        let generation = self.lists().published().current();
        (ac.lists.list(generation.side(), ac.kind), generation)
    }

    /// Walks the list once from its beginning, to the first zone above LOW that has a block. It
    /// uses no zonelist protocol.
    #[inline]
    pub(crate) fn try_list(&self, ac: &AllocContext) -> Option<Pfn> {
        let Eligible { highest, nodes } = ac.eligible;
        let usable = above::usable(highest, nodes);
        let above = self.zone_table().above_low(highest) & usable;
        if above == 0 {
            // The word is a hint. If it is wrong, the request goes on to the slow path.
            return None;
        }
        self.try_zones(ac, above, usable)
    }

    /// Walks the list once, if some zones may be above LOW.
    #[doc(alias = "get_page_from_freelist")]
    #[inline(never)]
    fn try_zones(&self, ac: &AllocContext, mut above: ZoneBits, usable: ZoneBits) -> Option<Pfn> {
        let alloc_flags = AllocFlags::fast(ac.eligible.highest);
        let pinned = Pinned::new(self.platform());
        self.learn_first(ac, pinned.on_cpu());
        let (list, _) = self.list_in_force(ac, pinned.on_cpu());
        loop {
            let (zone, passed) = self.first_among(list, above, usable)?;
            if self.zone_table().watermark_ok(zone, ac.order, alloc_flags) {
                let taken = self.take_pinned(zone, ac.wanted(passed.into()), pinned.on_cpu());
                if taken.is_some() {
                    return taken;
                }
            }
            above &= !(1 << zone.index());
        }
    }

    /// Takes a block from a zone, without a test of its watermarks but a refill's: from this CPU's
    /// cache, from the zone's pageblocks, or by a steal. The caller is pinned.
    #[doc(alias = "rmqueue")]
    #[inline]
    pub(crate) fn take_pinned(
        &self,
        zone: ZoneId,
        wanted: ZoneRequest,
        on_cpu: OnCpu<'_>,
    ) -> Option<Pfn> {
        let wanted = wanted.within(zone);
        let ZoneRequest {
            order,
            migrate_type,
            ..
        } = wanted;
        let cpu = self.caches().this_cpu(on_cpu);
        let cached = if order == Order::ZERO {
            self.caches().take_cached(zone, migrate_type, cpu)
        } else {
            self.caches()
                .take_cached_block(zone, order, migrate_type, cpu)
        };
        let pfn = cached
            .or_else(|| {
                self.zone_table()
                    .take_from_zone(zone, order, migrate_type, &cpu.hints)
            })
            .or_else(|| self.steal(zone, wanted, cpu))?;
        step!(self);
        self.hand_out(zone, pfn, wanted, cpu);
        Some(pfn)
    }

    /// Writes the request's entry to the block that was taken, and counts the allocation.
    #[inline]
    pub(crate) fn hand_out(&self, zone: ZoneId, pfn: Pfn, wanted: ZoneRequest, cpu: ThisCpu<'_>) {
        let order = wanted.order;
        if let Some((pageblock, frame)) = self.books().pageblock_of(pfn) {
            // The block is the caller's alone. Another CPU that reads the entry meanwhile gets a
            // hint.
            pageblock
                .entry(frame)
                .store(wanted.entry.0, Ordering::Relaxed);
            let share = cpu.events[zone.index()].of(wanted.context);
            share.count_allocs(order, 1, wanted.passed);
        }
    }

    /// Allocates from one zone, without a test of its watermarks, for tests and for pressure. It
    /// neither waits nor reclaims. Any context; `context` is the kind that the block is counted
    /// for. Returns `None` if the zone has no such block, or does not exist.
    pub fn alloc_in_zone<'f>(
        &'f self,
        context: ContextKind,
        zone: ZoneId,
        order: Order,
        owner: Owner,
    ) -> Option<Block<'f, 'm, P>> {
        self.zone_table().all().get(zone.index())?;
        let pinned = Pinned::new(self.platform());
        let wanted = ZoneRequest {
            order,
            entry: Entry::allocated(order, owner),
            migrate_type: MigrateType::of_owner(owner),
            context,
            passed: 0,
        };
        let pfn = self
            .take_pinned(zone, wanted, pinned.on_cpu())
            .or_else(|| {
                let pfn = self.zone_table().take_reserved(zone, order)?;
                let cpu = self.caches().this_cpu(pinned.on_cpu());
                self.hand_out(zone, pfn, wanted, cpu);
                Some(pfn)
            })?;
        drop(pinned);
        Some(self.block(pfn, order))
    }
}
