//! Compaction: makes a free run for a larger block by moving the blocks that lie in it.
//!
//! Only a task that may reclaim compacts. It looks for the emptiest pageblocks of a zone, and
//! isolates one in which everything can be moved. Each block's owner moves it, and the task takes
//! the run for the request; the isolation keeps other requests out. A run of order 9 or 10 is one
//! pageblock or two. For a smaller one the whole pageblock is isolated, too, but only the run is
//! emptied.
//!
//! The isolation has a bit of its own in the pageblock's state, apart from that of an offline. An
//! offline may isolate a pageblock that is being compacted. The compaction then gives up, and the
//! offline's isolation stays.

use crate::{
    alloc::{
        context::{AllocContext, ZoneRequest},
        limits::WalkLimits,
    },
    base::{
        mutant::{self, Mutant},
        owner::{Entry, Owner},
        pin::Pinned,
        platform::{step, window},
        types::{MAX_ZONES, Order, Pfn, ZoneId},
    },
    cache::cpu::PerCpu,
    frames::Frames,
    pageblock::{
        bits::{Isolation, StateFilter},
        migrate_type::{MigrateType, PageblockKind},
        section_meta::{PAGEBLOCK_FRAMES, PageblockRef},
    },
    zone::{
        counter::Returned,
        evict::{AtUnmovable, Scan},
    },
};
use core::ops::Range;
use tidemark_sync::{ContextKind, Task, atomic::Ordering};

/// Pageblocks among which the emptiest are looked for, 512 MiB.
const WINDOW: u32 = 256;
/// The most windows that a compaction of a zone goes through. The next compaction goes on behind
/// them.
const WINDOWS: u64 = 4;
/// Candidates that one look through a window keeps.
const KEPT: usize = 32;
/// The most candidates that are isolated and emptied.
const TRIED: u32 = 4;
/// How many rounds over a run may move nothing before it is given up: a page may be in use.
const ROUNDS: u32 = 4;

/// A pageblock, or the lower one of a pair, that may be emptied. Better ones compare as less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Pageblocks for unmovable requests come last: few of them can be emptied.
    is_unmovable: bool,
    /// Frames that are not free.
    used: u32,
    index: u64,
}

/// A place for the requested block.
#[derive(Clone, Copy)]
struct Run<'m> {
    /// The run's pageblock; the lower one for an order 10.
    pageblock: PageblockRef<'m>,
    /// Index of the run's first frame in the pageblock.
    first: u32,
    order: Order,
}

impl<'m> Run<'m> {
    /// Returns the pageblocks of the run, each with the frames that the run takes of it.
    fn parts(self) -> impl Iterator<Item = (PageblockRef<'m>, Range<u32>)> {
        let frames = (self.order.frames() as u32).min(PAGEBLOCK_FRAMES as u32);
        let upper = (self.order == Order::MAX).then(|| self.pageblock.upper());
        [Some(self.pageblock), upper]
            .into_iter()
            .flatten()
            .map(move |pageblock| (pageblock, self.first..self.first + frames))
    }
}

/// What lies in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct InTheWay {
    /// Frames of blocks that must be moved.
    movable: u32,
    /// Frames in caches.
    cached: u32,
}

/// A guard that isolates the pageblocks of a run until it is dropped.
struct Compacting<'a, 'm, P: PerCpu> {
    frames: &'a Frames<'m, P>,
    isolated: [Option<PageblockRef<'m>>; 2],
}

impl<'a, 'm, P: PerCpu> Compacting<'a, 'm, P> {
    /// Isolates the pageblocks of a run, if all of them are open and in the zone.
    fn new(frames: &'a Frames<'m, P>, zone: ZoneId, run: Run<'m>) -> Option<Self> {
        // Relaxed: only the oracle reads it, at rest.
        frames.compacting().fetch_add(1, Ordering::Relaxed);
        let mut this = Self {
            frames,
            isolated: [None; 2],
        };
        for (place, (pageblock, _)) in this.isolated.iter_mut().zip(run.parts()) {
            window!(frames);
            let counted = pageblock.core().isolate(Isolation::Compaction)?;
            *place = Some(pageblock);
            step!(frames);
            // A pageblock cannot leave while a compaction isolates it, so its zone is fixed.
            frames.zone_table().lose(pageblock.zone(), counted);
            // No cache may take a frame that is freed here from now on.
            pageblock.keep_out_of_caches(true);
            if pageblock.zone() != zone {
                return None;
            }
        }
        Some(this)
    }
}

impl<P: PerCpu> Drop for Compacting<'_, '_, P> {
    fn drop(&mut self) {
        let isolated = match mutant::is(Mutant::CompactionStaysIsolated) {
            true => [None; 2],
            false => self.isolated,
        };
        for pageblock in isolated.into_iter().flatten() {
            pageblock.keep_out_of_caches(false);
            // The zone is read while the pageblock cannot leave. After the isolation it may leave
            // and come back in another zone.
            let zone = pageblock.zone();
            step!(self.frames);
            // A pageblock that was taken whole is not isolated any more.
            if let Some(counted) = pageblock.core().unisolate(Isolation::Compaction) {
                step!(self.frames);
                self.frames
                    .zone_table()
                    .gain_returned(zone, Returned::unisolated(counted));
            }
        }
        step!(self.frames);
        self.frames.compacting().fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a compaction of a zone has done until now.
#[derive(Default)]
struct Work {
    tried: u32,
    migrated: u64,
}

impl<'m, P: PerCpu> Frames<'m, P> {
    /// Makes a run for a request above order 0, in one of its zones that would stay above its
    /// floor, and takes it. The amount of work is bounded. It may wait for other CPUs and for
    /// owners of pages.
    #[doc(alias = "__alloc_pages_direct_compact")]
    #[cold]
    pub(crate) fn compact(
        &self,
        ac: &AllocContext,
        limits: WalkLimits,
        task: &Task,
    ) -> Option<Pfn> {
        if ac.order == Order::ZERO || mutant::is(Mutant::NoCompaction) {
            return None;
        }
        self.zones_to_compact(ac, limits)
            .find_map(|(passed, zone)| self.compact_zone(zone, ac.wanted(passed), task))
    }

    /// Returns the zones that would stay above their floors, each with the number of usable zones
    /// before it. They are copied from the list as it is now, since their compaction may sleep.
    fn zones_to_compact(
        &self,
        ac: &AllocContext,
        limits: WalkLimits,
    ) -> impl Iterator<Item = (usize, ZoneId)> + use<P> {
        let mut zones = [None; MAX_ZONES];
        let pinned = Pinned::new(self.platform());
        let (list, _) = self.list_in_force(ac, pinned.on_cpu());
        let passing = list
            .walk(0, limits.eligible(), || ())
            .map(|(_, zone)| zone)
            .enumerate()
            .filter(|&(_, zone)| {
                self.zone_table()
                    .watermark_ok(zone, ac.order, limits.alloc_flags)
            });
        for (place, zone) in zones.iter_mut().zip(passing) {
            *place = Some(zone);
        }
        drop(pinned);
        zones.into_iter().flatten()
    }

    fn compact_zone(&self, zone: ZoneId, wanted: ZoneRequest, task: &Task) -> Option<Pfn> {
        let wanted = wanted.within(zone);
        let mut work = Work::default();
        let windows = self.zone_table().zone(zone).managed()
            / (u64::from(WINDOW) * PAGEBLOCK_FRAMES as u64)
            + 1;
        let taken = (0..windows.min(WINDOWS)).find_map(|_| {
            let from = self.zone_table().zone(zone).compacted();
            let (taken, behind) = self.compact_window(zone, wanted, from, &mut work, task);
            if taken.is_none() {
                self.zone_table().zone(zone).set_compacted(behind);
            }
            taken
        });
        let pinned = Pinned::new(self.platform());
        let cpu = self.caches().this_cpu(pinned.on_cpu());
        let events = &cpu.events[zone.index()];
        events.compactions.add(1);
        events.compacted.add(taken.is_some().into());
        events.compact_migrated.add(work.migrated);
        taken
    }

    /// Tries the candidates of a window, the emptiest first, until one gives the block. Also
    /// returns the index of the pageblock behind the window.
    fn compact_window(
        &self,
        zone: ZoneId,
        wanted: ZoneRequest,
        from: u64,
        work: &mut Work,
        task: &Task,
    ) -> (Option<Pfn>, u64) {
        let mut last = None;
        loop {
            let (emptiest, behind) = self.emptiest(zone, wanted.order, last, from);
            for candidate in emptiest.into_iter().flatten() {
                last = Some(candidate);
                let pageblock = self.books().pageblock(candidate.index);
                let Some((run, in_the_way)) = pageblock.and_then(|a| self.examine(a, wanted.order))
                else {
                    continue;
                };
                if work.tried == TRIED {
                    return (None, behind);
                }
                work.tried += 1;
                let taken = self.empty_run(zone, run, in_the_way, wanted, work, task);
                if taken.is_some() {
                    return (taken, behind);
                }
            }
            if emptiest.iter().any(Option::is_none) {
                return (None, behind);
            }
        }
    }

    /// Finds the best candidates of the window from `from` on that come after `last`, in ascending
    /// order. Also returns the index of the pageblock behind the window. Reads states and flags
    /// only.
    fn emptiest(
        &self,
        zone: ZoneId,
        order: Order,
        last: Option<Candidate>,
        from: u64,
    ) -> ([Option<Candidate>; KEPT], u64) {
        let mut kept = [None; KEPT];
        let mut behind = from;
        let mut seen = 0;
        self.zone_table().search(
            zone,
            from,
            u32::MAX,
            StateFilter::PRESENT,
            |pageblock, _, _| {
                if seen == WINDOW {
                    return Some(());
                }
                seen += 1;
                behind = pageblock.index + 1;
                let mut new = self.candidate(zone, pageblock, order)?;
                if last.is_some_and(|last| new <= last) {
                    return None;
                }
                for place in &mut kept {
                    if place.is_none_or(|old| new < old) {
                        match place.replace(new) {
                            Some(old) => new = old,
                            None => break,
                        }
                    }
                }
                None
            },
        );
        (kept, behind)
    }

    /// Returns the candidate for a pageblock, or for the pair of a lower one, by its state and
    /// flags alone.
    fn candidate(
        &self,
        zone: ZoneId,
        pageblock: PageblockRef<'m>,
        order: Order,
    ) -> Option<Candidate> {
        let used = |pageblock: PageblockRef<'m>| {
            let state = pageblock.core().state();
            let is_kept = pageblock.migrate_type() == MigrateType::HighAtomic;
            (state.is_open() && !is_kept && pageblock.zone() == zone)
                .then(|| PAGEBLOCK_FRAMES as u32 - state.free())
        };
        let mut frames = used(pageblock)?;
        let mut is_unmovable = pageblock.migrate_type() != MigrateType::Movable && frames > 0;
        if order == Order::MAX {
            if !pageblock.index.is_multiple_of(2) {
                return None;
            }
            let upper = pageblock.upper();
            let more = used(upper)?;
            frames += more;
            is_unmovable |= upper.migrate_type() != MigrateType::Movable && more > 0;
        }
        Some(Candidate {
            is_unmovable,
            used: frames,
            index: pageblock.index,
        })
    }

    /// Finds the run of a pageblock with the fewest frames to move, among those in which everything
    /// can be moved. Reads bits and entries only, which may have changed when the pageblock is
    /// isolated.
    fn examine(&self, pageblock: PageblockRef<'m>, order: Order) -> Option<(Run<'m>, InTheWay)> {
        let step = (order.frames() as usize).min(PAGEBLOCK_FRAMES);
        let runs = (0..PAGEBLOCK_FRAMES as u32).step_by(step);
        let runs = runs.filter_map(|first| {
            let run = Run {
                pageblock,
                first,
                order,
            };
            let mut sum = InTheWay::default();
            for (pageblock, frames) in run.parts() {
                let part = in_the_way(pageblock, frames, order)?;
                sum.movable += part.movable;
                sum.cached += part.cached;
            }
            Some((run, sum))
        });
        runs.min_by_key(|&(_, in_the_way)| in_the_way)
    }

    /// Isolates, empties and takes a run. The isolation ends on every way out.
    fn empty_run(
        &self,
        zone: ZoneId,
        run: Run<'m>,
        in_the_way: InTheWay,
        wanted: ZoneRequest,
        work: &mut Work,
        task: &Task,
    ) -> Option<Pfn> {
        let compacting = Compacting::new(self, zone, run)?;
        step!(self);
        let mut is_cached = in_the_way.cached > 0;
        let mut idle_rounds = 0;
        // A round that is not idle moves at least one frame, so there are no more such rounds than
        // frames.
        while idle_rounds < ROUNDS {
            if is_cached {
                // The drain comes after the isolation, so that no freed frame is cached again.
                self.drain_all(task);
            }
            let mut scan = Scan::new(AtUnmovable::Stop);
            for (pageblock, frames) in run.parts() {
                self.zone_table()
                    .scan_frames(pageblock, frames, &mut scan, task);
                step!(self);
            }
            work.migrated += scan.migrated;
            if scan.unmovable.is_some() {
                return None;
            }
            if let Some(pfn) = self.take_compacted(run, wanted) {
                drop(compacting);
                step!(self);
                return Some(pfn);
            }
            // The pending frame, or a frame that its move needs, may be in a cache by now.
            is_cached = scan.pending.is_some();
            if scan.migrated == 0 {
                idle_rounds += 1;
                self.platform().relax(task);
            }
        }
        None
    }

    /// Takes an emptied run, writes the request's entry and counts the allocation.
    fn take_compacted(&self, run: Run<'m>, wanted: ZoneRequest) -> Option<Pfn> {
        let pinned = Pinned::new(self.platform());
        let cpu = self.caches().this_cpu(pinned.on_cpu());
        let core = run.pageblock.core();
        let first = match run.order {
            Order::MAX => core.pair.take_compacted().then_some(0),
            Order::HUGE => core.take_compacted().then_some(0),
            order => core.claim_compacted(order),
        }?;
        step!(self);
        // The zone's counter has lost the frames already, by the isolation.
        let zone = run.pageblock.zone();
        let pfn = Pfn(run.pageblock.start().0 + u64::from(first));
        let kind = PageblockKind::of(wanted.migrate_type, run.order);
        if run.order >= Order::HUGE {
            for (pageblock, _) in run.parts() {
                pageblock.turn_to(kind);
            }
        } else if run.pageblock.migrate_type() != wanted.migrate_type {
            self.zone_table().convert(run.pageblock, kind);
            let share = cpu.events[zone.index()].of(ContextKind::Task);
            share.steals.add(1);
        }
        self.hand_out(zone, pfn, wanted, cpu);
        Some(pfn)
    }
}

/// Counts what lies in an aligned run. Returns `None` if a block of it cannot be moved, or if a
/// birth or a death is under way there.
fn in_the_way(pageblock: PageblockRef<'_>, frames: Range<u32>, order: Order) -> Option<InTheWay> {
    let mut found = InTheWay::default();
    let mut frame = frames.start;
    while frame < frames.end {
        let word = pageblock.core().bits.0[frame as usize / 64].load(Ordering::Relaxed);
        let is_free = word >> (frame % 64) & 1 == 0;
        let entry = pageblock.entry_now(frame);
        let size = match entry.block() {
            None if is_free && entry == Entry::FREE => Order::ZERO,
            Some((size, None)) if size <= order => {
                found.cached += size.frames() as u32;
                size
            }
            Some((size, Some(owner)))
                if size <= order && owner != Owner::NONE && owner.kind().is_movable() =>
            {
                found.movable += size.frames() as u32;
                size
            }
            // The block is unmovable, or larger than the run.
            _ => return None,
        };
        frame += size.frames() as u32;
    }
    Some(found)
}

/// Helpers for the tests of memory that leaves.
#[cfg(all(test, not(loom)))]
pub(crate) mod tests_hook {
    use super::*;
    use crate::testing::{TestFrames, section_range, zone};

    /// Isolates the first run of a memory section of NORMAL for a compaction, which then gives up.
    pub(crate) fn isolate_and_give_up(frames: &'static TestFrames, block: usize, order: Order) {
        let normal = zone(0, crate::ZoneKind::Normal);
        let (pageblock, first) = frames
            .books()
            .pageblock_of(section_range(block).start)
            .unwrap();
        // It isolates nothing if the pageblock has changed zones meanwhile.
        drop(Compacting::new(
            frames,
            normal,
            Run {
                pageblock,
                first,
                order,
            },
        ));
    }
}

#[cfg(all(test, not(loom)))]
#[path = "compact_tests.rs"]
mod tests;

#[cfg(all(test, not(loom)))]
#[path = "compact_choice_tests.rs"]
mod choice_tests;
