use crate::base::mutant::{self, Mutant};
use crate::testing::*;
use crate::*;
use std::sync::{Arc, Mutex, atomic::Ordering};

const FIRST: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);
const SECOND: ZoneId = ZoneId::new(NodeId(1), ZoneKind::Normal);
const SINGLE: Order = Order::ZERO;

fn confine(frames: &TestFrames, nodes: NodeMask, wall: NodeMask, generation: u32) {
    *frames.platform().cpuset.lock().unwrap() = Some(Cpuset {
        nodes,
        wall,
        generation,
    });
}

fn only(node: u8) -> NodeMask {
    NodeMask::only(NodeId(node))
}

/// Returns the zone of the request's block, if it gets one.
fn served(
    frames: &'static TestFrames,
    context: &impl tidemark_sync::Context,
    request: &Request,
) -> (Option<ZoneId>, WalkInfo) {
    let mut info = WalkInfo::default();
    let block = frames.alloc_traced(context, request, &mut info);
    let zone = block.ok().and_then(|block| frames.zone_of(block.pfn()));
    (zone, info)
}

#[test]
fn the_fast_path_of_a_task_keeps_to_its_cpuset() {
    let frames = two_nodes(1);
    confine(frames, only(1), NodeMask::ALL, 1);
    for request in [
        Request::kernel(SINGLE),
        Request::kernel(Order::COSTLY),
        Request::atomic(SINGLE),
        Request::movable(SINGLE).with(Gfp::HARDWALL),
    ] {
        let (zone, info) = served(frames, &task(), &request.on_node(NodeId(0)));
        assert_eq!((zone, info.slow), (Some(SECOND), false), "{request:?}");
    }
    let mut blocks = [const { None }; 70];
    let bulk = Request::kernel(SINGLE).on_node(NodeId(0));
    assert_eq!(frames.alloc_bulk(&task(), &bulk, &mut blocks), Ok(70));
    let of_second = |block: &TestBlock| frames.zone_of(block.pfn()) == Some(SECOND);
    assert!(blocks.iter().flatten().all(of_second));
    drop(blocks);
    assert_sound(frames);
}

#[test]
fn what_a_cpu_keeps_of_a_node_is_not_for_a_task_that_may_not_use_it() {
    let frames = two_nodes(1);
    for order in [SINGLE, Order::COSTLY] {
        let request = Request::kernel(order);
        // From the second time on the hot path knows the first cache.
        for _ in 0..2 {
            assert_eq!(served(frames, &task(), &request).0, Some(FIRST));
        }
        confine(frames, only(1), NodeMask::ALL, 1);
        let (zone, info) = served(frames, &task(), &request);
        assert_eq!((zone, info.slow), (Some(SECOND), false), "{order:?}");
        let block = frames.alloc(&task(), &request).unwrap();
        assert_eq!(frames.zone_of(block.pfn()), Some(SECOND), "{order:?}");
        *frames.platform().cpuset.lock().unwrap() = None;
    }
    assert_sound(frames);
}

#[test]
fn handlers_take_no_notice_of_the_cpuset_of_whom_they_interrupted() {
    let frames = two_nodes(1);
    confine(frames, only(1), only(1), 1);
    let request = Request::atomic(SINGLE).on_node(NodeId(0));
    let irq = served(frames, &hard_irq(), &request);
    assert_eq!((irq.0, irq.1.slow), (Some(FIRST), false));
    let nmi = served(frames, &nmi(), &request);
    assert_eq!((nmi.0, nmi.1.slow), (Some(FIRST), false));
    assert_sound(frames);
}

/// Returns whether a request gets a frame of node 0, if the task's own node 1 has nothing, and
/// `wall` has node 0 or not.
fn falls_back(request: &Request, wall: NodeMask, role: MemallocRole) -> bool {
    let frames = two_nodes(1);
    confine(frames, only(1), wall, 1);
    *frames.platform().role.lock().unwrap() = Some(role);
    let held = press(frames, SECOND, 0);
    let request = request.with(Gfp::NOWARN).on_node(NodeId(1));
    let (zone, info) = served(frames, &task(), &request);
    assert!(info.slow && zone.is_none_or(|zone| zone == FIRST));
    drop(held);
    assert_sound(frames);
    zone.is_some()
}

#[test]
fn on_the_slow_path_only_hardwall_keeps_a_request_within_its_own_nodes() {
    let plain = Request::kernel(SINGLE).with(Gfp::NORETRY);
    let nowait = Request::nowait(SINGLE);
    for request in [plain, nowait] {
        let falls_back = |request, wall| falls_back(&request, wall, MemallocRole::Ordinary);
        assert!(falls_back(request, NodeMask::ALL));
        assert!(!falls_back(request, only(1)), "beyond the wall");
        assert!(!falls_back(request.with(Gfp::HARDWALL), NodeMask::ALL));
    }
}

#[test]
fn urgent_requests_and_those_with_reserves_ignore_the_cpuset() {
    let wall = only(1);
    let high = Gfp::HIGH | Gfp::NORETRY;
    let cases = [
        (Request::atomic(SINGLE), MemallocRole::Ordinary, true),
        (
            Request::atomic(SINGLE).with(Gfp::HARDWALL),
            MemallocRole::Ordinary,
            true,
        ),
        (
            Request::kernel(SINGLE).with(high),
            MemallocRole::Ordinary,
            false,
        ),
        (
            Request::nowait(SINGLE).with(Gfp::MEMALLOC),
            MemallocRole::Ordinary,
            true,
        ),
        (
            Request::nowait(SINGLE).with(Gfp::MEMALLOC | Gfp::NOMEMALLOC),
            MemallocRole::Ordinary,
            false,
        ),
        (Request::nowait(SINGLE), MemallocRole::Victim, true),
        (
            Request::nowait(SINGLE).with(Gfp::NOMEMALLOC),
            MemallocRole::Victim,
            true,
        ),
        (Request::nowait(SINGLE), MemallocRole::Reclaimer, true),
    ];
    for (request, role, expected) in cases {
        let got = falls_back(&request, wall, role);
        assert_eq!(got, expected, "{request:?} {role:?}");
    }
}

#[test]
fn a_node_mask_holds_within_the_cpuset_and_beyond_it() {
    let frames = two_nodes(1);
    confine(frames, only(1), only(1), 1);
    // The cpuset and the mask have no node in common. No task is killed for that.
    *frames.platform().oom.lock().unwrap() = Some(Box::new(|report| panic!("{report:?}")));
    let relaxes = || frames.platform().relaxes.load(Ordering::Relaxed);
    let before = relaxes();
    let request = Request::kernel(SINGLE).among(only(0));
    assert_eq!(served(frames, &task(), &request).0, None);
    assert_eq!(relaxes(), before);
    let report = frames.platform().failed.lock().unwrap()[0];
    assert_eq!(report.nodes, NodeMask::NONE);
    // An urgent request ignores the cpuset, but not the mask.
    let request = Request::atomic(SINGLE).among(only(0));
    assert_eq!(served(frames, &task(), &request).0, Some(FIRST));
    let held = press(frames, FIRST, 0);
    assert_eq!(served(frames, &task(), &request).0, None);
    drop(held);
    assert_sound(frames);
}

#[test]
fn nofail_leaves_its_cpuset_before_it_goes_round() {
    let frames = two_nodes(1);
    confine(frames, only(1), only(1), 1);
    let held = press(frames, SECOND, 0);
    let nofail = Request::kernel(SINGLE).with(Gfp::NOFAIL | Gfp::HARDWALL);
    assert_eq!(served(frames, &task(), &nofail).0, Some(FIRST));
    assert_eq!(frames.platform().relaxes.load(Ordering::Relaxed), 0);
    drop(held);
    assert_sound(frames);
}

/// Moves a task to the other node's cpuset when its request reaches `when`; its own node has
/// nothing free. Returns whether the other node served it, what its walks met, and whether it
/// called OOM.
fn moved_at(when: Point, gfp: Gfp) -> (bool, WalkInfo, bool) {
    let frames = two_nodes(1);
    confine(frames, only(1), only(1), 7);
    let held = press(frames, SECOND, 0);
    let killed = Arc::new(Mutex::new(false));
    let told = Arc::clone(&killed);
    *frames.platform().oom.lock().unwrap() = Some(Box::new(move |_| {
        *told.lock().unwrap() = true;
        OomOutcome::NoVictim
    }));
    let mut once = true;
    let hook = at_points(move |point| {
        if point == when && std::mem::take(&mut once) {
            confine(frames, only(0), only(0), 8);
        }
    });
    let request = Request::new(gfp | Gfp::NOWARN, SINGLE).on_node(NodeId(1));
    let (zone, info) = served(frames, &task(), &request);
    drop((hook, held));
    assert_sound(frames);
    let killed = *killed.lock().unwrap();
    (zone == Some(FIRST), info, killed)
}

/// Points between a request's begin and its checks, each with the flags of a request that comes
/// there.
const MOMENTS: [(Point, Gfp); 7] = [
    (Point::SlowBegin, Gfp::KERNEL),
    (Point::SlowWalk, Gfp::KERNEL),
    (Point::SlowWalked, Gfp::KERNEL),
    (Point::SlowRetry, Gfp::KERNEL),
    (Point::SlowCheckOom, Gfp::KERNEL),
    (Point::SlowCheckNopage, Gfp::NOWAIT),
    (Point::SlowWalked, Gfp::NOWAIT),
];

#[test]
fn a_request_whose_cpuset_changes_under_it_begins_again_before_it_gives_up() {
    for (when, gfp) in MOMENTS {
        let (got, info, killed) = moved_at(when, gfp);
        // Before the begin has read the cpuset there is nothing to begin again.
        let again = u32::from(when != Point::SlowBegin);
        assert!(got && !killed, "{when:?} {gfp:?}");
        assert_eq!((info.cpuset_retries, info.retries), (again, 0), "{when:?}");
    }
}

#[test]
fn without_the_second_look_a_changed_cpuset_costs_an_oom_or_a_failure() {
    mutant::with(Mutant::CpusetNotRechecked, || {
        for (when, gfp) in MOMENTS.into_iter().skip(1) {
            let (got, _, killed) = moved_at(when, gfp);
            assert!(!got, "{when:?} {gfp:?} passes");
            assert_eq!(killed, gfp == Gfp::KERNEL, "{when:?}");
        }
    });
}

#[test]
fn a_cpuset_that_is_taken_away_counts_as_changed() {
    let frames = two_nodes(1);
    confine(frames, only(1), only(1), 0);
    let held = press(frames, SECOND, 0);
    let _hook = at_points(|point| {
        if point == Point::SlowCheckNopage {
            *frames.platform().cpuset.lock().unwrap() = None;
        }
    });
    let request = Request::nowait(SINGLE).on_node(NodeId(1));
    let (zone, info) = served(frames, &task(), &request);
    assert_eq!((zone, info.cpuset_retries), (Some(FIRST), 1));
    drop(held);
    assert_sound(frames);
}
