//! Batches between a CPU's cache and the areas: refills, drains, and what both leave to the zone.

use crate::{
    CpuCaches, Frames, FreeFault, Order, Pfn, Platform, ZoneId, area::State, events::Counts,
    memory::AreaRef, mobility::Mobility, owner::Entry, pcp::Pcp, platform::step, zone::Mark,
};
use tidemark_sync::atomic::Ordering;

impl<'m, P: Platform> Frames<'m, P> {
    /// Fills an empty cache, with no more than what the zone has above MIN.
    pub(crate) fn refill(&self, zone_id: ZoneId, mobility: Mobility, cache: &Pcp, cpu: &CpuCaches) {
        let zone = self.zone(zone_id);
        let above_min = zone.free().saturating_sub(zone.mark(Mark::Min));
        let want = u64::from(zone.cache_batch()).min(above_min) as u32;
        if want == 0 {
            return;
        }
        let came = self.take_singles(zone_id, mobility, want, cpu, |area, frame| {
            step!(self);
            area.entry(frame).store(Entry::CACHED.0, Ordering::Relaxed);
            cache.push(Pfn(area.start().0 + u64::from(frame)));
        });
        let events = &cpu.events[zone_id.index()];
        events.refills.add(1);
        events.refilled.add(came.into());
    }

    /// Gives up to `frames` frames of a cache back to their areas, those of one word by one step.
    pub(crate) fn drain_cache(&self, cache: &Pcp, frames: u32, events: &Counts) {
        let mut run: Option<Run<'m>> = None;
        let mut drained = 0;
        for _ in 0..frames {
            let Some(pfn) = self.pop_checked(cache) else {
                break;
            };
            step!(self);
            let Some((area, frame)) = self.area_of(pfn) else {
                continue;
            };
            // Before the bit is clear: after that the frame is somebody else's.
            area.entry(frame).store(Entry::FREE.0, Ordering::Relaxed);
            drained += 1;
            let word = frame as usize / 64;
            let mask = 1 << (frame % 64);
            match &mut run {
                Some(run) if run.area.index == area.index && run.word == word => run.mask |= mask,
                other => {
                    let ended = other.replace(Run { area, word, mask });
                    self.free_run(ended);
                }
            }
        }
        self.free_run(run);
        if drained > 0 {
            events.drains.add(1);
            events.drained.add(drained);
        }
    }

    fn free_run(&self, run: Option<Run<'m>>) {
        if let Some(Run { area, word, mask }) = run {
            self.free_mask(area, word, mask);
        }
    }

    /// Frees frames of one word whose entries say free already. Pinned.
    pub(crate) fn free_mask(&self, area: AreaRef<'m>, word: usize, mask: u64) {
        let cleared = area.core().clear_mask(word, mask);
        if cleared != mask.count_ones() {
            let pfn = Pfn(area.start().0 + word as u64 * 64);
            self.report_fault(FreeFault::BitsClear, pfn, Order::ZERO, Entry::FREE);
        }
        self.return_frames(area, cleared);
    }

    /// Adds cleared frames to their area's count, and to the zone's unless the area is isolated.
    #[inline]
    pub(crate) fn return_frames(&self, area: AreaRef<'m>, frames: u32) {
        // Read before the addition, after which the area may leave.
        let zone = self.zone(area.zone());
        let before: State = area.core().add(frames);
        if !before.is_isolated() {
            zone.gain(frames);
        }
    }
}

/// Frames of one word of an area.
struct Run<'m> {
    area: AreaRef<'m>,
    word: usize,
    mask: u64,
}
