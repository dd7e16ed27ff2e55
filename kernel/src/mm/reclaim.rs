//! Reclaim: in the background by one thread for each node, and directly by tasks that allocate.

use super::{frames, page_cache};
use crate::arch::ipi::{self, WorkId};
use crate::arch::time::now_ns;
use crate::thread::{self, Placement, Priority, Reclaiming, WaitQueue};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use tidemark_frames::{MAX_NODES, NodeId, NodeMask, ZoneKind};
use tidemark_sync::{HardIrq, Task};

/// How long a task lets others run while it waits for memory or for a frame to come free.
pub const RELAX_NS: u64 = 100_000;
/// Most frames freed between two checks of the watermarks.
const BATCH_FRAMES: usize = 64;
/// How long a reclaimer that found nothing is not woken again. A balloon may hold a zone between
/// its watermarks for long, and every slow path wakes the reclaimer.
const NOTHING_TO_FREE_NS: u64 = 10_000_000;

/// One node's background reclaimer.
struct Reclaimer {
    queue: WaitQueue,
    /// Time before which wakes are dropped, in nanoseconds since boot. The thread writes it.
    quiet_until_ns: AtomicU64,
}

static RECLAIMERS: [Reclaimer; MAX_NODES] = [const {
    Reclaimer {
        queue: WaitQueue::new(),
        quiet_until_ns: AtomicU64::new(0),
    }
}; MAX_NODES];

/// The nodes whose reclaimers were asked to run. [`wake`] sets a bit, and the thread clears it when
/// it begins. The bits of nodes without a thread stay set, and so do all bits before the threads
/// exist.
static ASKED: AtomicU8 = AtomicU8::new(NodeMask::ALL.0);

/// The work that wakes the threads, and the nodes that have one, once they exist. A self-interrupt
/// does the work. A caller of [`wake`] may be an NMI, or hold a lock that stands after the
/// scheduler's in the lock order.
static WAKE: spin::Once<(WorkId, NodeMask)> = spin::Once::new();

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
    /// Times that an allocating task reclaimed.
    pub direct_runs: u64,
}

/// Returns what reclaim has done so far. Any context may call it.
pub fn counters() -> Counters {
    Counters {
        background_frames: BACKGROUND_FRAMES.load(Ordering::Relaxed),
        background_runs: BACKGROUND_RUNS.load(Ordering::Relaxed),
        direct_frames: DIRECT_FRAMES.load(Ordering::Relaxed),
        direct_runs: DIRECT_RUNS.load(Ordering::Relaxed),
    }
}

/// Starts a reclaimer for each node below `nodes`. It is called once, when threads can be created.
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
    let with_thread = NodeMask::ALL.iter().take(nodes);
    let with_thread = with_thread.fold(NodeMask::NONE, NodeMask::with);
    WAKE.call_once(|| (work, with_thread));
    // Release pairs with the Acquire in `on_wake` and `background`, as in `wake`.
    ASKED.fetch_and(!with_thread.0, Ordering::Release);
}

/// Wakes every reclaimer that was asked to run. Every CPU's handler looks at all reclaimers, so one
/// may be woken twice.
fn on_wake(irq: &HardIrq) {
    let Some(&(_, with_thread)) = WAKE.get() else {
        return;
    };
    // Acquire pairs with the Release in `wake`.
    for node in asked(Ordering::Acquire).and(with_thread).iter() {
        RECLAIMERS[usize::from(node.0)].queue.wake_all(irq);
    }
}

const NAMES: [&str; MAX_NODES] = [
    "reclaim0", "reclaim1", "reclaim2", "reclaim3", "reclaim4", "reclaim5", "reclaim6", "reclaim7",
];

fn asked(ordering: Ordering) -> NodeMask {
    NodeMask(ASKED.load(ordering))
}

/// Returns the nodes whose reclaimers [`wake`] would not ask: they have been asked and have not
/// begun, or they do not exist. Any context may call it.
#[inline]
pub fn asked_already() -> NodeMask {
    // Relaxed suffices: it only spares callers a second request. The thread clears its bit before
    // it looks at the watermarks.
    asked(Ordering::Relaxed)
}

/// Asks a node's reclaimer to run. Takes no lock. Any context may call it, an NMI included.
pub fn wake(node: NodeId) {
    let Some(reclaimer) = RECLAIMERS.get(node.0 as usize) else {
        return;
    };
    let Some(&(work, _)) = WAKE.get() else { return };
    let bit = NodeMask::only(node).0;
    if asked_already().contains(node)
        || now_ns() < reclaimer.quiet_until_ns.load(Ordering::Relaxed)
        || ASKED.fetch_or(bit, Ordering::Release) & bit != 0
    {
        return;
    }
    ipi::raise_self(work);
}

fn background(task: &Task, node: usize) {
    let _reclaiming = Reclaiming::begin(task);
    let reclaimer = &RECLAIMERS[node];
    let node = NodeId(node as u8);
    let bit = NodeMask::only(node).0;
    loop {
        reclaimer
            .queue
            .wait_forever(task, || ASKED.fetch_and(!bit, Ordering::Acquire) & bit != 0);
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

/// Reclaims for a task that allocates. Returns the number of frames freed.
pub(super) fn direct(node: NodeId, highest: ZoneKind, frames: usize, task: &Task) -> usize {
    DIRECT_RUNS.fetch_add(1, Ordering::Relaxed);
    // Allocations of reclaim itself ignore the watermarks, and do not reclaim in turn.
    let _reclaiming = Reclaiming::begin(task);
    let freed = page_cache::shrink(node, highest, frames, task);
    DIRECT_FRAMES.fetch_add(freed as u64, Ordering::Relaxed);
    freed
}
