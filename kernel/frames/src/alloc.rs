//! The allocator and its fast path.

use crate::{
    Block, BlockSlot, CpuCaches, Gfp, Node, NodeId, Order, Owner, Pfn, Platform, Request, Variant,
    Zone, ZoneId,
    owner::Entry,
    rebuild::RebuildTimes,
    zone::{Access, Mark, Reserves},
    zonelist::{Eligible, List, ListKind, Seed},
};
use tidemark_sync::{
    Context,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

/// The memory that the allocator works in.
#[derive(Debug, Clone, Copy)]
pub struct Storage<'m> {
    /// One place a block of 128 MiB, up to the highest block that may ever be plugged in.
    pub blocks: &'m [BlockSlot<'m>],
    /// One a CPU.
    pub cpus: &'m [CpuCaches],
    /// One a node.
    pub nodes: &'m [Node],
    /// Four a node.
    pub zones: &'m [Zone],
}

/// What one request met on its way; for counters by source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkInfo {
    /// It entered the slow path.
    pub slow: bool,
    /// The counter was odd at (one of) its begins.
    pub odd: bool,
    /// The counter was odd at a begin, or another one at the end: the walk overlapped a rebuild.
    pub overlapped: bool,
    /// How often the counter made it start again.
    pub retries: u32,
}

/// Why no block came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocError {
    /// No zone that the request may use had a block to give.
    NoMemory {
        /// The size wanted.
        order: Order,
    },
    /// The wanted node does not exist.
    NoNode(NodeId),
}

/// The frame allocator. Everything but set-up and hot-plug may be called in any context.
pub struct Frames<'m, P: Platform> {
    pub(crate) platform: P,
    pub(crate) storage: Storage<'m>,
    pub(crate) variant: Variant,
    pub(crate) seed: Seed<P>,
    pub(crate) rebuilds: RebuildTimes,
    /// Number of the last drain that somebody asked for.
    pub(crate) drains: AtomicU32,
    /// Whether hot-plug, or set-up, is under way.
    pub(crate) resizing: AtomicBool,
}

/// A request on its way: what it may use, and where its walks begin.
pub(crate) struct Walk<'m> {
    pub(crate) gfp: Gfp,
    pub(crate) order: Order,
    pub(crate) owner: Owner,
    pub(crate) node: NodeId,
    pub(crate) list: List<'m>,
    pub(crate) eligible: Eligible,
    /// Position in the list where walks begin; remembered across them.
    pub(crate) preferred: usize,
}

impl<'m, P: Platform> Frames<'m, P> {
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
        self.alloc_traced(context, request, &mut WalkInfo::default())
    }

    /// Allocates a block, and tells what the request met.
    ///
    /// # Errors
    ///
    /// See [`AllocError`].
    #[inline]
    pub fn alloc_traced<'f>(
        &'f self,
        context: &impl Context,
        request: &Request,
        info: &mut WalkInfo,
    ) -> Result<Block<'f, 'm, P>, AllocError> {
        let mut walk = self.begin_walk(request)?;
        let access = Access {
            mark: Mark::Low,
            reserves: Reserves::None,
            highest: walk.eligible.highest,
        };
        let pfn = match self.try_list(&walk, access) {
            Some(pfn) => pfn,
            None => self.alloc_slow(context, &mut walk, info)?,
        };
        if request.gfp.contains(Gfp::ZERO) {
            self.platform.zero(pfn, request.order);
        }
        Ok(Block {
            frames: self,
            pfn,
            order: request.order,
        })
    }

    #[inline]
    fn begin_walk(&self, request: &Request) -> Result<Walk<'m>, AllocError> {
        let node = request.node.unwrap_or_else(|| self.platform.local_node());
        let lists = self.storage.nodes.get(node.0 as usize);
        let list =
            lists
                .ok_or(AllocError::NoNode(node))?
                .list(if request.gfp.contains(Gfp::THISNODE) {
                    ListKind::NoFallback
                } else {
                    ListKind::Fallback
                });
        let eligible = Eligible {
            highest: request.gfp.highest_zone(),
            nodes: request.nodes,
        };
        Ok(Walk {
            gfp: request.gfp,
            order: request.order,
            owner: request.owner,
            node,
            list,
            eligible,
            preferred: list.preferred(eligible),
        })
    }

    /// One walk of the list from the preferred entry on: the first zone above its mark that has a block.
    #[inline]
    pub(crate) fn try_list(&self, walk: &Walk<'m>, access: Access) -> Option<Pfn> {
        walk.list
            .walk(walk.preferred, walk.eligible, || ())
            .filter(|&(_, zone)| self.zone(zone).mark_ok(walk.order, access))
            .find_map(|(_, zone)| self.take(zone, walk.order, walk.owner))
    }

    /// Takes a block from a zone, whatever its marks: single frames through this CPU's cache.
    #[inline]
    pub(crate) fn take(&self, zone: ZoneId, order: Order, owner: Owner) -> Option<Pfn> {
        self.platform.pin();
        let cpu = self.this_cpu();
        let cached = if order == Order::ZERO {
            self.take_cached(zone, cpu)
        } else {
            None
        };
        let pfn = cached.or_else(|| self.take_from_zone(zone, order, cpu));
        if let Some((area, frame)) = pfn.and_then(|pfn| self.area_of(pfn)) {
            // The frame is ours alone; whoever looks at the entry meanwhile gets a hint.
            let entry = Entry::allocated(order, owner);
            area.entry(frame).store(entry.0, Ordering::Relaxed);
        }
        self.platform.unpin();
        pfn
    }

    /// Allocates from one zone, whatever its marks: for tests and for pressure.
    pub fn alloc_in_zone<'f>(
        &'f self,
        zone: ZoneId,
        order: Order,
        owner: Owner,
    ) -> Option<Block<'f, 'm, P>> {
        let pfn = self.take(zone, order, owner)?;
        Some(Block {
            frames: self,
            pfn,
            order,
        })
    }
}
