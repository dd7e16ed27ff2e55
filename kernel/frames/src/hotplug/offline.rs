//! The steps of an offline. Those before the last frame is free are guards, which undo themselves
//! on an error.

use crate::{
    base::{
        owner::{FrameState, Owner},
        platform::Point,
        resizing::Resizing,
        types::{Pfn, PfnRange, ZoneId},
    },
    cache::cpu::PerCpu,
    frames::Frames,
    hotplug::{OfflineError, OfflineStats, pageblocks},
    pageblock::{
        bits::{Isolation, State},
        migrate_type::MigrateType,
        section_meta::PAGEBLOCK_FRAMES,
    },
    zone::{
        counter::Returned,
        evict::{AtUnmovable, Scan},
    },
};
use tidemark_sync::Task;

/// A guard that keeps the caches of a zone off until it is dropped.
pub(crate) struct CachesOff<'a, 'm, P: PerCpu> {
    frames: &'a Frames<'m, P>,
    zone: ZoneId,
}

impl<'a, 'm, P: PerCpu> CachesOff<'a, 'm, P> {
    fn new(frames: &'a Frames<'m, P>, zone: ZoneId, _: &Resizing<'_>) -> Self {
        frames.zone_table().turn_caches_off(zone);
        Self { frames, zone }
    }
}

impl<P: PerCpu> Drop for CachesOff<'_, '_, P> {
    fn drop(&mut self) {
        self.frames.zone_table().turn_caches_on(self.zone);
    }
}

/// A guard that isolates a range until it is dropped. No frame of it is allocated, frames that are
/// freed into it stay, and its zone's counter does not have them.
pub(crate) struct Isolated<'a, 'm, P: PerCpu> {
    frames: &'a Frames<'m, P>,
    zone: ZoneId,
    range: PfnRange,
    by: Isolation<'a>,
}

impl<'a, 'm, P: PerCpu> Isolated<'a, 'm, P> {
    fn new(
        frames: &'a Frames<'m, P>,
        zone: ZoneId,
        range: PfnRange,
        resizing: &'a Resizing<'a>,
    ) -> Self {
        let this = Self::adopt(frames, zone, range, resizing);
        for pageblock in pageblocks(range).filter_map(|index| frames.books().pageblock(index)) {
            if let Some(counted) = pageblock.core().isolate(this.by) {
                frames.zone_table().lose(zone, counted);
            }
        }
        this
    }

    /// Makes the guard for a range that has joined as isolated.
    pub(crate) fn adopt(
        frames: &'a Frames<'m, P>,
        zone: ZoneId,
        range: PfnRange,
        resizing: &'a Resizing<'a>,
    ) -> Self {
        Self {
            frames,
            zone,
            range,
            by: Isolation::Offline(resizing),
        }
    }
}

impl<P: PerCpu> Drop for Isolated<'_, '_, P> {
    fn drop(&mut self) {
        // Pageblocks that have left are not isolated any more.
        for pageblock in
            pageblocks(self.range).filter_map(|index| self.frames.books().pageblock(index))
        {
            if let Some(counted) = pageblock.core().unisolate(self.by) {
                self.frames
                    .zone_table()
                    .gain_returned(self.zone, Returned::unisolated(counted));
            }
        }
    }
}

impl<'m, P: PerCpu> Frames<'m, P> {
    /// Takes a range of whole 4 MiB pairs out of its zone: drains, isolates, migrates, removes, and
    /// rebuilds the zonelists if the zone has become empty. `deadline_ns` is a time of
    /// [`Platform::now_ns`](crate::Platform::now_ns). Until then frames in use are moved or waited
    /// for, unmovable ones, too. One offline or online runs at a time; others wait. Task context,
    /// interrupts on, no spinlock held.
    ///
    /// # Errors
    ///
    /// See [`OfflineError`]. An error undoes every step.
    #[doc(alias = "offline_pages")]
    pub fn offline_range(
        &self,
        range: PfnRange,
        deadline_ns: u64,
        task: &Task,
    ) -> Result<OfflineStats, OfflineError> {
        let resizing = self.lock_resizing(task);
        let zone_id = self.check_leaving(range)?;
        let caches = CachesOff::new(self, zone_id, &resizing);
        self.drain_all(task);
        let isolated = Isolated::new(self, zone_id, range, &resizing);
        self.platform().point(Point::OfflineIsolated);

        let mut stats = self.empty(range, deadline_ns, task)?;

        // No request reserves in an isolated pageblock, so a wholly free one stays so.
        for pageblock in pageblocks(range).filter_map(|index| self.books().pageblock(index)) {
            let has_left = pageblock.core().leave(&resizing);
            assert!(
                has_left,
                "a free, isolated pageblock at {} was used",
                pageblock.start()
            );
            self.zone_table()
                .release_high_atomic(pageblock, MigrateType::Unmovable);
        }
        drop(isolated);
        let zone = self.zone_table().zone(zone_id);
        zone.shrink(range.len(), &resizing);
        self.refresh_policy(&resizing);
        stats.frames = range.len();
        stats.zone_emptied = !zone.is_populated();
        self.platform().point(Point::OfflineLeft);
        drop(caches);
        if stats.zone_emptied {
            self.rebuild_zonelists(task, &resizing);
        }
        self.platform().point(Point::OfflineDone);
        Ok(stats)
    }

    /// Returns the zone of a range, which must have no holes and lie in one zone.
    fn check_leaving(&self, range: PfnRange) -> Result<ZoneId, OfflineError> {
        if !Self::is_aligned(range) {
            return Err(OfflineError::Misaligned);
        }
        let mut zone = None;
        for index in pageblocks(range) {
            let at = Pfn(index * PAGEBLOCK_FRAMES as u64);
            let pageblock = self
                .books()
                .pageblock(index)
                .filter(|pageblock| pageblock.core().state().is_present());
            let pageblock = pageblock.ok_or(OfflineError::Hole { at })?;
            if *zone.get_or_insert(pageblock.zone()) != pageblock.zone() {
                return Err(OfflineError::TwoZones { at });
            }
            let mut frames = 0..PAGEBLOCK_FRAMES as u32;
            if let Some(hole) =
                frames.find(|&f| pageblock.entry_now(f).state() == FrameState::Absent)
            {
                let at = Pfn(at.0 + u64::from(hole));
                return Err(OfflineError::Hole { at });
            }
        }
        zone.ok_or(OfflineError::Misaligned)
    }

    /// Scans and migrates until every pageblock of the range is wholly free, or the deadline has
    /// passed.
    ///
    /// # Errors
    ///
    /// Returns the first frame that was left at the deadline.
    fn empty(
        &self,
        range: PfnRange,
        deadline_ns: u64,
        task: &Task,
    ) -> Result<OfflineStats, OfflineError> {
        let mut stats = OfflineStats::default();
        loop {
            let scan = self.scan(range, deadline_ns, task);
            stats.scans += 1;
            stats.migrated += scan.migrated;
            self.platform().point(Point::OfflineScanned);
            let culprit = scan.unmovable.or(scan.pending);
            let Some((at, owner)) = culprit else {
                if scan.migrated == 0 {
                    return Ok(stats);
                }
                continue;
            };
            if self.platform().now_ns() >= deadline_ns {
                return Err(if scan.unmovable.is_some() {
                    OfflineError::Unmovable { at, owner }
                } else {
                    OfflineError::Deadline { at, owner }
                });
            }
            self.platform().relax(task);
        }
    }

    /// Looks at every frame of the range that is not free, and moves the blocks that can be moved.
    fn scan(&self, range: PfnRange, deadline_ns: u64, task: &Task) -> Scan {
        let mut scan = Scan::new(AtUnmovable::GoOn);
        for pageblock in pageblocks(range).filter_map(|index| self.books().pageblock(index)) {
            if pageblock.core().state() == State::ISOLATED_EMPTY {
                continue;
            }
            let used = self.zone_table().scan_frames(
                pageblock,
                0..PAGEBLOCK_FRAMES as u32,
                &mut scan,
                task,
            );
            if used == 0 && pageblock.core().state() != State::ISOLATED_EMPTY {
                // The bits are clear but not counted yet, or a reservation is open.
                scan.pending.get_or_insert((pageblock.start(), Owner::NONE));
            }
            // Migration is slow, so the deadline is tested within a scan, too.
            let in_the_way = scan.unmovable.or(scan.pending);
            if self.platform().now_ns() >= deadline_ns && in_the_way.is_some() {
                break;
            }
        }
        scan
    }
}

#[cfg(all(test, not(loom)))]
#[path = "offline_tests.rs"]
mod tests;
