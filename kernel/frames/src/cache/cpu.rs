//! A CPU's own data: caches, hints and counters.

use crate::{
    base::{
        pin::OnCpu,
        platform::Platform,
        types::{MAX_ZONES, ZoneId},
    },
    cache::{
        blocks::{self, BlockCache, TakeCounts},
        events::Counts,
        first_caches::FirstCaches,
        pcp::{DrainState, Pcp},
    },
    pageblock::{
        flags::{CACHES, PageblockFlags},
        migrate_type::MigrateType,
    },
    zone::{
        hints::CpuHints,
        places::{self, PLACES},
    },
};
use core::{array, ops::Deref};

/// One CPU's caches and counters, about 93 KiB. They are atomics only, so zeroed memory is a valid
/// value: empty caches.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct CpuCaches {
    /// For each zone a cache of frames of unmovable pageblocks, and one of movable ones, by the
    /// cache's number in [`PageblockFlags`]. The field comes first, so that a cache is found by its
    /// number alone.
    pub(crate) pcp: [Pcp; CACHES],
    pub(crate) drain_state: DrainState,
    pub(crate) first_caches: FirstCaches,
    pub(crate) hints: CpuHints,
    /// Caches of larger blocks, by place.
    pub(crate) blocks: [BlockCache; PLACES],
    pub(crate) taken: [TakeCounts; PLACES],
    pub(crate) events: [Counts; MAX_ZONES],
}

impl CpuCaches {
    /// Returns empty caches.
    pub fn new() -> Self {
        Self {
            drain_state: DrainState::default(),
            first_caches: FirstCaches::new(),
            hints: CpuHints::new(),
            pcp: array::from_fn(|_| Pcp::new()),
            blocks: array::from_fn(|_| BlockCache::new()),
            taken: array::from_fn(|_| TakeCounts::new()),
            events: Counts::of_zones(),
        }
    }
}

impl CpuCaches {
    /// Returns the cache of a zone's frames of one migrate type.
    #[inline]
    pub(crate) fn cache(&self, zone: ZoneId, migrate_type: MigrateType) -> &Pcp {
        &self.pcp[PageblockFlags::cache_of(zone, migrate_type)]
    }

    /// Returns a zone's two caches of single frames.
    #[inline]
    pub(crate) fn caches(&self, zone: ZoneId) -> &[Pcp] {
        &self.pcp[PageblockFlags::caches_of(zone)]
    }

    /// Returns a zone's caches of larger blocks, of both migrate types.
    #[inline]
    pub(crate) fn block_caches(&self, zone: ZoneId) -> &[BlockCache] {
        &self.blocks[places::places_of(zone)]
    }

    /// Returns how many single frames of a zone are cached here; exact inside a gated section.
    #[inline]
    pub(crate) fn cached(&self, zone: ZoneId) -> u32 {
        self.caches(zone).iter().map(|cache| cache.len()).sum()
    }

    /// Returns how many frames of a zone are cached here, in blocks of any order; exact at rest.
    pub(crate) fn held(&self, zone: ZoneId) -> u64 {
        let blocks = blocks::each(self.block_caches(zone));
        blocks.map(|(order, _)| order.frames()).sum::<u64>() + u64::from(self.cached(zone))
    }
}

impl Default for CpuCaches {
    fn default() -> Self {
        Self::new()
    }
}

/// The caches of the CPU that runs this, for as long as it stays there.
#[derive(Clone, Copy)]
pub(crate) struct ThisCpu<'p>(&'p CpuCaches);

impl<'p> ThisCpu<'p> {
    /// Wraps the caches that [`crate::cache::Caches::this_cpu`] has found.
    #[inline]
    pub(super) const fn new(caches: &'p CpuCaches) -> Self {
        Self(caches)
    }

    /// Returns the proof that the code stays on its CPU.
    #[inline]
    pub(crate) const fn on_cpu(&self) -> OnCpu<'p> {
        OnCpu::proven_otherwise()
    }
}

impl Deref for ThisCpu<'_> {
    type Target = CpuCaches;

    #[inline]
    fn deref(&self) -> &CpuCaches {
        self.0
    }
}

/// How a platform finds the caches of the CPU that runs.
pub trait PerCpu: Platform {
    /// Returns the caches of the CPU that runs this, out of those of all CPUs. The caller is pinned
    /// or inside a gated section, in any context. A platform may override this if it has a quicker
    /// way than an index by the CPU's number.
    #[inline]
    fn caches<'m>(&self, all: &'m [CpuCaches]) -> &'m CpuCaches {
        &all[Self::cpu()]
    }
}
