//! The allocator as its callers see it: what it consists of, and what is answered by one part.

use crate::{
    base::{
        owner::{FrameState, Owner},
        pin::Pinned,
        resizing::ResizingLock,
        types::{MAX_CPUS, MAX_NODES, NodeId, Pfn, ZoneId, ZoneKind},
    },
    cache::{
        Caches,
        cpu::{CpuCaches, PerCpu},
        events::ZoneEvents,
    },
    pageblock::{books::Books, section_meta::SectionSlot},
    zone::{Zone, Zones},
    zonelist::{ListKind, ListSnapshot, Node, Variant, Zonelists, rebuild::RebuildStats},
};
use tidemark_sync::{HardIrq, Task, atomic::AtomicU32};

/// The memory that the allocator works in.
#[derive(Debug, Clone, Copy)]
pub struct Storage<'m> {
    /// One place a memory section, up to the highest section that may ever be plugged in.
    pub sections: &'m [SectionSlot<'m>],
    /// One a CPU.
    pub cpus: &'m [CpuCaches],
    /// One a node.
    pub nodes: &'m [Node],
    /// Four a node.
    pub zones: &'m [Zone],
}

/// The frame allocator. Everything but set-up and hot-plug may be called in any context.
#[repr(C)]
pub struct Frames<'m, P: PerCpu> {
    caches: Caches<'m, P>,
    lists: Zonelists<'m, P>,
    resizing: ResizingLock,
    /// Compactions that have, or are about to have, pageblocks isolated.
    compacting: AtomicU32,
}

impl<'m, P: PerCpu> Frames<'m, P> {
    /// Makes an allocator without memory. `storage.zones` has four entries a node.
    ///
    /// # Panics
    ///
    /// Panics if the storage has no CPU or node, more than the limits, or not four zones a node.
    pub fn new(platform: P, storage: Storage<'m>, variant: Variant) -> Self {
        assert!((1..=MAX_CPUS).contains(&storage.cpus.len()));
        assert!((1..=MAX_NODES).contains(&storage.nodes.len()));
        assert_eq!(
            storage.zones.len(),
            storage.nodes.len() * ZoneKind::ALL.len()
        );
        let zones = Zones::new(platform, Books::new(storage.sections), storage.zones);
        Self {
            caches: Caches::new(zones, storage.cpus),
            lists: Zonelists::new(storage.nodes, variant),
            resizing: ResizingLock::new(),
            compacting: AtomicU32::new(0),
        }
    }

    /// Returns the platform.
    #[inline]
    pub fn platform(&self) -> &P {
        self.caches.platform()
    }

    #[inline]
    pub(crate) fn caches(&self) -> &Caches<'m, P> {
        &self.caches
    }

    #[inline]
    pub(crate) fn zone_table(&self) -> &Zones<'m, P> {
        self.caches.zones()
    }

    #[inline]
    pub(crate) fn books(&self) -> &Books<'m> {
        self.caches.books()
    }

    #[inline]
    pub(crate) fn lists(&self) -> &Zonelists<'m, P> {
        &self.lists
    }

    pub(crate) fn resizing_lock(&self) -> &ResizingLock {
        &self.resizing
    }

    /// Compactions that have, or are about to have, pageblocks isolated.
    pub(crate) fn compacting(&self) -> &AtomicU32 {
        &self.compacting
    }

    /// Returns the zonelist protocol in force.
    pub fn variant(&self) -> Variant {
        self.lists.chosen().variant()
    }

    /// Returns a node's zonelist as it is now. Any context.
    ///
    /// # Panics
    ///
    /// Panics if the node is beyond the storage.
    pub fn zonelist(&self, node: NodeId, list: ListKind) -> ListSnapshot {
        let _pinned = Pinned::new(self.platform());
        self.lists.snapshot(node, list)
    }

    /// Returns the count that observers see: odd while a rebuild is under way. Any context.
    pub fn rebuild_counter(&self) -> u32 {
        self.lists.protocol().observe().value()
    }

    /// Rebuilds so far. Any context.
    pub fn rebuild_stats(&self) -> RebuildStats {
        self.lists.rebuild_stats()
    }

    /// Handles the drain IPI: empties this CPU's caches, or leaves that to the gated section that
    /// it interrupted, which does it on its way out.
    pub fn drain_local(&self, irq: &HardIrq) {
        self.caches.drain_local(irq);
    }

    /// Empties every CPU's caches and returns when all of them are drained. Not on behalf of an
    /// interrupt: it waits for the others.
    pub fn drain_all(&self, task: &Task) {
        self.caches.drain_all(task);
    }

    /// Returns what happened in a zone since boot. Any context.
    ///
    /// # Panics
    ///
    /// Panics if the zone's node is beyond the storage.
    pub fn zone_events(&self, id: ZoneId) -> ZoneEvents {
        self.caches.zone_events(id)
    }

    /// Returns what a frame's entry says; [`FrameState::Absent`] for what is not the allocator's.
    /// Any context.
    pub fn frame_state(&self, pfn: Pfn) -> FrameState {
        self.books().frame_state(pfn)
    }

    /// Changes the owner of an allocated block by its first frame, if it is `from` now; returns
    /// whether it was. Any context.
    pub fn change_owner(&self, pfn: Pfn, from: Owner, to: Owner) -> bool {
        self.books().change_owner(pfn, from, to)
    }

    /// Returns the zone of a frame's pageblock, while that is online. Any context.
    pub fn zone_of(&self, pfn: Pfn) -> Option<ZoneId> {
        self.books().zone_of(pfn)
    }
}
