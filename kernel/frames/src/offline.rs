//! Offline, step by step: each step is a guard that undoes itself.

use crate::{
    FrameState, Frames, MigrateError, OfflineError, OfflineStats, Order, Owner, Pfn, PfnRange,
    Platform, Point, ZoneId,
    area::State,
    hotplug::areas,
    memory::{AREA_FRAMES, AreaRef},
    mobility::Mobility,
};
use tidemark_sync::{Task, atomic::Ordering};

/// The caches of a zone are off for as long as this lives.
pub(crate) struct CachesOff<'a, 'm, P: Platform> {
    frames: &'a Frames<'m, P>,
    zone: ZoneId,
}

impl<'a, 'm, P: Platform> CachesOff<'a, 'm, P> {
    fn new(frames: &'a Frames<'m, P>, zone: ZoneId) -> Self {
        frames.zone(zone).turn_caches_off();
        Self { frames, zone }
    }
}

impl<P: Platform> Drop for CachesOff<'_, '_, P> {
    fn drop(&mut self) {
        self.frames.zone(self.zone).turn_caches_on();
    }
}

/// A range is isolated for as long as this lives: nothing of it is handed out, what is freed into
/// it stays, and its zone does not count it as free.
pub(crate) struct Isolated<'a, 'm, P: Platform> {
    frames: &'a Frames<'m, P>,
    zone: ZoneId,
    range: PfnRange,
}

impl<'a, 'm, P: Platform> Isolated<'a, 'm, P> {
    fn new(frames: &'a Frames<'m, P>, zone: ZoneId, range: PfnRange) -> Self {
        for area in areas(range).filter_map(|index| frames.area(index)) {
            if let Some(before) = area.core().isolate() {
                frames.zone(zone).lose(before.free());
            }
        }
        Self {
            frames,
            zone,
            range,
        }
    }

    /// Takes charge of a range that joined as isolated.
    pub(crate) fn adopt(frames: &'a Frames<'m, P>, zone: ZoneId, range: PfnRange) -> Self {
        Self {
            frames,
            zone,
            range,
        }
    }
}

impl<P: Platform> Drop for Isolated<'_, '_, P> {
    fn drop(&mut self) {
        // Areas that have left meanwhile are not isolated any more.
        for area in areas(self.range).filter_map(|index| self.frames.area(index)) {
            if let Some(before) = area.core().unisolate() {
                self.frames.zone(self.zone).gain(before.free());
            }
        }
    }
}

/// What one scan of the range found.
#[derive(Default)]
struct Scan {
    migrated: u64,
    /// The first frame that cannot be moved, and its owner.
    unmovable: Option<(Pfn, Owner)>,
    /// The first frame that will go by itself or can be tried again.
    pending: Option<(Pfn, Owner)>,
}

impl<'m, P: Platform> Frames<'m, P> {
    /// Takes a range of whole 4 MiB pairs out of its zone: isolates, drains, migrates, removes, and
    /// rebuilds the zonelists if the zone became empty. `deadline_ns` is in [`Platform::now_ns`]'s
    /// time: until then frames in use are moved or waited for, the unmovable ones, too. One offline
    /// or online runs at a time; others wait. Task context, interrupts on, no spinlock held.
    ///
    /// # Errors
    ///
    /// See [`OfflineError`]; every step is undone.
    pub fn offline_range(
        &self,
        range: PfnRange,
        deadline_ns: u64,
        task: &Task,
    ) -> Result<OfflineStats, OfflineError> {
        let _resizing = self.lock_resizing(task);
        let zone_id = self.check_leaving(range)?;
        let caches = CachesOff::new(self, zone_id);
        self.drain_all(task);
        let isolated = Isolated::new(self, zone_id, range);
        self.platform.point(Point::OfflineIsolated);

        let mut stats = self.empty(range, deadline_ns, task)?;

        // Nobody reserves in an isolated area, so what was all free stays all free.
        for area in areas(range).filter_map(|index| self.area(index)) {
            let has_left = area.core().leave();
            assert!(
                has_left,
                "a free, isolated area at {} was used",
                area.start()
            );
            self.release_high_atomic(area, Mobility::Unmovable);
        }
        drop(isolated);
        let zone = self.zone(zone_id);
        zone.shrink(range.len());
        self.refresh_policy();
        stats.frames = range.len();
        stats.zone_emptied = !zone.is_populated();
        self.platform.point(Point::OfflineLeft);
        drop(caches);
        if stats.zone_emptied {
            self.rebuild_zonelists(task);
        }
        self.platform.point(Point::OfflineDone);
        Ok(stats)
    }

    /// The one zone of a range that has no holes.
    fn check_leaving(&self, range: PfnRange) -> Result<ZoneId, OfflineError> {
        if !Self::is_aligned(range) {
            return Err(OfflineError::Misaligned);
        }
        let mut zone = None;
        for index in areas(range) {
            let at = Pfn(index * AREA_FRAMES as u64);
            let area = self
                .area(index)
                .filter(|area| area.core().state().is_present());
            let area = area.ok_or(OfflineError::Hole { at })?;
            if *zone.get_or_insert(area.zone()) != area.zone() {
                return Err(OfflineError::TwoZones { at });
            }
            let mut frames = 0..AREA_FRAMES as u32;
            if let Some(hole) = frames.find(|&f| area.entry_now(f).state() == FrameState::Absent) {
                let at = Pfn(at.0 + u64::from(hole));
                return Err(OfflineError::Hole { at });
            }
        }
        zone.ok_or(OfflineError::Misaligned)
    }

    /// Scans and migrates until every area of the range is wholly free, or the deadline has passed.
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
            self.platform.point(Point::OfflineScanned);
            let culprit = scan.unmovable.or(scan.pending);
            let Some((at, owner)) = culprit else {
                if scan.migrated == 0 {
                    return Ok(stats);
                }
                continue;
            };
            if self.platform.now_ns() >= deadline_ns {
                return Err(if scan.unmovable.is_some() {
                    OfflineError::Unmovable { at, owner }
                } else {
                    OfflineError::Deadline { at, owner }
                });
            }
            self.platform.relax(task);
        }
    }

    /// Looks at every frame that is not free, and moves what can be moved.
    fn scan(&self, range: PfnRange, deadline_ns: u64, task: &Task) -> Scan {
        let mut scan = Scan::default();
        for area in areas(range).filter_map(|index| self.area(index)) {
            if area.core().state() == State::ISOLATED_EMPTY {
                continue;
            }
            self.scan_area(area, &mut scan, task);
            // Migration is slow; a range full of pages must not make the deadline meaningless.
            let in_the_way = scan.unmovable.or(scan.pending);
            if self.platform.now_ns() >= deadline_ns && in_the_way.is_some() {
                break;
            }
        }
        scan
    }

    fn scan_area(&self, area: AreaRef<'m>, scan: &mut Scan, task: &Task) {
        let mut used = 0;
        let mut frame = 0;
        while frame < AREA_FRAMES as u32 {
            let word = area.core().bits.0[frame as usize / 64].load(Ordering::Relaxed);
            let is_taken = area.core().state().is_taken();
            if word >> (frame % 64) & 1 == 0 && !is_taken {
                // On to the next set bit of the word, if there is one.
                let rest = word >> (frame % 64);
                frame += if rest == 0 {
                    64 - frame % 64
                } else {
                    rest.trailing_zeros()
                };
                continue;
            }
            used += 1;
            let pfn = Pfn(area.start().0 + u64::from(frame));
            let size = match area.entry_now(frame).state() {
                FrameState::Allocated { order, owner } => {
                    self.evict(pfn, order, owner, scan, task);
                    order.frames() as u32
                }
                // A birth or a death in flight: bits and entry are not written at once. Or the
                // upper half of an order 10, whose entry the lower half has.
                FrameState::Free | FrameState::Cached | FrameState::Absent => {
                    scan.pending.get_or_insert((pfn, Owner::NONE));
                    if is_taken { AREA_FRAMES as u32 } else { 1 }
                }
            };
            frame += size;
        }
        if used == 0 && area.core().state() != State::ISOLATED_EMPTY {
            // Bits are clear and the count does not say so yet, or a reservation is open.
            scan.pending.get_or_insert((area.start(), Owner::NONE));
        }
    }

    /// Deals with one allocated block that is in the way.
    fn evict(&self, pfn: Pfn, order: Order, owner: Owner, scan: &mut Scan, task: &Task) {
        if owner == Owner::NONE {
            scan.pending.get_or_insert((pfn, owner));
            return;
        }
        let moved = if owner.kind().is_movable() {
            self.platform.migrate(pfn, owner, task)
        } else {
            Err(MigrateError::Unmovable)
        };
        match moved {
            Ok(()) => scan.migrated += order.frames(),
            Err(MigrateError::Busy) => {
                scan.pending.get_or_insert((pfn, owner));
            }
            Err(MigrateError::Unmovable) => {
                scan.unmovable.get_or_insert((pfn, owner));
            }
        }
    }
}
