//! Counts of events by zone: each CPU counts for itself, whoever looks adds up.

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
/// Distances of fallbacks that are told apart: 1, 2, 3, and more zones passed over.
pub const DISTANCES: usize = 4;

/// What happened in a zone since boot, summed over all CPUs; each number is exact by itself at
/// rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneEvents {
    /// Blocks that were allocated, by order and by the kind of context that asked.
    pub allocs: [[u64; CONTEXTS]; ORDERS],
    /// Those of them that came here after other zones that they might use had been passed over, by
    /// how many: 1, 2, 3, 4 or more.
    pub fallbacks: [u64; DISTANCES],
    /// Requests that failed and would have begun here, by kind of context.
    pub failures: [u64; CONTEXTS],
    /// Blocks that came from a pageblock, or a cache, of the other migrate type: nothing else was
    /// left.
    pub steals: u64,
    /// Times that a CPU's cache was filled from the zone.
    pub refills: u64,
    /// Frames that came into caches so.
    pub refilled: u64,
    /// Times that a batch of a CPU's cache, or all of it, went back.
    pub drains: u64,
    /// Frames that went back so.
    pub drained: u64,
    /// Times that a task compacted the zone for a larger block.
    pub compactions: u64,
    /// Those of them that ended with the block.
    pub compacted: u64,
    /// Frames that were moved for them.
    pub compact_migrated: u64,
}

impl ZoneEvents {
    /// Allocations of every order and context.
    pub fn allocated(&self) -> u64 {
        self.allocs.iter().flatten().sum()
    }

    /// Compactions that ended without the block.
    pub fn compactions_failed(&self) -> u64 {
        self.compactions.saturating_sub(self.compacted)
    }
}

/// One CPU's counts of one zone. Atomics only: zeroed memory is a valid value.
///
/// Nothing is locked: each counter has one kind of writer only, which does not interrupt itself. A
/// context writes its own share, pinned; what counts the caches is written inside their gated
/// sections.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Counts {
    shares: [Share; CONTEXTS],
    pub(crate) refills: Counter,
    pub(crate) refilled: Counter,
    pub(crate) drains: Counter,
    pub(crate) drained: Counter,
    /// Tasks only count compactions, pinned.
    pub(crate) compactions: Counter,
    pub(crate) compacted: Counter,
    pub(crate) compact_migrated: Counter,
}

/// What contexts of one kind counted.
#[derive(Debug)]
pub(crate) struct Share {
    allocs: [Counter; ORDERS],
    fallbacks: [Counter; DISTANCES],
    pub(crate) failures: Counter,
    pub(crate) steals: Counter,
}

/// A count with one writer at a time.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds without a locked instruction. Own CPU, and the counter's kind of writer, only.
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

    /// Counts of every zone.
    pub(crate) fn of_zones() -> [Self; MAX_ZONES] {
        array::from_fn(|_| Self::new())
    }

    /// Returns what the running context counts. Pinned.
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
    /// Counts blocks that came from the zone after `passed` others had been passed over.
    #[inline]
    pub(crate) fn count_allocs(&self, order: Order, blocks: u64, passed: usize) {
        self.allocs[order.get() as usize].add(blocks);
        if passed > 0 {
            self.fallbacks[passed.min(DISTANCES) - 1].add(blocks);
        }
    }
}

impl<P: PerCpu> Caches<'_, P> {
    /// Returns what happened in a zone since boot. Any context.
    ///
    /// # Panics
    ///
    /// Panics if the zone's node is beyond the storage.
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
