//! Counts of the run, besides those of the allocator.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count that any context may add to.
#[derive(Debug)]
pub struct Count(AtomicU64);

impl Count {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds to the count.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// Returns the sum.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Raises the count to `value` if it is less.
    pub fn at_least(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }
}

/// The counts of a run. Arrays are by context: task, interrupt, NMI.
#[derive(Debug)]
pub struct Counts {
    /// Handlers that ran.
    pub handlers: [Count; 3],
    /// Blocks that were signed.
    pub signed: Count,
    /// Traced requests that read an odd counter.
    pub odd: [Count; 3],
    /// Traced requests that overlapped a rebuild.
    pub overlapped: [Count; 3],
    /// Traced requests that began or walked again because of a rebuild.
    pub retries: Count,
    /// Blocks from a zone that their request may not use: hazard H7.
    pub strays: Count,
    /// Turns of waits for an even counter.
    pub waited: Count,
    /// Waits for an even counter that were given up, because they would never have ended.
    pub given_up: [Count; 3],
    /// Memory sections that left.
    pub offlined: Count,
    /// Memory sections that could not leave before their deadline, and stayed.
    pub stayed: Count,
    /// Memory sections that came back in another zone.
    pub zone_changes: Count,
    /// Pages that were moved to another frame.
    pub migrated: Count,
    /// Pages that were reclaimed.
    pub reclaimed: Count,
    /// Blocks of frames that one CPU or context took and another one freed.
    pub handed_on: Count,
    /// The most frames that were seen in the high-atomic reserve.
    pub high_atomic: Count,
    /// Requests without NOWARN that failed.
    pub warned: Count,
    /// Calls of `validate` in the run.
    pub validated: Count,
}

/// The counts of this run.
pub static COUNTS: Counts = Counts {
    handlers: [const { Count::new() }; 3],
    signed: Count::new(),
    odd: [const { Count::new() }; 3],
    overlapped: [const { Count::new() }; 3],
    retries: Count::new(),
    strays: Count::new(),
    waited: Count::new(),
    given_up: [const { Count::new() }; 3],
    offlined: Count::new(),
    stayed: Count::new(),
    zone_changes: Count::new(),
    migrated: Count::new(),
    reclaimed: Count::new(),
    handed_on: Count::new(),
    high_atomic: Count::new(),
    warned: Count::new(),
    validated: Count::new(),
};
