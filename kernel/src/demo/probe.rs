//! A request that may reclaim, held over the rebuild that makes its start stale.
//!
//! When the movable memory of a node leaves, the zone behind it moves to the front of the list. A
//! request that has chosen its start before, and walks after, misses that zone, and here no other
//! zone of its node has anything for it. Where the protocol has such requests look again, it is
//! served; where not, it fails with memory free. So a run says whether that look is there.

use super::{balloon, sources::fresh_walk_serves};
use crate::arch::{context::Task, percpu, time};
use crate::mm;
use crate::thread;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::*};
use tidemark_frames::{
    Gfp, NodeMask, Order, Owner, OwnerKind, Request, WalkInfo, ZoneId, ZoneKind,
};

/// How long each side waits for the other at most.
const WAIT_NS: u64 = 2_000_000_000;
const LOOK_EVERY_NS: u64 = 500_000;

/// What the request does. ASKED and LET_GO are stored by the hot-plug thread, the others by the
/// prober; Release/Acquire: what was done before is seen by the other.
static STATE: AtomicU8 = AtomicU8::new(IDLE);
const IDLE: u8 = 0;
/// It is to be made.
const ASKED: u8 = 1;
/// It has chosen its start and waits.
const HELD: u8 = 2;
/// It may walk.
const LET_GO: u8 = 3;

/// The prober's number plus one, once it runs.
static PROBER: AtomicU32 = AtomicU32::new(0);
/// Index of the zone that has memory for the request.
static ZONE: AtomicU32 = AtomicU32::new(0);
static OVER: AtomicBool = AtomicBool::new(false);

static ASKED_COUNT: AtomicU64 = AtomicU64::new(0);
static HELD_COUNT: AtomicU64 = AtomicU64::new(0);
static RETRIES: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);

/// What became of the requests.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// Removals for which one was asked for.
    pub asked: u64,
    /// Requests that were held over a rebuild.
    pub held: u64,
    /// How often those began again.
    pub retries: u64,
    /// Those that failed although a second request was served.
    pub failed: u64,
}

/// Returns what became of the requests so far.
pub fn tally() -> Tally {
    Tally {
        asked: ASKED_COUNT.load(Relaxed),
        held: HELD_COUNT.load(Relaxed),
        retries: RETRIES.load(Relaxed),
        failed: FAILED.load(Relaxed),
    }
}

/// The zone that a request should find alone, if `left` is a movable zone that has just lost its
/// last frame, and the node has what it takes.
pub fn wanted(left: Option<ZoneId>) -> Option<ZoneId> {
    let left = left.filter(|zone| zone.kind() == ZoneKind::Movable)?;
    if mm::frames().zone_info(left).managed != 0 {
        return None;
    }
    balloon::zone_to_probe(left.node())
}

/// Has the request made, and waits until it is held. The zones are tight.
pub fn ask(zone: ZoneId, task: &Task) {
    ASKED_COUNT.fetch_add(1, Relaxed);
    ZONE.store(zone.index() as u32, Relaxed);
    STATE.store(ASKED, Release);
    wait_while(ASKED, task);
}

/// Lets the request go, if one is held, and waits for its end.
pub fn let_go(task: &Task) {
    if STATE.load(Acquire) == HELD {
        STATE.store(LET_GO, Release);
        wait_while(LET_GO, task);
    }
}

fn wait_while(state: u8, task: &Task) {
    let deadline = time::now_ns() + WAIT_NS;
    while STATE.load(Acquire) == state && time::now_ns() < deadline {
        thread::sleep_ns(task, LOOK_EVERY_NS);
    }
}

/// Makes the thread end.
pub fn finish() {
    OVER.store(true, Release);
}

/// The prober's thread.
pub fn thread(task: &Task, _: usize) {
    PROBER.store(thread::current().map_or(0, |id| id.number() + 1), Relaxed);
    while !OVER.load(Acquire) {
        if STATE.load(Acquire) == ASKED {
            probe(task);
            STATE.store(IDLE, Release);
        }
        thread::sleep_ns(task, LOOK_EVERY_NS);
    }
}

fn probe(task: &Task) {
    let node = ZoneId::from_index(ZONE.load(Relaxed) as usize).node();
    let request = Request::kernel(Order::ZERO)
        .with(Gfp::NORETRY | Gfp::NOWARN)
        .owned_by(Owner::new(OwnerKind::Task, PROBER.load(Relaxed)))
        .on_node(node)
        .among(NodeMask::only(node));
    let mut walk = WalkInfo::default();
    let served = mm::frames().alloc_traced(task, &request, &mut walk);
    if STATE.load(Acquire) == ASKED || !walk.overlapped {
        // The fast path served it, or nothing was rebuilt.
        return;
    }
    HELD_COUNT.fetch_add(1, Relaxed);
    RETRIES.fetch_add(u64::from(walk.retries), Relaxed);
    if served.is_err() && fresh_walk_serves(task, &request, &walk) {
        FAILED.fetch_add(1, Relaxed);
    }
}

/// What happens when a request is about to walk: the prober's, the first time, stays until the
/// rebuild is over.
pub fn about_to_walk() {
    if STATE.load(Acquire) != ASKED || percpu::in_irq() || percpu::in_nmi() {
        return;
    }
    let me = thread::current().map_or(0, |id| id.number() + 1);
    if me != 0 && me == PROBER.load(Relaxed) {
        STATE.store(HELD, Release);
        // SAFETY: this is the prober, a task, whose request comes here with interrupts on, no lock
        // held and no section open: the slow path pins for the walk after this point.
        wait_while(HELD, &unsafe { Task::mint() });
    }
}
