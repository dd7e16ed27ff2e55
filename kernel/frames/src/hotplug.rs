//! Memory leaves, and comes back.

use crate::{Frames, Owner, Pfn, PfnRange, Platform, ZoneId};
use tidemark_sync::Task;

/// What an offline did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfflineStats {
    /// Frames that left.
    pub frames: u64,
    /// Frames that were moved elsewhere.
    pub migrated: u64,
    /// Scans of the range.
    pub scans: u64,
    /// Whether the zone became empty, so that the zonelists were rebuilt.
    pub zone_emptied: bool,
}

/// Why a range could not leave; everything was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineError {
    /// The range is empty, or not aligned to 4 MiB.
    Misaligned,
    /// A frame of the range is not the allocator's.
    Hole {
        /// The first such frame.
        at: Pfn,
    },
    /// The range spans two zones.
    TwoZones {
        /// First frame of the second zone.
        at: Pfn,
    },
    /// An unmovable frame is in the way.
    Unmovable {
        /// The frame.
        at: Pfn,
        /// Whose it is.
        owner: Owner,
    },
    /// The deadline passed with frames still in use.
    Deadline {
        /// A frame that was still in use.
        at: Pfn,
        /// Whose it is; nobody, if in flight.
        owner: Owner,
    },
}

/// What an online did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnlineStats {
    /// Frames that came.
    pub frames: u64,
    /// Whether the zone had been empty, so that the zonelists were rebuilt.
    pub zone_was_empty: bool,
}

/// Why a range could not come; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnlineError {
    /// The range is empty, or not aligned to 4 MiB.
    Misaligned,
    /// A block of the range has no books.
    NoBlock {
        /// First frame concerned.
        at: Pfn,
    },
    /// A frame of the range is the allocator's already.
    Present {
        /// First frame of its area.
        at: Pfn,
    },
    /// The node is beyond the storage.
    NoNode,
}

impl<P: Platform> Frames<'_, P> {
    /// Takes a range of whole 4 MiB pairs out of its zone: isolates, drains, migrates, removes, and
    /// rebuilds the zonelists if the zone became empty. `deadline_ns` is in [`Platform::now_ns`]'s
    /// time: until then frames without an owner are waited for. One at a time; others wait.
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
        let _ = (range, deadline_ns, task);
        todo!()
    }

    /// Brings a range of whole 4 MiB pairs into a zone; its blocks have books.
    ///
    /// # Errors
    ///
    /// See [`OnlineError`]; nothing is changed.
    pub fn online_range(
        &self,
        range: PfnRange,
        zone: ZoneId,
        task: &Task,
    ) -> Result<OnlineStats, OnlineError> {
        let _ = (range, zone, task);
        todo!()
    }
}
