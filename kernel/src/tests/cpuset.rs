//! Whose requests a cpuset confines, and that a change of it is noticed in time.

use super::support::{
    ensure,
    everywhere::call_everywhere,
    frames::{OWNER, Pile, at_min, quiet, take_all_down, unmovable},
    tests, want,
};
use crate::{
    arch::context::{HardIrq, Task},
    mm::{self, cpuset},
    points,
    selftest::{Group, Outcome, Report},
    thread::{self, ThreadId},
};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use tidemark_frames::{
    FrameHandle, Gfp, NodeMask, Order, Point, Request, WalkInfo, ZoneId, ZoneInfo,
};
use tidemark_sync::Context;

/// The group.
pub const GROUP: Group = Group {
    name: "cpuset",
    tests: tests![
        a_tasks_frames_come_from_its_cpuset_whatever_node_it_wants,
        only_hardwall_keeps_the_slow_path_within_the_cpuset,
        urgent_requests_and_handlers_ignore_the_cpuset,
        a_cpuset_that_changes_under_a_request_makes_it_begin_again,
        a_cpuset_ends_with_its_thread,
    ],
};

/// The running thread's cpuset, until this is dropped.
struct Confined(ThreadId);

impl Confined {
    fn to(nodes: NodeMask, wall: NodeMask) -> Option<Self> {
        let id = thread::current()?;
        cpuset::confine(id, nodes, wall);
        Some(Self(id))
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        cpuset::release(self.0);
    }
}

/// The zone that serves a request, if one does, and what the request met.
fn served(context: &impl Context, request: Request) -> (Option<ZoneId>, WalkInfo) {
    let mut walk = WalkInfo::default();
    let request = request.with(Gfp::NOWARN).owned_by(OWNER);
    let block = mm::frames().alloc_traced(context, &request, &mut walk);
    let zone = block
        .ok()
        .and_then(|block| mm::frames().zone_of(block.pfn()));
    (zone, walk)
}

fn a_tasks_frames_come_from_its_cpuset_whatever_node_it_wants(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    quiet(task);
    for own in mm::nodes_with_lists() {
        let has_memory = mm::frames()
            .zones()
            .any(|zone| zone.id.node() == own && unmovable(zone.id) && zone.free > 2 * zone.high);
        if !has_memory {
            continue;
        }
        let _confined = want!(
            report,
            Confined::to(NodeMask::only(own), NodeMask::only(own)),
            "no thread"
        );
        for wanted in mm::nodes_with_lists() {
            for request in [
                Request::kernel(Order::ZERO),
                Request::kernel(Order::COSTLY),
                Request::nowait(Order::ZERO),
            ] {
                let (zone, walk) = served(task, request.on_node(wanted));
                ensure!(
                    report,
                    zone.map(ZoneId::node) == Some(own),
                    "{zone:?} where only node {own} may, seen from node {wanted}: {walk:?}"
                );
            }
        }
    }
    Outcome::Pass
}

fn only_hardwall_keeps_the_slow_path_within_the_cpuset(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    quiet(task);
    // No machine has memory in no node: the fast path finds nothing.
    let confined = Confined::to(NodeMask::NONE, NodeMask::ALL);
    let _confined = want!(report, confined, "no thread");
    let (zone, walk) = served(task, Request::kernel(Order::ZERO));
    ensure!(report, zone.is_some() && walk.slow, "{zone:?}, {walk:?}");
    let hard = Request::kernel(Order::ZERO).with(Gfp::HARDWALL);
    let (zone, walk) = served(task, hard);
    ensure!(report, zone.is_none(), "{zone:?} beyond the wall: {walk:?}");
    Outcome::Pass
}

/// What a handler's request met: 1 for a frame, 2 for the slow path.
static IN_HANDLER: AtomicU64 = AtomicU64::new(0);

fn urgent_requests_and_handlers_ignore_the_cpuset(task: &Task, report: &mut Report) -> Outcome {
    fn handler(irq: &HardIrq, _: usize) {
        let (zone, walk) = served(irq, Request::atomic(Order::ZERO));
        let met = u64::from(zone.is_some()) | u64::from(walk.slow) << 1;
        IN_HANDLER.fetch_or(met << 2, SeqCst);
    }
    quiet(task);
    let confined = Confined::to(NodeMask::NONE, NodeMask::NONE);
    let _confined = want!(report, confined, "no thread");
    let (zone, walk) = served(task, Request::atomic(Order::ZERO));
    ensure!(report, zone.is_some() && walk.slow, "{zone:?}, {walk:?}");
    IN_HANDLER.store(0, SeqCst);
    call_everywhere(handler, 0, task);
    let met = IN_HANDLER.load(SeqCst) >> 2;
    ensure!(report, met == 1, "handlers met {met:#b}");
    Outcome::Pass
}

/// A block that a hook frees, so that memory is there when the cpuset changes; raw, or 0.
static SPARE: AtomicU64 = AtomicU64::new(0);
/// The thread with the cpuset that changes, and the check at which it does.
static MOVED: AtomicU64 = AtomicU64::new(0);
static AT_OOM: AtomicBool = AtomicBool::new(false);
/// Whether the cpuset changes; without that, nobody looks again.
static CHANGES: AtomicBool = AtomicBool::new(false);

fn free_spare() {
    if let Some(handle) = FrameHandle::from_raw(SPARE.swap(0, SeqCst)) {
        // A spare that is not adopted is reported by the allocator.
        drop(mm::frames().adopt(handle));
    }
}

/// Gives memory back just before a check, and changes the cpuset of the thread that makes the
/// request.
fn move_underneath(point: Point) {
    let at_oom = AT_OOM.load(SeqCst);
    let is_here = match point {
        Point::SlowCheckOom => at_oom,
        Point::SlowCheckNopage => !at_oom,
        _ => false,
    };
    let moved = ThreadId::from_bits(MOVED.load(SeqCst));
    if is_here && moved.is_some() && moved == thread::current() && SPARE.load(SeqCst) != 0 {
        free_spare();
        if let Some(id) = moved.filter(|_| CHANGES.load(SeqCst)) {
            cpuset::confine(id, NodeMask::ALL, NodeMask::ALL);
        }
    }
}

/// Makes a request that finds nothing until the check, where its cpuset changes, or does not.
fn moved_at(task: &Task, at_oom: bool, changes: bool) -> Option<(Option<ZoneId>, WalkInfo)> {
    quiet(task);
    let confined = Confined::to(NodeMask::ALL, NodeMask::ALL)?;
    let order = Order::new(9)?;
    let spare = Request::kernel(order).owned_by(OWNER).with(Gfp::DMA32);
    let spare = mm::frames().alloc(task, &spare).ok()?;
    SPARE.store(spare.leak().into_raw(), SeqCst);
    let mut pile = Pile::new();
    let below = |zone: &ZoneInfo| at_min(zone).saturating_sub(8);
    take_all_down(task, unmovable, below, &mut pile);
    MOVED.store(confined.0.to_bits(), SeqCst);
    AT_OOM.store(at_oom, SeqCst);
    CHANGES.store(changes, SeqCst);
    let hooked = points::set_hook(move_underneath);
    let how = if at_oom { Gfp::NONE } else { Gfp::NORETRY };
    let result = served(task, Request::kernel(Order::ZERO).with(how));
    drop(hooked);
    drop(pile);
    free_spare();
    Some(result)
}

fn a_cpuset_that_changes_under_a_request_makes_it_begin_again(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    for at_oom in [false, true] {
        let (zone, walk) = want!(report, moved_at(task, at_oom, true), "no spare block");
        ensure!(
            report,
            zone.is_some() && walk.cpuset_retries == 1 && walk.retries == 0,
            "moved before {}: {zone:?}, {walk:?}",
            if at_oom { "OOM" } else { "nopage" }
        );
    }
    // A thread whose cpuset does not change does not look again: the check is what served the
    // others.
    let (zone, walk) = want!(report, moved_at(task, false, false), "no spare block");
    ensure!(
        report,
        zone.is_none() && walk.cpuset_retries == 0,
        "not moved: {zone:?}, {walk:?}"
    );
    Outcome::Pass
}

fn a_cpuset_ends_with_its_thread(task: &Task, report: &mut Report) -> Outcome {
    fn confined(_: &Task, _: usize) {
        if let Some(id) = thread::current() {
            cpuset::confine(id, NodeMask::NONE, NodeMask::NONE);
        }
    }
    ensure!(report, !thread::any_cpuset(), "somebody has a cpuset");
    let id = thread::spawn(
        "test-cpuset",
        thread::Placement::Any,
        thread::Priority::Normal,
        confined,
        0,
    );
    let id = want!(report, id, "no thread");
    ensure!(report, thread::join(task, id).is_ok(), "it did not end");
    let gone = super::support::eventually(task, super::support::SOON_NS, || !thread::any_cpuset());
    ensure!(report, gone, "its cpuset outlived it");
    Outcome::Pass
}
