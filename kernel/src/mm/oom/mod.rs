//! When reclaim has failed: a victim is chosen among the tasks with memory, and a report explains why.

mod pool;

pub use pool::{Choice, MAX_POOLS, OomPool, Registry};

use super::{reclaim, report};
use crate::arch::time::now_ns;
use crate::console::Level;
use crate::thread;
use crate::{info, warn};
use core::sync::atomic::{AtomicU64, Ordering};
use tidemark_frames::{AllocReport, OomOutcome};
use tidemark_sync::{ContextKind, Task};

static REGISTRY: Registry = Registry::new();
static KILLS: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Registers a thread's memory as something that may be taken from it, for good. Returns whether
/// there was room.
#[must_use]
pub fn register(pool: &'static OomPool) -> bool {
    REGISTRY.register(pool)
}

/// Victims killed so far.
pub fn kills() -> u64 {
    KILLS.load(Ordering::Relaxed)
}

/// Times that the allocator gave up on reclaim so far, with a victim or without.
pub fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Chooses a victim, or lets the last one go on dying, and reports.
pub(super) fn handle(report: &AllocReport, task: &Task) -> OomOutcome {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let now_ns = now_ns();
    match REGISTRY.choose(now_ns) {
        // The requester is the victim: it can only die if its request fails.
        Choice::Dying(pool) if pool.is_mine() => OomOutcome::NoVictim,
        Choice::Dying(_) => {
            // One victim at a time: its memory comes when it has run.
            thread::sleep_ns(task, reclaim::RELAX_NS);
            OomOutcome::VictimKilled
        }
        Choice::Victim(pool) => {
            warn!(
                "out of memory: {}",
                report::Requester(report, ContextKind::Task)
            );
            report::zones(Level::Info);
            let held = pool.held_frames();
            pool.kill(now_ns);
            KILLS.fetch_add(1, Ordering::Relaxed);
            info!(
                "out of memory: killed {}, which held {}",
                pool.name(),
                report::Size(held as u64)
            );
            if pool.is_mine() {
                return OomOutcome::NoVictim;
            }
            OomOutcome::VictimKilled
        }
        Choice::Nobody => OomOutcome::NoVictim,
    }
}
