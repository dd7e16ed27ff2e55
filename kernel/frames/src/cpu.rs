//! What each CPU has for itself.

use crate::{
    MAX_ZONES, ZoneId,
    events::Counts,
    mobility::{CACHED_KINDS, Mobility, SIZES},
    pcp::{Owner, Pcp},
    search::Hints,
};
use core::array;

/// One CPU's caches and counts, about 46 KiB. Atomics only: zeroed memory is a valid value.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct CpuCaches {
    pub(crate) owner: Owner,
    pub(crate) hints: [[Hints; SIZES]; CACHED_KINDS],
    pub(crate) huge_hints: Hints,
    /// Of each zone: frames of unmovable areas, and of movable ones.
    pub(crate) pcp: [[Pcp; CACHED_KINDS]; MAX_ZONES],
    pub(crate) events: [Counts; MAX_ZONES],
}

impl CpuCaches {
    /// Returns empty caches.
    pub fn new() -> Self {
        Self {
            owner: Owner::default(),
            hints: array::from_fn(|_| array::from_fn(|_| Hints::new())),
            huge_hints: Hints::new(),
            pcp: array::from_fn(|_| array::from_fn(|_| Pcp::new())),
            events: Counts::of_zones(),
        }
    }
}

impl CpuCaches {
    /// The cache of a zone's frames of one kind.
    #[inline]
    pub(crate) fn cache(&self, zone: ZoneId, mobility: Mobility) -> &Pcp {
        &self.pcp[zone.index()][mobility as usize]
    }

    /// Frames of a zone that are cached here; exact inside a section.
    #[inline]
    pub(crate) fn cached(&self, zone: ZoneId) -> u32 {
        self.pcp[zone.index()].iter().map(Pcp::len).sum()
    }
}

impl Default for CpuCaches {
    fn default() -> Self {
        Self::new()
    }
}
