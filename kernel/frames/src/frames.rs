//! The allocator: its parts, and the calls that one part answers.

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

/// The memory that the allocator keeps its data in. The caller provides it.
#[derive(Debug, Clone, Copy)]
pub struct Storage<'m> {
    /// One slot for each memory section, up to the highest section that may ever be plugged in.
    pub sections: &'m [SectionSlot<'m>],
    /// One for each CPU: 1 to [`MAX_CPUS`].
    pub cpus: &'m [CpuCaches],
    /// One for each node: 1 to [`MAX_NODES`].
    pub nodes: &'m [Node],
    /// Four for each node.
    pub zones: &'m [Zone],
}

/// The frame allocator. All calls but set-up, hot-plug and drains are allowed in any context.
#[repr(C)]
pub struct Frames<'m, P: PerCpu> {
    caches: Caches<'m, P>,
    lists: Zonelists<'m, P>,
    resizing: ResizingLock,
    /// Number of compactions that have pageblocks isolated, or are about to.
    compacting: AtomicU32,
}

impl<'m, P: PerCpu> Frames<'m, P> {
    /// Makes an allocator without memory.
    ///
    /// # Panics
    ///
    /// Panics if the storage has no CPU or node, more than [`MAX_CPUS`] or [`MAX_NODES`] of them,
    /// or not four zones for each node.
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

    /// Returns the number of compactions that have pageblocks isolated, or are about to.
    pub(crate) fn compacting(&self) -> &AtomicU32 {
        &self.compacting
    }

    /// Returns the zonelist protocol in force.
    pub fn variant(&self) -> Variant {
        self.lists.chosen().variant()
    }

    /// Returns a copy of a node's zonelist. Any context.
    ///
    /// # Panics
    ///
    /// Panics if the allocator has no node of this number.
    pub fn zonelist(&self, node: NodeId, list: ListKind) -> ListSnapshot {
        let _pinned = Pinned::new(self.platform());
        self.lists.snapshot(node, list)
    }

    /// Returns the counter for observers, which is odd while a rebuild is under way. Any context.
    pub fn rebuild_counter(&self) -> u32 {
        self.lists.protocol().observe().value()
    }

    /// Returns the number and times of the rebuilds so far. Any context.
    pub fn rebuild_stats(&self) -> RebuildStats {
        self.lists.rebuild_stats()
    }

    /// Handles the drain interrupt: empties this CPU's caches, or leaves that to the gated section
    /// that it interrupted, which does it at its end.
    /// [`Platform::drain_others`](crate::Platform::drain_others) runs it.
    pub fn drain_local(&self, irq: &HardIrq) {
        self.caches.drain_local(irq);
    }

    /// Empties every online CPU's caches, and returns when all are drained. Only a task may call
    /// it, not pinned and with interrupts on: it waits for the other CPUs.
    pub fn drain_all(&self, task: &Task) {
        self.caches.drain_all(task);
    }

    /// Returns the numbers of events in a zone since boot. Any context.
    ///
    /// # Panics
    ///
    /// Panics if the allocator has no node of this number.
    pub fn zone_events(&self, id: ZoneId) -> ZoneEvents {
        self.caches.zone_events(id)
    }

    /// Returns what a frame's entry says; [`FrameState::Absent`] for a frame that the allocator
    /// does not manage. Any context; a hint, unless the caller owns the frame.
    pub fn frame_state(&self, pfn: Pfn) -> FrameState {
        self.books().frame_state(pfn)
    }

    /// Changes the owner of the allocated block that begins at `pfn`, if it is `from` now; returns
    /// whether it was. Any context.
    pub fn change_owner(&self, pfn: Pfn, from: Owner, to: Owner) -> bool {
        self.books().change_owner(pfn, from, to)
    }

    /// Returns the zone of a frame's pageblock, or `None` if that is not online. Any context.
    pub fn zone_of(&self, pfn: Pfn) -> Option<ZoneId> {
        self.books().zone_of(pfn)
    }
}
