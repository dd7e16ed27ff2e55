//! Counts of what happened to the requests of each source, for each CPU.

use crate::arch::{MAX_CPUS, cpu_id};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tidemark_frames::WalkInfo;
use tidemark_wire::{Source, SourceCounts};

const SOURCES: usize = Source::ALL.len();

/// The counts of one source on one CPU. Only that CPU adds. An NMI may interrupt a task's addition,
/// but each source has counters of its own and never interrupts itself on its CPU.
struct Counters {
    requests: AtomicU64,
    failures: AtomicU64,
    failures_overlapping: AtomicU64,
    failures_fresh: AtomicU64,
    failures_announced: AtomicU64,
    slow_path: AtomicU64,
    odd: AtomicU64,
    overlapped: AtomicU64,
    retries: AtomicU64,
}

impl Counters {
    const fn new() -> Self {
        Self {
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            failures_overlapping: AtomicU64::new(0),
            failures_fresh: AtomicU64::new(0),
            failures_announced: AtomicU64::new(0),
            slow_path: AtomicU64::new(0),
            odd: AtomicU64::new(0),
            overlapped: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        }
    }
}

static COUNTERS: [[Counters; SOURCES]; MAX_CPUS] =
    [const { [const { Counters::new() }; SOURCES] }; MAX_CPUS];

/// The way in which a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It got a block.
    Served,
    /// It got none.
    Failed,
    /// It got none over a rebuild, and a second request, made at once, was served.
    FreshWalkServes,
    /// It got none, and the kernel had announced that memory would be so scarce that this may
    /// happen.
    FailedAsAnnounced,
}

/// Counts one request by the running CPU. A task may move after it has read the CPU's number, and
/// then counts on the CPU that it left. That is why these are atomic additions. Any context may
/// call it.
pub fn count(source: Source, walk: &WalkInfo, ending: Ending) {
    let counters = &COUNTERS[cpu_id().0][source as usize];
    counters.requests.fetch_add(1, Relaxed);
    if walk.slow {
        counters.slow_path.fetch_add(1, Relaxed);
        counters.odd.fetch_add(u64::from(walk.odd), Relaxed);
        counters
            .overlapped
            .fetch_add(u64::from(walk.overlapped), Relaxed);
        counters.retries.fetch_add(u64::from(walk.retries), Relaxed);
    }
    if ending == Ending::Served {
        return;
    }
    counters.failures.fetch_add(1, Relaxed);
    if ending == Ending::FailedAsAnnounced {
        counters.failures_announced.fetch_add(1, Relaxed);
    } else if walk.overlapped {
        counters.failures_overlapping.fetch_add(1, Relaxed);
        let fresh = ending == Ending::FreshWalkServes;
        counters.failures_fresh.fetch_add(u64::from(fresh), Relaxed);
    }
}

/// Adds up the counts of one source over all CPUs.
pub fn of(source: Source) -> SourceCounts {
    let mut sum = SourceCounts::default();
    for counters in COUNTERS.iter().map(|cpu| &cpu[source as usize]) {
        sum.requests += counters.requests.load(Relaxed);
        sum.failures += counters.failures.load(Relaxed);
        sum.failures_overlapping_rebuild += counters.failures_overlapping.load(Relaxed);
        sum.failures_fresh_walk_serves += counters.failures_fresh.load(Relaxed);
        sum.failures_under_announced_pressure += counters.failures_announced.load(Relaxed);
        sum.slow_path += counters.slow_path.load(Relaxed);
        sum.odd += counters.odd.load(Relaxed);
        sum.overlapped += counters.overlapped.load(Relaxed);
        sum.retries += counters.retries.load(Relaxed);
    }
    sum
}
