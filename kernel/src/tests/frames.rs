//! The allocator on the machine's own memory: sizes, caches, wrong frees.

use super::support::{
    SOON_NS, ensure,
    everywhere::{Team, call_everywhere},
    frames::{Block, OWNER, Pile, is_zero, sign, unsigned},
    tests, want,
};
use crate::{
    arch::{
        context::{HardIrq, Task},
        pin,
    },
    mm::{self, free_errors},
    selftest::{Group, Outcome, Report},
};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use tidemark_frames::{FrameHandle, FrameState, FreeFault, Gfp, Order, Request, ZoneInfo};
use tidemark_sync::ContextKind;

/// The group.
pub const GROUP: Group = Group {
    name: "frames",
    tests: tests![
        every_order_in_every_zone_is_aligned_and_apart,
        what_is_freed_is_free_again,
        a_zeroed_block_is_zero,
        a_split_block_is_freed_in_parts,
        a_freed_frame_waits_in_its_cpus_cache,
        a_drain_empties_the_caches_of_every_cpu,
        drains_end_while_every_cpu_is_inside_its_cache,
        a_second_free_is_reported,
        a_free_with_the_wrong_order_is_reported,
        a_free_of_a_foreign_frame_is_reported,
        two_holders_of_a_frame_are_found_at_the_second_free,
    ],
};

/// Orders 0 to 10.
fn orders() -> impl DoubleEndedIterator<Item = Order> {
    (0..=Order::MAX.get()).filter_map(Order::new)
}

/// Whether a zone has so much free that a block of this order ought to be found.
fn ample(zone: &ZoneInfo, order: Order) -> bool {
    zone.free >= 8 * order.frames()
}

fn every_order_in_every_zone_is_aligned_and_apart(_: &Task, report: &mut Report) -> Outcome {
    let frames = mm::frames();
    for zone in frames.zones() {
        let mut held: [Option<Block>; 11] = [const { None }; 11];
        for order in orders() {
            let block = frames.alloc_in_zone(ContextKind::Task, zone.id, order, OWNER);
            let Some(block) = block else {
                let now = frames.zone_info(zone.id);
                ensure!(
                    report,
                    !ample(&now, order),
                    "{}: no block of order {order} with {} frames free",
                    zone.id,
                    now.free
                );
                continue;
            };
            let pfn = block.pfn();
            ensure!(
                report,
                pfn.0 % order.frames() == 0,
                "{pfn} for order {order}"
            );
            ensure!(
                report,
                frames.zone_of(pfn) == Some(zone.id),
                "{pfn} is in {:?}, not in {}",
                frames.zone_of(pfn),
                zone.id
            );
            let state = frames.frame_state(pfn);
            ensure!(
                report,
                state
                    == FrameState::Allocated {
                        order,
                        owner: OWNER
                    },
                "{pfn}: {state:?}"
            );
            sign(&block, u64::from(order.get()));
            held[usize::from(order.get())] = Some(block);
        }
        for block in held.iter().flatten() {
            let wrong = unsigned(block, u64::from(block.order().get()));
            ensure!(
                report,
                wrong.is_none(),
                "{} is in two blocks",
                want!(report, wrong, "")
            );
        }
        let any = held.iter().flatten().count();
        ensure!(
            report,
            any > 0 || zone.free < 16,
            "{} gave nothing",
            zone.id
        );
    }
    Outcome::Pass
}

fn what_is_freed_is_free_again(task: &Task, report: &mut Report) -> Outcome {
    let frames = mm::frames();
    frames.drain_all(task);
    let before = frames.free_frames();
    let mut pile = Pile::new();
    for round in 0..200 {
        let order = want!(report, Order::new(round % 6), "order");
        let block = frames.alloc(task, &Request::kernel(order).owned_by(OWNER));
        pile.push(want!(report, block, "no block of order {order}"));
    }
    frames.drain_all(task);
    let during = frames.free_frames();
    let taken = pile.frames();
    ensure!(
        report,
        before.abs_diff(during + taken) <= 64,
        "{before} were free, {taken} were taken, {during} are free"
    );
    drop(pile);
    frames.drain_all(task);
    let after = frames.free_frames();
    // Other threads may take or give back a few frames at any time.
    ensure!(
        report,
        after.abs_diff(before) <= 64,
        "{before} were free, now {after}"
    );
    Outcome::Pass
}

fn a_zeroed_block_is_zero(task: &Task, report: &mut Report) -> Outcome {
    let frames = mm::frames();
    for order in [0, 0, 1, 3, 9].into_iter().filter_map(Order::new) {
        let request = Request::kernel(order).owned_by(OWNER);
        let dirty = want!(
            report,
            frames.alloc(task, &request),
            "no block of order {order}"
        );
        sign(&dirty, 99);
        drop(dirty);
        let clean = frames.alloc(task, &request.with(Gfp::ZERO));
        let clean = want!(report, clean, "no block of order {order}");
        ensure!(
            report,
            is_zero(&clean),
            "{} of order {order} is not zero",
            clean.pfn()
        );
    }
    Outcome::Pass
}

fn a_split_block_is_freed_in_parts(task: &Task, report: &mut Report) -> Outcome {
    let order = want!(report, Order::new(3), "order");
    let block = mm::frames().alloc(task, &Request::kernel(order).owned_by(OWNER));
    let block = want!(report, block, "no block");
    let first = block.pfn();
    let (low, high) = want!(report, block.split(), "it does not split");
    ensure!(
        report,
        low.pfn() == first && high.pfn().0 == first.0 + 4,
        "wrong halves"
    );
    ensure!(
        report,
        low.order().get() == 2 && high.order().get() == 2,
        "wrong orders"
    );
    drop(high);
    let state = mm::frames().frame_state(low.pfn());
    ensure!(
        report,
        matches!(state, FrameState::Allocated { order, .. } if order == low.order()),
        "the other half: {state:?}"
    );
    let (single, _rest) = want!(report, low.split(), "it does not split again");
    let (single, _) = want!(report, single.split(), "nor a third time");
    ensure!(report, single.split().is_err(), "one frame was split");
    Outcome::Pass
}

fn one(task: &Task) -> Option<Block> {
    let request = Request::kernel(Order::ZERO).owned_by(OWNER);
    mm::frames().alloc(task, &request).ok()
}

fn a_freed_frame_waits_in_its_cpus_cache(task: &Task, report: &mut Report) -> Outcome {
    let _pinned = pin();
    let block = want!(report, one(task), "no frame");
    let pfn = block.pfn();
    let zone = want!(report, mm::frames().zone_of(pfn), "no zone");
    let free = mm::frames().zone_info(zone).free;
    drop(block);
    let state = mm::frames().frame_state(pfn);
    ensure!(
        report,
        state == FrameState::Cached,
        "a freed frame is {state:?}"
    );
    let after = mm::frames().zone_info(zone).free;
    ensure!(
        report,
        after.abs_diff(free) < 8,
        "the zone had {free} free, now {after}"
    );
    let again = want!(report, one(task), "no frame");
    ensure!(
        report,
        again.pfn() == pfn,
        "{} came, not {pfn}, the last one freed",
        again.pfn()
    );
    Outcome::Pass
}

/// Frames that lie in caches.
fn cached() -> u64 {
    mm::frames().zones().map(|zone| zone.cached).sum()
}

fn a_drain_empties_the_caches_of_every_cpu(task: &Task, report: &mut Report) -> Outcome {
    fn fill(irq: &HardIrq, _: usize) {
        let request = Request::atomic(Order::ZERO).owned_by(OWNER);
        let mut pile = Pile::new();
        for _ in 0..8 {
            if let Ok(block) = mm::frames().alloc(irq, &request) {
                pile.push(block);
            }
        }
    }
    for round in 0..10 {
        call_everywhere(fill, 0, task);
        ensure!(report, cached() > 0, "round {round}: nothing was cached");
        mm::frames().drain_all(task);
        // A thread that runs beside this test may have cached a batch since.
        ensure!(
            report,
            cached() <= 64,
            "round {round}: {} frames are cached still",
            cached()
        );
    }
    Outcome::Pass
}

static STOP: AtomicBool = AtomicBool::new(false);
static ROUNDS: AtomicU64 = AtomicU64::new(0);
static BROKEN: AtomicU64 = AtomicU64::new(0);

fn drains_end_while_every_cpu_is_inside_its_cache(task: &Task, report: &mut Report) -> Outcome {
    fn churn(task: &Task, cpu: usize) {
        while !STOP.load(SeqCst) {
            let (Some(first), Some(second)) = (one(task), one(task)) else {
                continue;
            };
            sign(&first, cpu as u64);
            sign(&second, cpu as u64);
            if unsigned(&first, cpu as u64).is_some() {
                BROKEN.fetch_add(1, SeqCst);
            }
            ROUNDS.fetch_add(1, SeqCst);
        }
    }
    STOP.store(false, SeqCst);
    ROUNDS.store(0, SeqCst);
    BROKEN.store(0, SeqCst);
    let team = want!(report, Team::start(task, "test-churn", churn), "no threads");
    let mut drains = 0;
    let busy = super::support::eventually(task, 5 * SOON_NS, || {
        mm::frames().drain_all(task);
        drains += 1;
        drains >= 10 && ROUNDS.load(SeqCst) >= 1_000
    });
    STOP.store(true, SeqCst);
    ensure!(report, team.join(task, SOON_NS), "the threads did not end");
    ensure!(
        report,
        busy,
        "{drains} drains, {} rounds",
        ROUNDS.load(SeqCst)
    );
    ensure!(
        report,
        BROKEN.load(SeqCst) == 0,
        "{} signatures were broken",
        BROKEN.load(SeqCst)
    );
    mm::frames().drain_all(task);
    ensure!(
        report,
        cached() <= 64,
        "{} frames are cached still",
        cached()
    );
    Outcome::Pass
}

/// Whether exactly these faults of a frame were reported since there were `before`.
fn reported(
    report: &mut Report,
    before: u64,
    pfn: tidemark_frames::Pfn,
    any_of: &[FreeFault],
) -> bool {
    super::FREE_ERRORS_EXPECTED.fetch_add(1, SeqCst);
    let new = free_errors::total() - before;
    if new == 1
        && let Some(kept) = free_errors::get(before)
        && kept.pfn == pfn
        && any_of.contains(&kept.fault)
    {
        return true;
    }
    report.note(format_args!(
        "{new} reports; {pfn}: {:?}",
        free_errors::get(before)
    ));
    false
}

/// A handle that the type system would not give twice.
fn forge(raw: u64) -> Option<FrameHandle> {
    FrameHandle::from_raw(raw)
}

fn a_second_free_is_reported(task: &Task, report: &mut Report) -> Outcome {
    let frames = mm::frames();
    let before = free_errors::total();
    let block = want!(report, one(task), "no frame");
    let pfn = block.pfn();
    let _pinned = pin();
    let raw = block.leak().into_raw();
    drop(frames.adopt(want!(report, forge(raw), "no handle")));
    let again = frames.adopt(want!(report, forge(raw), "no handle"));
    ensure!(report, again.is_err(), "a freed frame was adopted");
    let faults = [FreeFault::DoubleFree, FreeFault::DoubleFreeCached];
    ensure!(
        report,
        reported(report, before, pfn, &faults),
        "not as it should be"
    );
    Outcome::Pass
}

fn a_free_with_the_wrong_order_is_reported(task: &Task, report: &mut Report) -> Outcome {
    let frames = mm::frames();
    let before = free_errors::total();
    let order = want!(report, Order::new(2), "order");
    let block = frames.alloc(task, &Request::kernel(order).owned_by(OWNER));
    let block = want!(report, block, "no block");
    let pfn = block.pfn();
    let raw = block.leak().into_raw();
    // The order stands in bits 1 to 7.
    let wrong = frames.adopt(want!(report, forge(raw & !0xfe | 3 << 1), "no handle"));
    ensure!(report, wrong.is_err(), "adopted with another order");
    ensure!(
        report,
        reported(report, before, pfn, &[FreeFault::WrongOrder]),
        "not as it should be"
    );
    drop(want!(
        report,
        frames.adopt(want!(report, forge(raw), "no handle")),
        "the block is gone"
    ));
    Outcome::Pass
}

fn a_free_of_a_foreign_frame_is_reported(task: &Task, report: &mut Report) -> Outcome {
    let frames = mm::frames();
    let order = want!(report, Order::new(2), "order");
    let block = frames.alloc(task, &Request::kernel(order).owned_by(OWNER));
    let block = want!(report, block, "no block");
    // A frame within the block, and one where no memory is.
    for pfn in [block.pfn().0 + 1, (1 << 40) / 4096] {
        let before = free_errors::total();
        let foreign = frames.adopt(want!(report, forge(pfn << 8 | 1), "no handle"));
        ensure!(report, foreign.is_err(), "frame {pfn:#x} was adopted");
        let faults = [FreeFault::Foreign, FreeFault::DoubleFree];
        ensure!(
            report,
            reported(report, before, tidemark_frames::Pfn(pfn), &faults),
            "not as it should be"
        );
    }
    Outcome::Pass
}

fn two_holders_of_a_frame_are_found_at_the_second_free(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    let frames = mm::frames();
    let before = free_errors::total();
    let block = want!(report, one(task), "no frame");
    let pfn = block.pfn();
    let raw = block.leak().into_raw();
    let _pinned = pin();
    let first = frames.adopt(want!(report, forge(raw), "no handle"));
    let second = frames.adopt(want!(report, forge(raw), "no handle"));
    let (first, second) = (
        want!(report, first, "first"),
        want!(report, second, "second"),
    );
    drop(first);
    drop(second);
    let faults = [FreeFault::DoubleFree, FreeFault::DoubleFreeCached];
    ensure!(
        report,
        reported(report, before, pfn, &faults),
        "not as it should be"
    );
    Outcome::Pass
}
