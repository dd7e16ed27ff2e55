//! Numbers of zones and caches for observers.

use crate::{
    base::types::{CpuId, Pfn, PfnRange, ZoneId, ZoneKind},
    cache::cpu::PerCpu,
    frames::Frames,
    pageblock::section_meta::PAGEBLOCK_FRAMES,
    zone::Watermark,
};

/// A zone's numbers, in frames. Each was read by itself, so they may not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneInfo {
    /// The zone.
    pub id: ZoneId,
    /// Free frames, without those in caches and in isolated pageblocks.
    pub free: u64,
    /// Frames in CPUs' caches.
    pub cached: u64,
    /// MIN watermark.
    pub min: u64,
    /// LOW watermark.
    pub low: u64,
    /// HIGH watermark.
    pub high: u64,
    /// Frames that the allocator manages.
    pub managed: u64,
    /// Frames that are present. The allocator manages all of them.
    pub present: u64,
    /// Lowmem reserve from requests, by their highest zone.
    pub reserve: [u64; 4],
    /// Frames of the pageblocks in the high-atomic reserve, free or not.
    pub high_atomic: u64,
    /// The span of the zone, holes included.
    pub span: PfnRange,
}

/// One CPU's caches of a zone, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheInfo {
    /// Single frames in both caches.
    pub count: u32,
    /// Frames in the caches of larger blocks.
    pub in_blocks: u32,
    /// Limit of each cache of single frames.
    pub high: u32,
    /// Batch of a refill, which takes up to one frame more.
    pub batch: u32,
}

impl<P: PerCpu> Frames<'_, P> {
    /// Returns a zone's counters and watermarks. Any context.
    ///
    /// # Panics
    ///
    /// Panics if the allocator has no node of this number.
    pub fn zone_info(&self, id: ZoneId) -> ZoneInfo {
        let zone = self.zone_table().zone(id);
        let (first, end) = zone.span();
        let pfn = |pageblock| Pfn(pageblock * PAGEBLOCK_FRAMES as u64);
        ZoneInfo {
            id,
            free: zone.free(),
            cached: self.caches().cached_frames(id),
            min: zone.watermark(Watermark::Min),
            low: zone.watermark(Watermark::Low),
            high: zone.watermark(Watermark::High),
            managed: zone.managed(),
            present: zone.present(),
            reserve: ZoneKind::ALL.map(|highest| zone.reserve(highest)),
            high_atomic: zone.high_atomic(),
            span: PfnRange::new(pfn(first), pfn(end)),
        }
    }

    /// Returns a CPU's caches of a zone, or `None` for a CPU without caches. Any context.
    ///
    /// # Panics
    ///
    /// Panics if the allocator has no node of this number.
    pub fn cache_info(&self, id: ZoneId, cpu: CpuId) -> Option<CacheInfo> {
        let zone = self.zone_table().zone(id);
        let caches = self.caches().cpus().get(cpu.0)?;
        Some(CacheInfo {
            count: caches.cached(id),
            in_blocks: (caches.held(id) - u64::from(caches.cached(id))) as u32,
            high: zone.cache_high(),
            batch: zone.cache_batch(),
        })
    }

    /// Returns every zone with memory, by node, lowest kind first. Any context.
    pub fn zones(&self) -> impl Iterator<Item = ZoneInfo> + '_ {
        self.zone_table()
            .zone_ids()
            .filter(|&zone| self.zone_table().zone(zone).is_populated())
            .map(|zone| self.zone_info(zone))
    }

    /// Returns the number of free frames in all zones, without those in caches and in isolated
    /// pageblocks. Any context.
    pub fn free_frames(&self) -> u64 {
        self.zone_table()
            .zone_ids()
            .map(|zone| self.zone_table().zone(zone).free())
            .sum()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{base::types::Order, testing::*, zone::watermark};

    const NORMAL: ZoneId = zone(0, ZoneKind::Normal);

    #[test]
    fn a_zones_numbers_are_those_of_its_frames() {
        let frames = normal_machine(1, 2);
        let all = section_range(32).len() * 2;
        let watermarks = watermark::watermarks(ZoneKind::Normal, all, all);
        let take = |order| frames.alloc_in_zone(ContextKind::Task, NORMAL, order, test_owner(1));
        let block = take(Order::HUGE);
        drop(take(Order::ZERO));
        assert!(frames.zone(NORMAL).grow_high_atomic());
        let info = frames.zone_info(NORMAL);
        assert!(info.cached > 0);
        assert_eq!(info.free + info.cached, all - 512);
        assert_eq!((info.managed, info.present), (all, all));
        assert_eq!(
            (info.min, info.low, info.high),
            (watermarks.min, watermarks.low, watermarks.high)
        );
        assert_eq!(info.high_atomic, 512);
        let span = PfnRange::new(section_range(32).start, section_range(33).end);
        assert_eq!(info.span, span);
        assert_eq!(
            frames.zones().map(|zone| zone.id).collect::<Vec<_>>(),
            [NORMAL]
        );
        assert_eq!(frames.free_frames(), info.free);
        frames.zone(NORMAL).shrink_high_atomic();
        drop(block);
        frames.drain_all(&task());
        assert_sound(frames);
    }

    #[test]
    fn a_caches_numbers_tell_single_frames_from_larger_blocks() {
        let frames = normal_machine(2, 2);
        let order = Order::new(1).unwrap();
        for order in [Order::ZERO, order] {
            let take = || frames.alloc_in_zone(ContextKind::Task, NORMAL, order, test_owner(1));
            on_cpu(1, || drop(take()));
        }
        let info = frames.cache_info(NORMAL, CpuId(1)).unwrap();
        assert!(info.count > 0 && info.in_blocks > 0, "{info:?}");
        let cached = frames.zone_info(NORMAL).cached;
        assert_eq!(u64::from(info.count + info.in_blocks), cached);
        assert_eq!(frames.cache_info(NORMAL, CpuId(0)).unwrap().count, 0);
        assert!(frames.cache_info(NORMAL, CpuId(2)).is_none());
        assert_sound(frames);
    }
}
