//! Counters of events by zone. Each CPU has its own; a reader adds them up.

use crate::{
    base::types::{MAX_ZONES, ORDERS, Order, ZoneId},
    cache::{Caches, blocks, cpu::PerCpu, pcp::Pcp},
    zone::places::{self},
};
use core::array;
use tidemark_sync::{
    ContextKind,
    atomic::{AtomicU64, Ordering},
};

/// Kinds of context; the index is the [`ContextKind`] as a number.
pub const CONTEXTS: usize = 3;
/// Number of distances of fallbacks: 1, 2, 3, and 4 or more zones passed over.
pub const DISTANCES: usize = 4;

/// Numbers of events in a zone since boot, summed over all CPUs. Each is exact at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneEvents {
    /// Blocks that were allocated, by order and by the kind of context of the request.
    pub allocs: [[u64; CONTEXTS]; ORDERS],
    /// Allocated blocks for which other usable zones had been passed over, by the number of these
    /// zones: 1, 2, 3, 4 or more.
    pub fallbacks: [u64; DISTANCES],
    /// Failed requests that had this zone as their first, by kind of context.
    pub failures: [u64; CONTEXTS],
    /// Blocks that came from a pageblock, or a cache, of the other migrate type, because nothing
    /// else was left.
    pub steals: u64,
    /// How often a CPU's cache was filled from the zone.
    pub refills: u64,
    /// Frames in these refills.
    pub refilled: u64,
    /// How often a batch of a CPU's cache, or all of it, went back.
    pub drains: u64,
    /// Frames that went back.
    pub drained: u64,
    /// How often a task compacted the zone for a larger block.
    pub compactions: u64,
    /// Compactions that ended with the block.
    pub compacted: u64,
    /// Frames that compactions moved.
    pub compact_migrated: u64,
}

impl ZoneEvents {
    /// Returns the number of allocations of all orders and contexts.
    pub fn allocated(&self) -> u64 {
        self.allocs.iter().flatten().sum()
    }

    /// Returns the number of compactions that ended without the block.
    pub fn compactions_failed(&self) -> u64 {
        self.compactions.saturating_sub(self.compacted)
    }
}

/// One CPU's counters of one zone. They are atomics only, so zeroed memory is a valid value.
///
/// No instruction is locked: each counter has one kind of writer only, which does not interrupt
/// itself. A context writes its own share, pinned. Counters of the caches are written inside gated
/// sections.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Counts {
    shares: [Share; CONTEXTS],
    pub(crate) refills: Counter,
    pub(crate) refilled: Counter,
    pub(crate) drains: Counter,
    pub(crate) drained: Counter,
    /// Compactions are counted by tasks only, pinned.
    pub(crate) compactions: Counter,
    pub(crate) compacted: Counter,
    pub(crate) compact_migrated: Counter,
}

/// The counters of one kind of context.
#[derive(Debug)]
pub(crate) struct Share {
    allocs: [Counter; ORDERS],
    fallbacks: [Counter; DISTANCES],
    pub(crate) failures: Counter,
    pub(crate) steals: Counter,
}

/// A counter with one writer at a time.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds without a locked instruction. Only the counter's kind of writer calls it, on its own
    /// CPU.
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(more), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counts {
    fn new() -> Self {
        Self {
            shares: array::from_fn(|_| Share {
                allocs: array::from_fn(|_| Counter::new()),
                fallbacks: array::from_fn(|_| Counter::new()),
                failures: Counter::new(),
                steals: Counter::new(),
            }),
            refills: Counter::new(),
            refilled: Counter::new(),
            drains: Counter::new(),
            drained: Counter::new(),
            compactions: Counter::new(),
            compacted: Counter::new(),
            compact_migrated: Counter::new(),
        }
    }

    /// Returns counters for every zone.
    pub(crate) fn of_zones() -> [Self; MAX_ZONES] {
        array::from_fn(|_| Self::new())
    }

    /// Returns the counters of the running context. The caller is pinned.
    #[inline]
    pub(crate) fn of(&self, context: ContextKind) -> &Share {
        &self.shares[context as usize]
    }

    fn add_to(&self, sum: &mut ZoneEvents) {
        for (context, share) in self.shares.iter().enumerate() {
            for (sum, count) in sum.allocs.iter_mut().zip(&share.allocs) {
                sum[context] += count.get();
            }
            for (sum, count) in sum.fallbacks.iter_mut().zip(&share.fallbacks) {
                *sum += count.get();
            }
            sum.failures[context] += share.failures.get();
            sum.steals += share.steals.get();
        }
        sum.refills += self.refills.get();
        sum.refilled += self.refilled.get();
        sum.drains += self.drains.get();
        sum.drained += self.drained.get();
        sum.compactions += self.compactions.get();
        sum.compacted += self.compacted.get();
        sum.compact_migrated += self.compact_migrated.get();
    }
}

impl Share {
    /// Counts blocks that came from the zone after `passed` other zones.
    #[inline]
    pub(crate) fn count_allocs(&self, order: Order, blocks: u64, passed: usize) {
        self.allocs[order.get() as usize].add(blocks);
        if passed > 0 {
            self.fallbacks[passed.min(DISTANCES) - 1].add(blocks);
        }
    }
}

impl<P: PerCpu> Caches<'_, P> {
    /// Returns the numbers of events in a zone since boot. Any context.
    ///
    /// # Panics
    ///
    /// Panics if the allocator has no node of this number.
    pub(crate) fn zone_events(&self, id: ZoneId) -> ZoneEvents {
        assert!(id.index() < self.zones.all().len());
        let mut sum = ZoneEvents::default();
        for cpu in self.cpus {
            cpu.events[id.index()].add_to(&mut sum);
            let singles = cpu.caches(id).iter().map(Pcp::taken);
            let singles = singles.map(|taken| (Order::ZERO, taken));
            let larger = blocks::taken(&cpu.taken[places::places_of(id)]);
            for (order, taken) in singles.chain(larger) {
                let sums = &mut sum.allocs[order.get() as usize];
                for (sum, taken) in sums.iter_mut().zip(taken) {
                    *sum += taken;
                }
            }
        }
        sum
    }
}

#[cfg(all(test, not(loom)))]
#[path = "events_tests.rs"]
mod tests;
