//! The allocator and its fast path.

use crate::{
    AddError, Block, BlockMeta, BlockNo, BlockSlot, CpuCaches, FrameHandle, FrameState,
    ListSnapshot, Node, NodeId, Order, Owner, Pfn, PfnRange, Platform, RebuildStats, Request,
    Topology, Variant, Zone, ZoneId, ZoneInfo, zonelist::ListKind,
};
use tidemark_sync::{Context, HardIrq, Task};

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
    variant: Variant,
}

impl<'m, P: Platform> Frames<'m, P> {
    /// Makes an allocator without memory. `storage.zones` has four entries a node.
    ///
    /// # Panics
    ///
    /// Panics if the storage has no CPU or node, more than the limits, or not four zones a node.
    pub fn new(platform: P, storage: Storage<'m>, variant: Variant) -> Self {
        Self {
            platform,
            storage,
            variant,
        }
    }

    /// The surroundings.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// The zonelist protocol in force.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// Sets the nodes and their distances, and computes each node's order of nodes. At boot, before
    /// memory is added; later in a task.
    pub fn set_topology(&self, topology: &Topology) {
        let _ = topology;
        todo!()
    }

    /// Hands in the books of a block. They stay for good: a block that leaves and comes back keeps them.
    ///
    /// # Errors
    ///
    /// [`AddError::NoBlock`] beyond the table; [`AddError::Present`] if the block has books already.
    pub fn add_block(&self, block: BlockNo, meta: &'m BlockMeta) -> Result<(), AddError> {
        let _ = (block, meta);
        todo!()
    }

    /// Whether a block has books.
    pub fn has_block(&self, block: BlockNo) -> bool {
        let _ = block;
        todo!()
    }

    /// Adds memory of the boot map, frame by frame if need be, to a zone; several ranges may share
    /// an area if they share the zone. Returns the number of frames added. Before other CPUs allocate; follow with
    /// [`Frames::finish_boot`].
    ///
    /// # Errors
    ///
    /// See [`AddError`]; frames before the one named have been added.
    pub fn add_boot_range(&self, range: PfnRange, zone: ZoneId) -> Result<u64, AddError> {
        let _ = (range, zone);
        todo!()
    }

    /// Computes marks and builds the zonelists for the first time.
    pub fn finish_boot(&self) {
        todo!()
    }

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
    pub fn alloc_traced<'f>(
        &'f self,
        context: &impl Context,
        request: &Request,
        walk: &mut WalkInfo,
    ) -> Result<Block<'f, 'm, P>, AllocError> {
        let _ = (context, request, walk);
        todo!()
    }

    /// Allocates from one zone, whatever its marks: for tests and for pressure.
    pub fn alloc_in_zone<'f>(
        &'f self,
        zone: ZoneId,
        order: Order,
        owner: Owner,
    ) -> Option<Block<'f, 'm, P>> {
        let _ = (zone, order, owner);
        todo!()
    }

    /// Takes a handle back as a block.
    ///
    /// # Errors
    ///
    /// Returns the handle if no such block is allocated; the error is reported to the platform.
    pub fn adopt<'f>(&'f self, handle: FrameHandle) -> Result<Block<'f, 'm, P>, FrameHandle> {
        let _ = handle;
        todo!()
    }

    /// Frees a block by number, checking it against its entry. Any context.
    pub(crate) fn free_raw(&self, pfn: Pfn, order: Order) {
        let _ = (pfn, order);
        todo!()
    }

    /// What a frame's entry says; [`FrameState::Absent`] for what is not the allocator's.
    pub fn frame_state(&self, pfn: Pfn) -> FrameState {
        let _ = pfn;
        todo!()
    }

    /// Changes the owner of an allocated block by its first frame, if it is `from` now; returns
    /// whether it was.
    pub fn change_owner(&self, pfn: Pfn, from: Owner, to: Owner) -> bool {
        let _ = (pfn, from, to);
        todo!()
    }

    /// The zone of a frame's area, while that is online.
    pub fn zone_of(&self, pfn: Pfn) -> Option<ZoneId> {
        let _ = pfn;
        todo!()
    }

    /// The handler of the drain IPI: empties this CPU's caches, or leaves that to the interrupted
    /// section if there is one.
    pub fn drain_local(&self, irq: &HardIrq) {
        let _ = irq;
        todo!()
    }

    /// Empties every CPU's caches and returns when all of them are drained.
    pub fn drain_all(&self, task: &Task) {
        let _ = task;
        todo!()
    }

    /// A zone's counters and marks.
    pub fn zone_info(&self, zone: ZoneId) -> ZoneInfo {
        let _ = zone;
        todo!()
    }

    /// Every zone with memory, by node, lowest kind first.
    pub fn zones(&self) -> impl Iterator<Item = ZoneInfo> + '_ {
        core::iter::empty()
    }

    /// Frames that are free in all zones; caches and isolated areas are not counted.
    pub fn free_frames(&self) -> u64 {
        todo!()
    }

    /// Frames that the background reclaimer of `node` should free so that each of its zones is above its HIGH mark.
    pub fn reclaim_wanted(&self, node: NodeId) -> u64 {
        let _ = node;
        todo!()
    }

    /// A node's zonelist as it is now.
    pub fn zonelist(&self, node: NodeId, list: ListKind) -> ListSnapshot {
        let _ = (node, list);
        todo!()
    }

    /// The protocol's counter, where it has one: odd while a rebuild is under way.
    pub fn rebuild_counter(&self) -> u32 {
        todo!()
    }

    /// Rebuilds so far.
    pub fn rebuild_stats(&self) -> RebuildStats {
        todo!()
    }
}
