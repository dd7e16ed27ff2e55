//! Reclaim: in the background by a thread a node, and directly by tasks that allocate.

use super::{frames, page_cache};
use crate::arch::ipi::{self, WorkId};
use crate::arch::time::now_ns;
use crate::thread::{self, Placement, Priority, Reclaiming, WaitQueue};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tidemark_frames::{MAX_NODES, NodeId, ZoneKind};
use tidemark_sync::{HardIrq, Task};

/// How long a task lets others run while it waits for memory or for a frame to come free.
pub const RELAX_NS: u64 = 100_000;
/// Frames freed between two looks at the marks.
const BATCH_FRAMES: usize = 64;
/// How long a reclaimer that found nothing is left alone: a balloon may hold a zone between its
/// marks for long, and every slow path wakes.
const NOTHING_TO_FREE_NS: u64 = 10_000_000;

/// One node's background reclaimer.
struct Reclaimer {
    queue: WaitQueue,
    /// Set by who wakes, cleared by the thread.
    asked: AtomicBool,
    /// Written by the thread; wakes before this time are dropped.
    quiet_until_ns: AtomicU64,
}

static RECLAIMERS: [Reclaimer; MAX_NODES] = [const {
    Reclaimer {
        queue: WaitQueue::new(),
        asked: AtomicBool::new(false),
        quiet_until_ns: AtomicU64::new(0),
    }
}; MAX_NODES];

/// What wakes the threads, once they are there: from any context by a self-interrupt, because the
/// caller may be an NMI, or hold a lock that stands behind the scheduler's in the lock order.
static WAKE: spin::Once<WorkId> = spin::Once::new();

static BACKGROUND_FRAMES: AtomicU64 = AtomicU64::new(0);
static BACKGROUND_RUNS: AtomicU64 = AtomicU64::new(0);
static DIRECT_FRAMES: AtomicU64 = AtomicU64::new(0);
static DIRECT_RUNS: AtomicU64 = AtomicU64::new(0);

/// What reclaim has done since boot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Frames freed in the background.
    pub background_frames: u64,
    /// Times that a background reclaimer ran.
    pub background_runs: u64,
    /// Frames freed by tasks that allocated.
    pub direct_frames: u64,
    /// Times that a task reclaimed.
    pub direct_runs: u64,
}

/// Returns what reclaim has done so far. Any context.
pub fn counters() -> Counters {
    Counters {
        background_frames: BACKGROUND_FRAMES.load(Ordering::Relaxed),
        background_runs: BACKGROUND_RUNS.load(Ordering::Relaxed),
        direct_frames: DIRECT_FRAMES.load(Ordering::Relaxed),
        direct_runs: DIRECT_RUNS.load(Ordering::Relaxed),
    }
}

/// Starts a reclaimer for each node below `nodes`. Once, when threads can be created.
///
/// # Panics
///
/// Panics if a thread cannot be created: boot cannot go on without it.
pub fn start(nodes: usize) {
    for (node, name) in NAMES.iter().enumerate().take(nodes) {
        thread::spawn(name, Placement::Any, Priority::Low, background, node)
            .expect("a slot for a background reclaimer");
    }
    let work = ipi::register_work(on_wake).expect("a work bit for the background reclaimers");
    WAKE.call_once(|| work);
}

/// Every CPU's handler looks at all reclaimers: who was asked is woken, perhaps twice.
fn on_wake(irq: &HardIrq) {
    for reclaimer in &RECLAIMERS {
        // Acquire: pairs with the Release in `wake`.
        if reclaimer.asked.load(Ordering::Acquire) {
            reclaimer.queue.wake_all(irq);
        }
    }
}

const NAMES: [&str; MAX_NODES] = [
    "reclaim0", "reclaim1", "reclaim2", "reclaim3", "reclaim4", "reclaim5", "reclaim6", "reclaim7",
];

/// Asks a node's reclaimer to run. Any context, an NMI included: takes no lock.
pub fn wake(node: NodeId) {
    let Some(reclaimer) = RECLAIMERS.get(node.0 as usize) else {
        return;
    };
    let Some(&work) = WAKE.get() else { return };
    // The plain load is for those who come while it is asked: what a failing request costs.
    if reclaimer.asked.load(Ordering::Relaxed)
        || now_ns() < reclaimer.quiet_until_ns.load(Ordering::Relaxed)
        || reclaimer.asked.swap(true, Ordering::Release)
    {
        return;
    }
    ipi::raise_self(work);
}

fn background(task: &Task, node: usize) {
    let _reclaiming = Reclaiming::begin(task);
    let reclaimer = &RECLAIMERS[node];
    let node = NodeId(node as u8);
    loop {
        let waited = reclaimer.queue.wait_until(task, None, || {
            reclaimer.asked.swap(false, Ordering::Acquire)
        });
        debug_assert!(waited.is_ok(), "a wait without a deadline timed out");
        BACKGROUND_RUNS.fetch_add(1, Ordering::Relaxed);
        loop {
            let wanted = frames().reclaim_wanted(node);
            if wanted == 0 {
                break;
            }
            let batch = BATCH_FRAMES.min(wanted as usize);
            let freed = page_cache::shrink(node, ZoneKind::Movable, batch, task);
            BACKGROUND_FRAMES.fetch_add(freed as u64, Ordering::Relaxed);
            if freed == 0 {
                let until = now_ns() + NOTHING_TO_FREE_NS;
                reclaimer.quiet_until_ns.store(until, Ordering::Relaxed);
                break;
            }
            thread::yield_now(task);
        }
    }
}

/// Reclaims for a task that allocates. Returns the frames freed.
pub(super) fn direct(node: NodeId, highest: ZoneKind, frames: usize, task: &Task) -> usize {
    DIRECT_RUNS.fetch_add(1, Ordering::Relaxed);
    // What reclaim itself allocates ignores the marks, and does not reclaim inside.
    let _reclaiming = Reclaiming::begin(task);
    let freed = page_cache::shrink(node, highest, frames, task);
    DIRECT_FRAMES.fetch_add(freed as u64, Ordering::Relaxed);
    freed
}
