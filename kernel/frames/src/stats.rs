//! What may be looked at: zones, lists, rebuilds.

use crate::{MAX_ZONES, ZoneId};

/// A zone at a moment, in frames; each number is exact by itself, not together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneInfo {
    /// Which zone.
    pub id: ZoneId,
    /// Free, not counting caches and isolated areas.
    pub free: u64,
    /// In CPUs' caches.
    pub cached: u64,
    /// MIN mark.
    pub min: u64,
    /// LOW mark.
    pub low: u64,
    /// HIGH mark.
    pub high: u64,
    /// Frames that the allocator manages.
    pub managed: u64,
    /// Frames that are there, managed or not.
    pub present: u64,
    /// What is kept back from requests whose highest zone is the index.
    pub reserve: [u64; 4],
    /// First frame and frame after the last one, holes included.
    pub span: crate::PfnRange,
}

/// A zonelist at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListSnapshot {
    pub(crate) zones: [Option<ZoneId>; MAX_ZONES],
}

impl ListSnapshot {
    /// The zones, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = ZoneId> + '_ {
        self.zones.iter().map_while(|zone| *zone)
    }
}

/// Rebuilds of the zonelists so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RebuildStats {
    /// How many.
    pub count: u64,
    /// The longest stretch with interrupts off, in nanoseconds.
    pub irq_off_max_ns: u64,
    /// The median of the last 63 stretches at most, in nanoseconds.
    pub irq_off_median_ns: u64,
    /// The last stretch, in nanoseconds.
    pub irq_off_last_ns: u64,
}
