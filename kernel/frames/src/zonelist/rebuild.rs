//! Rebuilds of the zonelists, and their times.

use crate::{
    base::{platform::Platform, resizing::Resizing},
    zone::Zones,
    zonelist::{Lists, Zonelists},
};
use core::{array, cell::Cell};
use tidemark_sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The number of finished rebuilds, for code that remembers what it read in a list. It wraps.
#[derive(Debug)]
pub(crate) struct Rebuilt(pub(crate) AtomicU32);

impl Rebuilt {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }
}

/// The rebuilds of the zonelists so far. The stretches with interrupts off are 0 if the protocol's
/// writer leaves interrupts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RebuildStats {
    /// Number of rebuilds.
    pub count: u64,
    /// The longest stretch with interrupts off, in nanoseconds.
    pub irq_off_max_ns: u64,
    /// The median of the last 63 stretches, or of all if there were fewer, in nanoseconds.
    pub irq_off_median_ns: u64,
    /// The last stretch, in nanoseconds.
    pub irq_off_last_ns: u64,
    /// The time of the last rebuild, in nanoseconds: with what interrupted it, but without the wait
    /// for a grace period in `snapshot`.
    pub whole_last_ns: u64,
}

/// Number of rebuilds that the median is computed from.
const REMEMBERED: usize = 63;

/// Times of the rebuilds. They are written under the hot-plug lock, and read without it.
#[derive(Debug)]
pub(crate) struct RebuildTimes {
    count: AtomicU64,
    max_ns: AtomicU64,
    /// The time of the last rebuild.
    whole_ns: AtomicU64,
    /// The last stretches with interrupts off, in nanoseconds, as a ring.
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

impl<P: Platform> Zonelists<'_, P> {
    /// Writes the lists of the populated zones; `changed` runs when they are in force. The orders
    /// of nodes were computed before, so that the stretch with interrupts off stays short.
    #[doc(alias = "__build_all_zonelists")]
    pub(crate) fn build(&self, zones: &Zones<'_, P>, changed: impl FnOnce(), _: &Resizing<'_>) {
        let platform = zones.platform();
        let lists = Lists {
            platform,
            nodes: self.nodes,
            zones: zones.all(),
            published: &self.published,
            irq_off_ns: Cell::new(None),
        };
        let begun_ns = platform.now_ns();
        self.protocol().rebuild(&lists);
        let whole_ns = platform.now_ns().saturating_sub(begun_ns);
        changed();
        let irq_off_ns = lists.irq_off_ns.get().unwrap_or(0);
        self.times.note(irq_off_ns, whole_ns);
    }

    /// Returns the number and times of the rebuilds so far.
    pub(crate) fn rebuild_stats(&self) -> RebuildStats {
        self.times.stats()
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
