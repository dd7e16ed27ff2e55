//! What the run counts, beside what the allocator counts itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count that any context may add to.
#[derive(Debug)]
pub struct Count(AtomicU64);

impl Count {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// Returns the sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Raises it to `value` if it is less.
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
    /// Requests, of those traced, that read an odd counter.
    pub odd: [Count; 3],
    /// Requests, of those traced, that overlapped a rebuild.
    pub overlapped: [Count; 3],
    /// Requests, of those traced, that began or walked again because of a rebuild.
    pub retries: Count,
    /// Blocks from a zone that their request may not use: hazard H7.
    pub strays: Count,
    /// Waits for an even counter, in turns.
    pub waited: Count,
    /// Waits for an even counter that were given up, because they would never have ended.
    pub given_up: [Count; 3],
    /// Blocks of 128 MiB that left.
    pub offlined: Count,
    /// Blocks that could not leave before their deadline, and stayed.
    pub stayed: Count,
    /// Blocks that came back in another zone.
    pub zone_changes: Count,
    /// Pages that were moved to another frame.
    pub migrated: Count,
    /// Pages that were reclaimed.
    pub reclaimed: Count,
    /// Blocks of frames that one CPU or context took and another one freed.
    pub handed_on: Count,
    /// The most frames that lay in the high-atomic reserve when it was looked at.
    pub high_atomic: Count,
    /// Requests that failed and had asked for that to be reported.
    pub warned: Count,
    /// Times that `validate` was called in the run.
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
