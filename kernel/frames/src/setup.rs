//! Setting up: nodes, books, boot memory.

use crate::{
    AddError, BlockMeta, BlockNo, Frames, MAX_CPUS, MAX_NODES, Pfn, PfnRange, Platform, Storage,
    Topology, Variant, ZoneId, ZoneKind,
    area::State,
    memory::{AREA_FRAMES, AreaRef},
    owner::Entry,
    rebuild::RebuildTimes,
    zonelist::{self, Seed},
};
use tidemark_sync::atomic::{AtomicBool, AtomicU32, Ordering};

impl<'m, P: Platform> Frames<'m, P> {
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
        Self {
            platform,
            storage,
            variant,
            seed: Seed::default(),
            rebuilds: RebuildTimes::new(),
            drains: AtomicU32::new(0),
            resizing: AtomicBool::new(false),
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
    /// [`Frames::finish_boot`]; nodes beyond the storage are left out.
    pub fn set_topology(&self, topology: &Topology) {
        let mut known = *topology;
        known.nodes.0 &= (u16::MAX >> (16 - self.storage.nodes.len())) as u8;
        let orders = zonelist::node_orders(&known);
        for (node, order) in self.storage.nodes.iter().zip(&orders) {
            node.set_order(order);
        }
    }

    /// Hands in the books of a block. They stay for good: a block that leaves and comes back keeps
    /// them.
    ///
    /// # Errors
    ///
    /// [`AddError::NoBlock`] beyond the table; [`AddError::Present`] if the block has books already.
    pub fn add_block(&self, block: BlockNo, meta: &'m BlockMeta) -> Result<(), AddError> {
        let at = block.start();
        let slot = self.storage.blocks.get(block.0);
        let slot = slot.ok_or(AddError::NoBlock { at })?;
        if slot.meta.is_completed() {
            return Err(AddError::Present { at });
        }
        slot.meta.call_once(|| meta);
        Ok(())
    }

    /// Whether a block has books.
    pub fn has_block(&self, block: BlockNo) -> bool {
        let slot = self.storage.blocks.get(block.0);
        slot.is_some_and(|slot| slot.meta.is_completed())
    }

    /// Adds memory of the boot map, frame by frame if need be, to a zone; several ranges may share
    /// an area if they share the zone. Returns the number of frames added. Before other CPUs
    /// allocate; follow with [`Frames::finish_boot`].
    ///
    /// # Errors
    ///
    /// See [`AddError`]; frames before the one named have been added.
    pub fn add_boot_range(&self, range: PfnRange, zone: ZoneId) -> Result<u64, AddError> {
        if zone.index() >= self.storage.zones.len() {
            return Err(AddError::NoNode);
        }
        let mut at = range.start;
        while at < range.end {
            let (area, first) = self.area_of(at).ok_or(AddError::NoBlock { at })?;
            let rest = range.end.0 - at.0;
            let frames = rest.min(AREA_FRAMES as u64 - u64::from(first)) as u32;
            self.add_frames(area, first, frames, zone)?;
            at.0 += u64::from(frames);
        }
        Ok(range.len())
    }

    /// Adds some frames of an area.
    fn add_frames(
        &self,
        area: AreaRef<'m>,
        first: u32,
        frames: u32,
        zone: ZoneId,
    ) -> Result<(), AddError> {
        self.open_area(area, zone)?;
        for frame in first..first + frames {
            if area.entry_now(frame) != Entry::ABSENT {
                let at = Pfn(area.start().0 + u64::from(frame));
                return Err(AddError::Present { at });
            }
            area.entry(frame).store(Entry::FREE.0, Ordering::Relaxed);
            area.core()
                .clear_mask(frame as usize / 64, 1 << (frame % 64));
            self.return_frames(area, 1);
            self.zone(zone).grow(1);
        }
        Ok(())
    }

    /// Makes an area present with all of its frames absent, if it is not present yet.
    fn open_area(&self, area: AreaRef<'m>, zone: ZoneId) -> Result<(), AddError> {
        let core = area.core();
        if core.state().is_present() {
            let owner = area.zone();
            let at = area.start();
            return if owner == zone {
                Ok(())
            } else {
                Err(AddError::OtherZone { at, zone: owner })
            };
        }
        for frame in 0..AREA_FRAMES as u32 {
            area.entry(frame).store(Entry::ABSENT.0, Ordering::Relaxed);
        }
        for word in &core.bits.0 {
            word.store(u64::MAX, Ordering::Relaxed);
        }
        area.set_zone(zone);
        self.zone(zone).cover(area.index, area.index + 1);
        core.join(State::FULL);
        Ok(())
    }

    /// Computes marks and builds the zonelists for the first time.
    pub fn finish_boot(&self) {
        self.refresh_policy();
        self.rebuild_zonelists();
    }
}
