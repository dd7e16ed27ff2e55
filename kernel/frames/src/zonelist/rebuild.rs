//! Rebuilding the zonelists, and recomputing what follows from the zones' sizes.

use crate::{
    base::{
        platform::Platform,
        types::{ZoneId, ZoneKind},
    },
    cache::{blocks, pcp},
    frames::Frames,
    oracle::stats::RebuildStats,
    zone::{Policy, marks},
    zonelist::Lists,
};
use core::{array, cell::Cell};
use tidemark_sync::{
    Task,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Rebuilds whose time is remembered for the median.
const REMEMBERED: usize = 63;

/// Times of the rebuilds. Written under the hot-plug lock, read by anybody.
#[derive(Debug)]
pub(crate) struct RebuildTimes {
    count: AtomicU64,
    max_ns: AtomicU64,
    /// The last rebuild from its begin to its end.
    whole_ns: AtomicU64,
    /// The last ones, in nanoseconds, as a ring.
    last_ns: [AtomicU32; REMEMBERED],
}

impl RebuildTimes {
    pub(crate) fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
            whole_ns: AtomicU64::new(0),
            last_ns: array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    fn note(&self, irq_off_ns: u64, whole_ns: u64) {
        self.whole_ns.store(whole_ns, Ordering::Relaxed);
        let count = self.count.load(Ordering::Relaxed);
        let place = &self.last_ns[count as usize % REMEMBERED];
        place.store(
            u32::try_from(irq_off_ns).unwrap_or(u32::MAX),
            Ordering::Relaxed,
        );
        if irq_off_ns > self.max_ns.load(Ordering::Relaxed) {
            self.max_ns.store(irq_off_ns, Ordering::Relaxed);
        }
        self.count.store(count + 1, Ordering::Relaxed);
    }

    fn stats(&self) -> RebuildStats {
        let count = self.count.load(Ordering::Relaxed);
        let mut last =
            array::from_fn::<u32, REMEMBERED, _>(|at| self.last_ns[at].load(Ordering::Relaxed));
        let newest = last[(count as usize + REMEMBERED - 1) % REMEMBERED];
        let known = &mut last[..(count as usize).min(REMEMBERED)];
        known.sort_unstable();
        RebuildStats {
            count,
            irq_off_max_ns: self.max_ns.load(Ordering::Relaxed),
            irq_off_median_ns: known.get(known.len() / 2).copied().unwrap_or(0).into(),
            irq_off_last_ns: newest.into(),
            whole_last_ns: self.whole_ns.load(Ordering::Relaxed),
        }
    }
}

impl<P: Platform> Frames<'_, P> {
    /// Makes the zonelists what the populated zones demand. Under the hot-plug lock. Everything that
    /// does not depend on which zones are populated was done before, so that the stretch with
    /// interrupts off stays short.
    pub(crate) fn rebuild_zonelists(&self, task: &Task) {
        self.protocol().prepare(&self.platform, task);
        self.build_zonelists();
        self.protocol().finish(&self.platform, task);
    }

    /// The same at boot, where nobody can be reading what is replaced.
    pub(crate) fn build_zonelists(&self) {
        let lists = Lists {
            platform: &self.platform,
            nodes: self.storage.nodes,
            zones: self.storage.zones,
            published: &self.published,
            irq_off_ns: Cell::new(None),
        };
        let begun_ns = self.platform.now_ns();
        self.protocol().rebuild(&lists);
        let whole_ns = self.platform.now_ns().saturating_sub(begun_ns);
        self.forget_firsts();
        let irq_off_ns = lists.irq_off_ns.get().unwrap_or(0);
        self.rebuilds.note(irq_off_ns, whole_ns);
    }

    /// Rebuilds the zonelists although no zone came or went: for tests of those who read them. Task
    /// context, interrupts on, no spinlock held.
    pub fn rebuild(&self, task: &Task) {
        let _resizing = self.lock_resizing(task);
        self.rebuild_zonelists(task);
    }

    /// Rebuilds so far.
    pub fn rebuild_stats(&self) -> RebuildStats {
        self.rebuilds.stats()
    }

    /// Recomputes marks, reserves and cache sizes of every zone. Under the hot-plug lock.
    pub(crate) fn refresh_policy(&self) {
        for zone in self.zone_ids() {
            let policy = self.wanted_policy(zone);
            self.zone(zone).set_policy(&policy);
            self.set_cache_limits(zone, &policy);
            self.follow_marks(zone);
        }
    }

    /// What a zone's marks, reserves and cache sizes should be.
    pub(crate) fn wanted_policy(&self, zone: ZoneId) -> Policy {
        let lowmem = self
            .zone_ids()
            .filter(|zone| zone.kind() != ZoneKind::Movable)
            .map(|zone| self.zone(zone).managed())
            .sum();
        let managed = self.zone(zone).managed();
        let of_node = ZoneKind::ALL.map(|kind| self.zone(ZoneId::new(zone.node(), kind)).managed());
        let marks = marks::marks(zone.kind(), managed, lowmem);
        let batch = marks::batch(managed);
        let cpus = self.storage.cpus.len();
        Policy {
            marks,
            reserve: marks::lowmem_reserve(of_node)[zone.kind() as usize],
            batch,
            cached_orders: blocks::cached_orders(managed / 8 / cpus as u64),
            cache_high: marks::cache_high(managed, marks.low, cpus, batch, pcp::CAPACITY as u32),
        }
    }

    /// Every zone that the storage has room for.
    pub(crate) fn zone_ids(&self) -> impl Iterator<Item = ZoneId> + use<P> {
        (0..self.storage.zones.len()).map(ZoneId::from_index)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_for_the_longest_the_last_and_the_median_of_the_last_63() {
        let times = RebuildTimes::new();
        assert_eq!(times.stats(), RebuildStats::default());
        for time in [7, 90, 5] {
            times.note(time, time + 1);
        }
        let stats = RebuildStats {
            count: 3,
            irq_off_max_ns: 90,
            irq_off_median_ns: 7,
            irq_off_last_ns: 5,
            whole_last_ns: 6,
        };
        assert_eq!(times.stats(), stats);
        for time in 1..=63 {
            times.note(time, time + 1);
        }
        let stats = RebuildStats {
            count: 66,
            irq_off_max_ns: 90,
            irq_off_median_ns: 32,
            irq_off_last_ns: 63,
            whole_last_ns: 64,
        };
        assert_eq!(times.stats(), stats);
        times.note(u64::MAX, 9);
        assert_eq!(times.stats().irq_off_last_ns, u64::from(u32::MAX));
    }
}
