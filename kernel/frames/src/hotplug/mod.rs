//! Memory hot-plug: onlines, and the types of onlines and offlines. The offline itself is in
//! `offline`.

mod offline;
mod rebuild;
mod setup;

use crate::{
    base::{
        owner::Owner,
        platform::Point,
        types::{Pfn, PfnRange, ZoneId},
    },
    cache::cpu::PerCpu,
    frames::Frames,
    hotplug::offline::Isolated,
    pageblock::{bits::State, section_meta::PAGEBLOCK_FRAMES},
};
use tidemark_sync::Task;

/// The result of an offline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfflineStats {
    /// Frames that left.
    pub frames: u64,
    /// Frames of blocks that were moved elsewhere.
    pub migrated: u64,
    /// Number of scans of the range.
    pub scans: u64,
    /// Whether the zone became empty, so that the zonelists were rebuilt.
    pub zone_emptied: bool,
}

/// Why an offline failed. All its steps have been undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineError {
    /// The range is empty, or not aligned to 4 MiB.
    Misaligned,
    /// The allocator does not manage a frame of the range.
    Hole {
        /// The first such frame.
        at: Pfn,
    },
    /// The range spans two zones.
    TwoZones {
        /// First frame of the second zone.
        at: Pfn,
    },
    /// An unmovable frame was still in the range at the deadline.
    Unmovable {
        /// The frame.
        at: Pfn,
        /// Its owner.
        owner: Owner,
    },
    /// At the deadline there were still movable frames in the range, or births and deaths under
    /// way.
    Deadline {
        /// The first such frame.
        at: Pfn,
        /// Its owner; [`Owner::NONE`] for a birth or a death under way.
        owner: Owner,
    },
}

/// The result of an online.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnlineStats {
    /// Frames that came.
    pub frames: u64,
    /// Whether the zone had been empty, so that the zonelists were rebuilt.
    pub zone_was_empty: bool,
}

/// Why an online failed. It has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnlineError {
    /// The range is empty, or not aligned to 4 MiB.
    Misaligned,
    /// A memory section of the range has no books.
    NoSection {
        /// First frame concerned.
        at: Pfn,
    },
    /// The allocator manages a frame of the range already.
    Present {
        /// First frame of its pageblock.
        at: Pfn,
    },
    /// The allocator has no node of this number.
    NoNode,
}

/// Frames of a pair of pageblocks.
const PAIR_FRAMES: u64 = 2 * PAGEBLOCK_FRAMES as u64;

/// Returns the indices of an aligned range's pageblocks.
pub(crate) fn pageblocks(range: PfnRange) -> core::ops::Range<u64> {
    range.start.0 / PAGEBLOCK_FRAMES as u64..range.end.0 / PAGEBLOCK_FRAMES as u64
}

impl<'m, P: PerCpu> Frames<'m, P> {
    pub(crate) fn is_aligned(range: PfnRange) -> bool {
        !range.is_empty()
            && range.start.0.is_multiple_of(PAIR_FRAMES)
            && range.end.0.is_multiple_of(PAIR_FRAMES)
    }

    /// Adds a range of whole 4 MiB pairs to a zone, and rebuilds the zonelists if the zone was
    /// empty. The range's memory sections have books. One offline or online runs at a time; others
    /// wait. Task context, interrupts on, no spinlock held.
    ///
    /// # Errors
    ///
    /// See [`OnlineError`]. An error changes nothing.
    #[doc(alias = "online_pages")]
    pub fn online_range(
        &self,
        range: PfnRange,
        zone_id: ZoneId,
        task: &Task,
    ) -> Result<OnlineStats, OnlineError> {
        let resizing = self.lock_resizing(task);
        self.check_coming(range, zone_id)?;
        let zone = self.zone_table().zone(zone_id);
        let was_empty = !zone.is_populated();
        let span = pageblocks(range);
        zone.cover(span.start, span.end, &resizing);
        for pageblock in span.filter_map(|index| self.books().pageblock(index)) {
            pageblock.set_zone(zone_id, &resizing);
            pageblock.core().join(State::ISOLATED_EMPTY, &resizing);
        }
        let isolated = Isolated::adopt(self, zone_id, range, &resizing);
        zone.grow(range.len(), &resizing);
        self.platform().point(Point::OnlineCounted);
        if was_empty {
            self.rebuild_zonelists(task, &resizing);
        }
        drop(isolated);
        self.refresh_policy(&resizing);
        self.platform().point(Point::OnlineDone);
        Ok(OnlineStats {
            frames: range.len(),
            zone_was_empty: was_empty,
        })
    }

    fn check_coming(&self, range: PfnRange, zone: ZoneId) -> Result<(), OnlineError> {
        if !Self::is_aligned(range) {
            return Err(OnlineError::Misaligned);
        }
        if zone.index() >= self.zone_table().all().len() {
            return Err(OnlineError::NoNode);
        }
        for index in pageblocks(range) {
            let at = Pfn(index * PAGEBLOCK_FRAMES as u64);
            let pageblock = self
                .books()
                .pageblock(index)
                .ok_or(OnlineError::NoSection { at })?;
            if pageblock.core().state() != State::GONE {
                return Err(OnlineError::Present { at });
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
#[path = "hotplug_tests.rs"]
mod tests;
