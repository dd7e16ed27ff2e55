//! The probe: a request that may reclaim, held over the rebuild that makes its start stale.
//!
//! When the movable memory of a node leaves, the zone behind it moves to the front of the list. A
//! request that has chosen its start before, and walks after, misses that zone. Here no other zone
//! of its node has memory for it. If the protocol makes such requests look again, it is served.
//! Otherwise it fails although memory is free. So a run shows whether the protocol looks again.

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

/// The state of the request. The hot-plug thread stores ASKED and LET_GO, the prober the others.
/// Release and Acquire make what one side did before visible to the other.
static STATE: AtomicU8 = AtomicU8::new(IDLE);
const IDLE: u8 = 0;
/// The request is to be made.
const ASKED: u8 = 1;
/// The request has chosen its start and waits.
const HELD: u8 = 2;
/// The request may walk.
const LET_GO: u8 = 3;

/// The number of the prober's thread plus 1, once it runs.
static PROBER: AtomicU32 = AtomicU32::new(0);
/// Index of the zone that has memory for the request.
static ZONE: AtomicU32 = AtomicU32::new(0);
static OVER: AtomicBool = AtomicBool::new(false);

static ASKED_COUNT: AtomicU64 = AtomicU64::new(0);
static HELD_COUNT: AtomicU64 = AtomicU64::new(0);
static RETRIES: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);

/// The counts of the requests.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// Number of removals for which a request was asked for.
    pub asked: u64,
    /// Number of requests that were held over a rebuild.
    pub held: u64,
    /// How often those began again.
    pub retries: u64,
    /// Number of those that failed although a second request was served.
    pub failed: u64,
}

/// Returns the counts of the requests so far.
pub fn tally() -> Tally {
    Tally {
        asked: ASKED_COUNT.load(Relaxed),
        held: HELD_COUNT.load(Relaxed),
        retries: RETRIES.load(Relaxed),
        failed: FAILED.load(Relaxed),
    }
}

/// Returns the one zone in which a request should find memory. Returns nothing unless `left` is a
/// movable zone that has just lost its last frame, and the node suits a probe.
pub fn wanted(left: Option<ZoneId>) -> Option<ZoneId> {
    let left = left.filter(|zone| zone.kind() == ZoneKind::Movable)?;
    if mm::frames().zone_info(left).managed != 0 {
        return None;
    }
    balloon::zone_to_probe(left.node())
}

/// Makes the prober make its request, and waits until it is held. The zones are tight.
pub fn ask(zone: ZoneId, task: &Task) {
    ASKED_COUNT.fetch_add(1, Relaxed);
    ZONE.store(zone.index() as u32, Relaxed);
    STATE.store(ASKED, Release);
    wait_while(ASKED, task);
}

/// Lets the request go on, if one is held, and waits for its end.
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

/// Runs as the prober's thread.
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
        // The fast path served the request, or no list was rebuilt.
        return;
    }
    HELD_COUNT.fetch_add(1, Relaxed);
    RETRIES.fetch_add(u64::from(walk.retries), Relaxed);
    if served.is_err() && fresh_walk_serves(task, &request, &walk) {
        FAILED.fetch_add(1, Relaxed);
    }
}

/// Holds the prober's request, the first time that it is about to walk, until the rebuild is over.
/// Other requests pass.
pub fn about_to_walk() {
    if STATE.load(Acquire) != ASKED || percpu::in_irq() || percpu::in_nmi() {
        return;
    }
    let me = thread::current().map_or(0, |id| id.number() + 1);
    if me != 0 && me == PROBER.load(Relaxed) {
        STATE.store(HELD, Release);
        // SAFETY: this is the prober, a task. Its request comes here with interrupts on, no lock
        // held and no gated section open: the slow path pins for the walk after this point.
        wait_while(HELD, &unsafe { Task::mint() });
    }
}
