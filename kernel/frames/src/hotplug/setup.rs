//! Set-up of nodes, books and boot memory.

use crate::{
    base::{
        owner::Entry,
        platform::Topology,
        resizing::Resizing,
        types::{Pfn, PfnRange, SectionNo, ZoneId},
    },
    cache::cpu::PerCpu,
    frames::Frames,
    pageblock::{
        bits::State,
        section_meta::{AddError, PAGEBLOCK_FRAMES, PageblockRef, SectionMeta},
    },
    zonelist::{self},
};
use tidemark_sync::atomic::Ordering;

impl<'m, P: PerCpu> Frames<'m, P> {
    /// Sets the nodes and their distances, and computes each node's order of nodes. Nodes that the
    /// allocator does not have are left out. Boot calls it, before [`Frames::finish_boot`].
    pub fn set_topology(&self, topology: &Topology) {
        let mut known = *topology;
        known.nodes.0 &= (u16::MAX >> (16 - self.lists().nodes().len())) as u8;
        let orders = zonelist::node_orders(&known);
        for (node, order) in self.lists().nodes().iter().zip(&orders) {
            node.set_order(order);
        }
    }

    /// Gives a memory section its books. It keeps them for good, even if it leaves and comes back.
    ///
    /// # Errors
    ///
    /// [`AddError::TooHigh`] from [`SectionNo::END`] on; [`AddError::NoSection`] beyond the table;
    /// [`AddError::Present`] if the section has books already.
    pub fn add_section(&self, section: SectionNo, meta: &'m SectionMeta) -> Result<(), AddError> {
        let at = section.start();
        if section >= SectionNo::END {
            return Err(AddError::TooHigh { at });
        }
        let slot = self.books().slot(section);
        let slot = slot.ok_or(AddError::NoSection { at })?;
        slot.fill(meta).map_err(|_| AddError::Present { at })
    }

    /// Returns whether a memory section has books. Any context.
    pub fn has_section(&self, section: SectionNo) -> bool {
        let slot = self.books().slot(section);
        slot.is_some_and(|slot| slot.meta().is_some())
    }

    /// Adds memory of the boot map to a zone, in any number of frames. Ranges may share a pageblock
    /// if they are added to the same zone. Returns the number of frames added. Boot calls it before
    /// other CPUs allocate, and [`Frames::finish_boot`] afterwards.
    ///
    /// # Errors
    ///
    /// See [`AddError`]. The range's frames in pageblocks before the one concerned have been added.
    pub fn add_boot_range(&self, range: PfnRange, zone: ZoneId) -> Result<u64, AddError> {
        if zone.index() >= self.zone_table().all().len() {
            return Err(AddError::NoNode);
        }
        let resizing = self.resizing_lock().lock_at_boot();
        let mut at = range.start;
        while at < range.end {
            let (pageblock, first) = self
                .books()
                .pageblock_of(at)
                .ok_or(AddError::NoSection { at })?;
            let rest = range.end.0 - at.0;
            let frames = rest.min(PAGEBLOCK_FRAMES as u64 - u64::from(first)) as u32;
            self.add_frames(pageblock, first, frames, zone, &resizing)?;
            at.0 += u64::from(frames);
        }
        Ok(range.len())
    }

    /// Adds frames of a pageblock. A whole pageblock that is gone joins by one step, other frames
    /// are added word by word.
    fn add_frames(
        &self,
        pageblock: PageblockRef<'m>,
        first: u32,
        frames: u32,
        zone_id: ZoneId,
        resizing: &Resizing<'_>,
    ) -> Result<(), AddError> {
        let zone = self.zone_table().zone(zone_id);
        let is_whole = frames == PAGEBLOCK_FRAMES as u32;
        if is_whole && pageblock.core().state() == State::GONE {
            // Its bits are clear and its entries say *free*: the books are new, or the pageblock
            // has left them so.
            self.join_zone(pageblock, zone_id, State::EMPTY, resizing);
            self.zone_table().gain(zone_id, frames);
            zone.grow(frames.into(), resizing);
            return Ok(());
        }
        self.open_pageblock(pageblock, zone_id, resizing)?;
        let added = first..first + frames;
        let mut present = added.clone();
        if let Some(frame) = present.find(|&frame| pageblock.entry_now(frame) != Entry::ABSENT) {
            let at = Pfn(pageblock.start().0 + u64::from(frame));
            return Err(AddError::Present { at });
        }
        for frame in added.clone() {
            pageblock
                .entry(frame)
                .store(Entry::FREE.0, Ordering::Relaxed);
        }
        let mut frame = added.start;
        while frame < added.end {
            let bits = (64 - frame % 64).min(added.end - frame);
            let mask = u64::MAX >> (64 - bits) << (frame % 64);
            pageblock.core().clear_mask(frame as usize / 64, mask);
            frame += bits;
        }
        self.caches().return_frames(pageblock, frames);
        zone.grow(frames.into(), resizing);
        Ok(())
    }

    /// Adds a pageblock that is gone to a zone.
    fn join_zone(
        &self,
        pageblock: PageblockRef<'m>,
        zone: ZoneId,
        joined: State,
        resizing: &Resizing<'_>,
    ) {
        pageblock.set_zone(zone, resizing);
        self.zone_table()
            .zone(zone)
            .cover(pageblock.index, pageblock.index + 1, resizing);
        pageblock.core().join(joined, resizing);
    }

    /// Adds a pageblock with all its frames absent to a zone, unless it is there already.
    fn open_pageblock(
        &self,
        pageblock: PageblockRef<'m>,
        zone: ZoneId,
        resizing: &Resizing<'_>,
    ) -> Result<(), AddError> {
        let core = pageblock.core();
        if core.state().is_present() {
            let owner = pageblock.zone();
            let at = pageblock.start();
            return if owner == zone {
                Ok(())
            } else {
                Err(AddError::OtherZone { at, zone: owner })
            };
        }
        for frame in 0..PAGEBLOCK_FRAMES as u32 {
            pageblock
                .entry(frame)
                .store(Entry::ABSENT.0, Ordering::Relaxed);
        }
        for word in &core.bits.0 {
            word.store(u64::MAX, Ordering::Relaxed);
        }
        self.join_zone(pageblock, zone, State::FULL, resizing);
        Ok(())
    }

    /// Computes watermarks and builds the zonelists for the first time. Boot calls it once, after
    /// all boot memory was added.
    #[doc(alias = "build_all_zonelists")]
    pub fn finish_boot(&self) {
        let resizing = self.resizing_lock().lock_at_boot();
        self.refresh_policy(&resizing);
        self.build_zonelists(&resizing);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::base::types::ZoneKind;
    use crate::{
        base::{
            owner::FrameState,
            types::{NodeId, Order},
        },
        testing::*,
    };

    fn range(start: u64, end: u64) -> PfnRange {
        PfnRange::new(Pfn(start), Pfn(end))
    }

    #[test]
    fn fragments_and_whole_pageblocks_add_up_frame_by_frame() {
        let frames = bare_machine(1, 1);
        add_section(frames, 0);
        let zone = zone(0, ZoneKind::Dma);
        let parts = [(3, 5), (64, 129), (190, 512), (512, 1_600), (1_601, 1_602)];
        let mut total = 0;
        for (start, end) in parts {
            total += frames.add_boot_range(range(start, end), zone).unwrap();
        }
        frames.finish_boot();
        let census = assert_sound(frames);
        assert_eq!((census.managed, census.free), (total, total));
        for pfn in 0..2_048 {
            let is_ours = parts
                .iter()
                .any(|&(start, end)| (start..end).contains(&pfn));
            let expected = if is_ours {
                FrameState::Free
            } else {
                FrameState::Absent
            };
            assert_eq!(frames.frame_state(Pfn(pfn)), expected, "frame {pfn}");
        }
        let take = || frames.alloc_in_zone(ContextKind::Task, zone, Order::ZERO, test_owner(1));
        let all = std::iter::from_fn(take).collect::<Vec<_>>();
        assert_eq!(all.len() as u64, total);
        drop(all);
        assert_sound(frames);
    }

    #[test]
    fn what_cannot_be_added_is_named() {
        let frames = bare_machine(1, 1);
        add_section(frames, 0);
        let (dma, dma32) = (zone(0, ZoneKind::Dma), zone(0, ZoneKind::Dma32));
        frames.add_boot_range(range(100, 600), dma).unwrap();
        let at = Pfn(100);
        let twice = frames.add_boot_range(range(90, 110), dma);
        assert_eq!(twice, Err(AddError::Present { at }));
        let other = frames.add_boot_range(range(700, 701), dma32);
        let at = Pfn(512);
        assert_eq!(other, Err(AddError::OtherZone { at, zone: dma }));
        let at = Pfn(1 << 15);
        let beyond = frames.add_boot_range(range(at.0, at.0 + 1), dma32);
        assert_eq!(beyond, Err(AddError::NoSection { at }));
        frames.finish_boot();
        assert_eq!(assert_sound(frames).managed, 500);
        let meta = Box::leak(Box::new(SectionMeta::new()));
        let section = SectionNo(47 + 1);
        let beyond = frames.add_section(section, meta);
        assert_eq!(
            beyond,
            Err(AddError::NoSection {
                at: section.start()
            })
        );
        let nowhere = ZoneId::new(NodeId(7), ZoneKind::Normal);
        let none = frames.alloc_in_zone(ContextKind::Task, nowhere, Order::ZERO, test_owner(1));
        let refused = frames.add_boot_range(range(1_024, 1_025), nowhere);
        assert_eq!(refused, Err(AddError::NoNode));
        let at = Pfn(512);
        let twice = frames.add_boot_range(range(512, 1_024), dma);
        assert_eq!(twice, Err(AddError::Present { at }));
        assert!(none.is_none());
    }

    /// Caches keep 32 bits of a frame's number: the last section below 16 TiB works, and the next
    /// one is refused.
    #[test]
    fn blocks_from_16_tib_on_are_refused_and_those_below_work() {
        let frames = machine_of_sections(SectionNo::END.0 + 1);
        let last = SectionNo(SectionNo::END.0 - 1);
        let meta = Box::leak(Box::new(SectionMeta::new()));
        let at = SectionNo::END.start();
        let refused = frames.add_section(SectionNo::END, meta);
        assert_eq!(
            (at.address(), refused),
            (1 << 44, Err(AddError::TooHigh { at }))
        );
        let refused = frames.add_section(SectionNo(usize::MAX), meta);
        assert!(matches!(refused, Err(AddError::TooHigh { .. })));
        add_section(frames, last.0);
        let normal = zone(0, ZoneKind::Normal);
        frames
            .online_range(section_range(last.0), normal, &task())
            .unwrap();
        for order in [Order::ZERO, Order::COSTLY, Order::HUGE] {
            let take = || frames.alloc_in_zone(ContextKind::Task, normal, order, test_owner(1));
            for _ in 0..3 {
                let block = take().unwrap();
                assert!(section_range(last.0).contains(block.pfn()), "{block:?}");
            }
        }
        frames.drain_all(&task());
        assert_sound(frames);
    }

    #[test]
    fn nodes_beyond_the_storage_are_left_out_of_the_orders() {
        let frames = bare_machine(1, 1);
        frames.set_topology(&Topology::flat(crate::NodeMask(0b111)));
        add_section(frames, 0);
        let dma = zone(0, ZoneKind::Dma);
        frames.add_boot_range(range(0, 1_024), dma).unwrap();
        frames.finish_boot();
        let list = frames.zonelist(NodeId(0), crate::ListKind::Fallback);
        assert_eq!(list.iter().collect::<Vec<_>>(), [dma]);
        assert_sound(frames);
    }
}
