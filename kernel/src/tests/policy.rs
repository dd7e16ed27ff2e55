//! Which zone a request gets its frames from, and which watermarks it must leave alone.

use super::support::{
    ensure,
    frames::{
        Block, OWNER, Pile, at_min, between_min_and_low, nothing, quiet, take_all_down, take_down,
        unmovable,
    },
    tests, want,
};
use crate::{
    arch::{context::Task, pin},
    mm,
    selftest::{Group, Outcome, Report},
    thread,
};
use tidemark_frames::{
    Gfp, ListKind, NodeId, NodeMask, Order, Request, WalkInfo, ZoneId, ZoneInfo, ZoneKind,
};

/// The group.
pub const GROUP: Group = Group {
    name: "policy",
    tests: tests![
        requests_fall_back_in_the_order_of_the_lists,
        unmovable_requests_leave_movable_zones_alone,
        thisnode_stays_on_its_node,
        a_node_mask_is_kept,
        a_request_below_low_takes_the_slow_path,
        atomic_requests_dip_below_min_by_their_share,
        nowait_requests_get_no_discount,
        a_victim_halves_what_its_requests_leave_of_min,
        lower_zones_keep_their_reserve,
    ],
};

/// Requests for one frame, of a test.
fn nowait() -> Request {
    Request::nowait(Order::ZERO).owned_by(OWNER)
}

fn atomic() -> Request {
    Request::atomic(Order::ZERO)
        .with(Gfp::NOWARN)
        .owned_by(OWNER)
}

fn requests_fall_back_in_the_order_of_the_lists(task: &Task, report: &mut Report) -> Outcome {
    let frames = mm::frames();
    quiet(task);
    for node in mm::nodes_with_lists() {
        let mut pile = Pile::new();
        let list = frames.zonelist(node, ListKind::Fallback);
        let usable = || list.iter().filter(|&zone| unmovable(zone));
        for zone in usable() {
            let now = frames.zone_info(zone);
            if now.free <= low_for_normal(&now) {
                continue;
            }
            let block = frames.alloc(task, &nowait().on_node(node));
            let block = want!(
                report,
                block,
                "node {node}: nothing, with {} in {zone}",
                now.free
            );
            let came_from = frames.zone_of(block.pfn());
            ensure!(
                report,
                came_from == Some(zone),
                "node {node}: {came_from:?} where {zone} is next"
            );
            drop(block);
            take_down(zone, low_for_normal(&now), &mut pile);
        }
    }
    Outcome::Pass
}

/// The most free frames at which the fast path of a request without zone flags passes a zone by.
fn low_for_normal(zone: &ZoneInfo) -> u64 {
    zone.low + zone.reserve[ZoneKind::Normal as usize]
}

fn unmovable_requests_leave_movable_zones_alone(task: &Task, report: &mut Report) -> Outcome {
    quiet(task);
    let mut pile = Pile::new();
    take_all_down(task, unmovable, nothing, &mut pile);
    for request in [nowait(), atomic()] {
        if let Ok(block) = mm::frames().alloc(task, &request) {
            let zone = want!(report, mm::frames().zone_of(block.pfn()), "no zone");
            ensure!(
                report,
                unmovable(zone),
                "{:?} got a frame of {zone}",
                request.gfp()
            );
        }
    }
    let movable = mm::frames().zones().find(|zone| !unmovable(zone.id));
    if let Some(zone) = movable {
        let block = mm::frames().alloc(task, &nowait().with(Gfp::MOVABLE));
        ensure!(
            report,
            block.is_ok(),
            "a movable request got nothing of {}",
            zone.id
        );
    }
    Outcome::Pass
}

fn thisnode_stays_on_its_node(task: &Task, report: &mut Report) -> Outcome {
    quiet(task);
    for node in mm::nodes_with_lists() {
        let request = nowait().on_node(node).with(Gfp::THISNODE);
        let own = |zone: ZoneId| zone.node() == node;
        let has_memory = mm::frames()
            .zones()
            .any(|zone| own(zone.id) && unmovable(zone.id));
        if has_memory {
            let block = want!(
                report,
                mm::frames().alloc(task, &request),
                "nothing on node {node}"
            );
            ensure!(
                report,
                mm::frames().zone_of(block.pfn()).is_some_and(own),
                "of another node"
            );
        }
        let mut pile = Pile::new();
        mm::frames().drain_all(task);
        for zone in mm::frames().zones().filter(|zone| own(zone.id)) {
            take_down(zone.id, 0, &mut pile);
        }
        let block = mm::frames().alloc(task, &request);
        ensure!(
            report,
            block.is_err(),
            "node {node} has nothing, and a frame of {:?} came",
            block.map(|block| mm::frames().zone_of(block.pfn()))
        );
    }
    Outcome::Pass
}

fn a_node_mask_is_kept(task: &Task, report: &mut Report) -> Outcome {
    quiet(task);
    for wanted in mm::nodes_with_lists() {
        for allowed in mm::nodes_with_lists() {
            let request = nowait().on_node(wanted).among(NodeMask::only(allowed));
            let Ok(block) = mm::frames().alloc(task, &request) else {
                let usable = mm::frames().zones().any(|zone| {
                    zone.id.node() == allowed
                        && unmovable(zone.id)
                        && zone.free > low_for_normal(&zone)
                });
                ensure!(
                    report,
                    !usable,
                    "nothing of node {allowed}, seen from node {wanted}"
                );
                continue;
            };
            let node = mm::frames().zone_of(block.pfn()).map(ZoneId::node);
            ensure!(
                report,
                node == Some(allowed),
                "{node:?} where only {allowed} may"
            );
        }
    }
    let none = mm::frames().alloc(task, &nowait().among(NodeMask::NONE));
    ensure!(
        report,
        none.is_err(),
        "no node is allowed, and a frame came"
    );
    Outcome::Pass
}

fn a_request_below_low_takes_the_slow_path(task: &Task, report: &mut Report) -> Outcome {
    quiet(task);
    let mut walk = WalkInfo::default();
    let block = mm::frames().alloc_traced(task, &atomic(), &mut walk);
    drop(want!(report, block, "nothing, with memory free"));
    ensure!(report, !walk.slow, "slow, with memory free");
    let mut pile = Pile::new();
    take_all_down(task, unmovable, between_min_and_low, &mut pile);
    // The frames in this CPU's cache are handed out whatever the watermarks. So they all go back to
    // the zone, and the frames that this freed are taken again, as single frames on one CPU. Those
    // of a zone below LOW come one by one, and leave nothing in the cache.
    mm::frames().drain_all(task);
    let pinned = pin();
    for zone in mm::frames().zones().filter(|zone| unmovable(zone.id)) {
        take_down(zone.id, between_min_and_low(&zone), &mut pile);
    }
    let mut walk = WalkInfo::default();
    let block = mm::frames().alloc_traced(task, &atomic(), &mut walk);
    drop(pinned);
    drop(want!(report, block, "nothing between MIN and LOW"));
    ensure!(report, walk.slow, "fast, with every zone below LOW");
    ensure!(
        report,
        !walk.odd && walk.retries == 0,
        "without a rebuild: {walk:?}"
    );
    Outcome::Pass
}

/// A zone of node 0 that every machine has, and a request that may use only it once the zones below
/// are empty.
const ONLY: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Dma32);

fn only(request: Request) -> Request {
    request
        .with(Gfp::DMA32)
        .on_node(NodeId(0))
        .among(NodeMask::only(NodeId(0)))
}

/// Takes [`ONLY`] down to some frames above its MIN watermark with nothing below it, and then
/// allocates until the request fails: returns how many frames were free when it did.
fn free_when_it_fails(task: &Task, request: &Request) -> Option<u64> {
    quiet(task);
    let frames = mm::frames();
    let mut pile = Pile::new();
    take_down(ZoneId::new(NodeId(0), ZoneKind::Dma), 0, &mut pile);
    let zone = frames.zone_info(ONLY);
    take_down(
        ONLY,
        zone.min + zone.reserve[ZoneKind::Dma32 as usize] + 32,
        &mut pile,
    );
    for _ in 0..zone.min + 64 {
        let Ok(block) = frames.alloc(task, &only(*request)) else {
            return Some(frames.zone_info(ONLY).free);
        };
        pile.push(block);
    }
    None
}

fn atomic_requests_dip_below_min_by_their_share(task: &Task, report: &mut Report) -> Outcome {
    let min = mm::frames().zone_info(ONLY).min;
    // HIGH alone halves the mark; one that cannot wait either gets down to three eighths.
    let high = Request::new(
        Gfp::HIGH | Gfp::KERNEL | Gfp::NORETRY | Gfp::NOWARN,
        Order::ZERO,
    );
    for (what, request, mark) in [
        ("atomic", atomic(), min * 3 / 8),
        ("HIGH that may wait", high.owned_by(OWNER), min / 2),
    ] {
        let free = want!(
            report,
            free_when_it_fails(task, &request),
            "{what}: it never failed"
        );
        ensure!(
            report,
            free.abs_diff(mark) <= 2,
            "{what}: failed with {free} free, not with {mark} (MIN is {min})"
        );
    }
    Outcome::Pass
}

fn nowait_requests_get_no_discount(task: &Task, report: &mut Report) -> Outcome {
    let min = mm::frames().zone_info(ONLY).min;
    let free = want!(
        report,
        free_when_it_fails(task, &nowait()),
        "it never failed"
    );
    ensure!(
        report,
        free.abs_diff(min) <= 2,
        "failed with {free} free; MIN is {min}"
    );
    Outcome::Pass
}

fn a_victim_halves_what_its_requests_leave_of_min(task: &Task, report: &mut Report) -> Outcome {
    let me = want!(report, thread::current(), "no thread");
    let min = mm::frames().zone_info(ONLY).min;
    for (what, request, mark) in [
        ("NOWAIT", nowait(), min / 2),
        ("atomic", atomic(), min * 3 / 16),
        (
            "NOWAIT with NOMEMALLOC",
            nowait().with(Gfp::NOMEMALLOC),
            min,
        ),
    ] {
        thread::set_victim(me, true);
        let free = free_when_it_fails(task, &request);
        thread::set_victim(me, false);
        let free = want!(report, free, "{what}: it never failed");
        ensure!(
            report,
            free.abs_diff(mark) <= 2,
            "{what}: a victim failed with {free} free, not with {mark} (MIN is {min})"
        );
    }
    Outcome::Pass
}

fn lower_zones_keep_their_reserve(task: &Task, report: &mut Report) -> Outcome {
    quiet(task);
    let dma = ZoneId::new(NodeId(0), ZoneKind::Dma);
    let frames = mm::frames();
    let zone = frames.zone_info(dma);
    let reserve = zone.reserve[ZoneKind::Normal as usize];
    ensure!(
        report,
        reserve > 0,
        "{dma} reserves nothing from requests for higher zones"
    );
    let mut pile = Pile::new();
    take_all_down(task, |zone| zone.kind() > ZoneKind::Dma, nothing, &mut pile);
    take_down(dma, at_min(&zone), &mut pile);
    let normal: Result<Block, _> = frames.alloc(task, &nowait());
    ensure!(
        report,
        normal.is_err(),
        "the reserve of {reserve} frames was given away"
    );
    let low = frames.alloc(task, &nowait().with(Gfp::DMA));
    if frames.zone_info(dma).free > zone.min + zone.reserve[ZoneKind::Dma as usize] {
        ensure!(
            report,
            low.is_ok(),
            "a DMA request got nothing of its own zone"
        );
    }
    Outcome::Pass
}
