//! Counts of what happened to the requests of each context, for each CPU.

use crate::arch::{MAX_CPUS, cpu_id};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tidemark_frames::WalkInfo;
use tidemark_wire::{PriceContext, PriceRow};

const CONTEXTS: usize = PriceContext::ALL.len();

/// The way in which a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It got a frame.
    Served,
    /// It got no frame, and a second request, made at once, was served.
    Avoidable,
    /// It got no frame, and the second request got none either.
    Short,
}

/// The counts of one context on one CPU. Only that CPU adds. An NMI may come in between, so each
/// addition is a read-modify-write.
struct Counters {
    requests: AtomicU64,
    overlapped: AtomicU64,
    failed: AtomicU64,
    short: AtomicU64,
    retries: AtomicU64,
    left_out: AtomicU64,
}

impl Counters {
    const fn new() -> Self {
        Self {
            requests: AtomicU64::new(0),
            overlapped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            short: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }
}

static COUNTERS: [[Counters; CONTEXTS]; MAX_CPUS] =
    [const { [const { Counters::new() }; CONTEXTS] }; MAX_CPUS];

/// Counts one request by the running CPU. Any context may call it.
pub fn count(context: PriceContext, walk: &WalkInfo, ending: Ending) {
    let counters = &COUNTERS[cpu_id().0][context as usize];
    counters.requests.fetch_add(1, Relaxed);
    let overlapped = u64::from(walk.overlapped);
    counters.overlapped.fetch_add(overlapped, Relaxed);
    counters.retries.fetch_add(walk.retries.into(), Relaxed);
    let which = match ending {
        Ending::Served => return,
        Ending::Avoidable => &counters.failed,
        Ending::Short => &counters.short,
    };
    which.fetch_add(1, Relaxed);
}

/// Counts one request that was left out. Any context may call it.
pub fn leave_out(context: PriceContext) {
    let counters = &COUNTERS[cpu_id().0][context as usize];
    counters.left_out.fetch_add(1, Relaxed);
}

/// Adds up one context over all CPUs, and resets its counts. No requests are made meanwhile.
pub fn take(context: PriceContext, stalled: bool, rebuilds: u64) -> PriceRow {
    let mut row = PriceRow {
        context,
        stalled,
        rebuilds,
        requests: 0,
        overlapped: 0,
        failed: 0,
        short: 0,
        retries: 0,
        left_out: 0,
    };
    for counters in COUNTERS.iter().map(|cpu| &cpu[context as usize]) {
        row.requests += counters.requests.swap(0, Relaxed);
        row.overlapped += counters.overlapped.swap(0, Relaxed);
        row.failed += counters.failed.swap(0, Relaxed);
        row.short += counters.short.swap(0, Relaxed);
        row.retries += counters.retries.swap(0, Relaxed);
        row.left_out += counters.left_out.swap(0, Relaxed);
    }
    row
}
