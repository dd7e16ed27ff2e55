//! What a request does when memory is short: background and direct reclaim, giving up, OOM.

use super::support::{
    MS, SOON_NS, ensure, eventually,
    everywhere::call_everywhere,
    frames::{OWNER, Pile, at_min, nothing, quiet, take_all_down, unmovable},
    tests, want,
};
use crate::{
    arch::{
        context::{HardIrq, Task},
        percpu, time,
    },
    mm::{
        self,
        oom::{self, OomPool},
        page_cache, reclaim, warnings,
    },
    selftest::{Group, Outcome, Report},
    thread::{self, Placement, Priority},
};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use spin::Once;
use tidemark_frames::{Gfp, Order, Request, ZoneId, ZoneInfo};

/// The group.
pub const GROUP: Group = Group {
    name: "slowpath",
    tests: tests![
        background_reclaim_lifts_a_zone_above_high,
        direct_reclaim_feeds_the_request_from_the_page_cache,
        noretry_gives_up_without_oom,
        a_costly_order_gives_up_without_oom,
        oom_takes_from_a_victim_and_the_request_succeeds,
        nofail_goes_round_until_memory_comes,
        every_failure_is_told_or_counted_however_many_there_are,
    ],
};

/// No zone passes MIN for requests without discount.
fn below_min(zone: &ZoneInfo) -> u64 {
    at_min(zone).saturating_sub(8)
}

fn everything(_: ZoneId) -> bool {
    true
}

/// Fills the page cache until some zone has `wanted` pages of it; returns that zone.
fn fill_page_cache(task: &Task, wanted: fn(&ZoneInfo) -> u64) -> Option<ZoneInfo> {
    for page in 0..page_cache::pages() {
        page_cache::read(page, task).ok()?;
        if page % 16 == 0
            && let Some(zone) = mm::frames()
                .zones()
                .find(|zone| page_cache::resident_in_zone(zone.id) as u64 >= wanted(zone))
        {
            return Some(zone);
        }
    }
    None
}

fn background_reclaim_lifts_a_zone_above_high(task: &Task, report: &mut Report) -> Outcome {
    quiet(task);
    // More pages than lie between no free frame at all and the HIGH watermark, and than CPUs'
    // caches keep.
    let zone = fill_page_cache(task, |zone| zone.high + 512);
    let zone = want!(report, zone, "the page cache is too small");
    let before = reclaim::counters();
    let mut pile = Pile::new();
    take_all_down(task, everything, |zone| zone.min / 2, &mut pile);
    let low = mm::frames().zone_info(zone.id).free;
    ensure!(report, low < zone.low, "{}: {low} frames are free", zone.id);
    let request = Request::nowait(Order::ZERO).owned_by(OWNER);
    let lifted = eventually(task, SOON_NS, || {
        // Every slow path wakes the reclaimer; the request itself may fail.
        drop(mm::frames().alloc(task, &request));
        mm::frames().zone_info(zone.id).free >= zone.high
    });
    let after = reclaim::counters();
    let free = mm::frames().zone_info(zone.id).free;
    drop(pile);
    ensure!(
        report,
        lifted,
        "{}: {free} free, HIGH is {}",
        zone.id,
        zone.high
    );
    ensure!(
        report,
        after.background_frames > before.background_frames,
        "not by the reclaimer"
    );
    ensure!(
        report,
        after.direct_runs == before.direct_runs,
        "a task reclaimed"
    );
    Outcome::Pass
}

fn direct_reclaim_feeds_the_request_from_the_page_cache(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    quiet(task);
    let zone = want!(
        report,
        fill_page_cache(task, |_| 600),
        "the page cache is too small"
    );
    let before = reclaim::counters();
    let mut pile = Pile::new();
    take_all_down(task, everything, below_min, &mut pile);
    let request = Request::movable(Order::ZERO)
        .without(Gfp::KSWAPD_RECLAIM)
        .with(Gfp::NOWARN)
        .owned_by(OWNER);
    let mut got = Pile::new();
    for nth in 0..200 {
        let block = mm::frames().alloc(task, &request);
        got.push(want!(
            report,
            block,
            "request {nth} of 200 failed ({})",
            zone.id
        ));
    }
    let after = reclaim::counters();
    drop((got, pile));
    ensure!(
        report,
        after.direct_frames > before.direct_frames,
        "nothing was reclaimed"
    );
    ensure!(
        report,
        after.background_runs == before.background_runs,
        "the reclaimer was woken"
    );
    Outcome::Pass
}

/// Takes memory down below MIN everywhere and makes a request that must fail without OOM.
fn fails_quickly(task: &Task, report: &mut Report, request: Request) -> Outcome {
    quiet(task);
    let calls = oom::calls();
    let mut pile = Pile::new();
    take_all_down(task, unmovable, below_min, &mut pile);
    let start = time::now_ns();
    let block = mm::frames().alloc(task, &request.with(Gfp::NOWARN).owned_by(OWNER));
    let took = time::now_ns() - start;
    let failed = block.is_err();
    drop(block);
    drop(pile);
    ensure!(report, failed, "it got a block");
    ensure!(report, took < SOON_NS, "it took {} ms", took / MS);
    ensure!(report, oom::calls() == calls, "it went on to OOM");
    Outcome::Pass
}

fn noretry_gives_up_without_oom(task: &Task, report: &mut Report) -> Outcome {
    let request = Request::kernel(Order::ZERO).with(Gfp::NORETRY);
    fails_quickly(task, report, request)
}

fn a_costly_order_gives_up_without_oom(task: &Task, report: &mut Report) -> Outcome {
    let order = want!(report, Order::new(Order::COSTLY.get() + 1), "order");
    fails_quickly(task, report, Request::kernel(order))
}

static VICTIM: OomPool = OomPool::new("test-victim");
static END: AtomicBool = AtomicBool::new(false);
static HOLDS: AtomicBool = AtomicBool::new(false);
/// Frames that the victim holds.
const HELD: usize = 512;

/// Holds frames until it is killed or told to end.
fn victim(task: &Task, _: usize) {
    let mut pile = Pile::new();
    let request = Request::kernel(Order::ZERO)
        .owned_by(OWNER)
        .with(Gfp::DMA32);
    while pile.frames() < HELD as u64 {
        let Ok(block) = mm::frames().alloc(task, &request) else {
            break;
        };
        pile.push(block);
    }
    VICTIM.add(HELD);
    HOLDS.store(true, SeqCst);
    while !END.load(SeqCst) && !VICTIM.killed() {
        thread::sleep_ns(task, MS);
    }
    drop(pile);
    VICTIM.sub(HELD);
    VICTIM.revive();
    HOLDS.store(false, SeqCst);
}

fn oom_takes_from_a_victim_and_the_request_succeeds(task: &Task, report: &mut Report) -> Outcome {
    static REGISTERED: Once<bool> = Once::new();
    let registered = *REGISTERED.call_once(|| oom::register(&VICTIM));
    ensure!(report, registered, "no room for a victim");
    quiet(task);
    END.store(false, SeqCst);
    HOLDS.store(false, SeqCst);
    let id = thread::spawn("test-victim", Placement::Any, Priority::Normal, victim, 0);
    let id = want!(report, id, "no thread");
    let holds = eventually(task, SOON_NS, || HOLDS.load(SeqCst));
    let kills = oom::kills();
    let mut pile = Pile::new();
    take_all_down(task, unmovable, below_min, &mut pile);
    let block = mm::frames().alloc(task, &Request::kernel(Order::ZERO).owned_by(OWNER));
    END.store(true, SeqCst);
    let got = block.is_ok();
    drop(block);
    drop(pile);
    let ended = eventually(task, SOON_NS, || !id.is_alive());
    ensure!(report, holds, "the victim did not get its frames");
    ensure!(report, got, "the request failed");
    ensure!(
        report,
        oom::kills() == kills + 1,
        "{} kills",
        oom::kills() - kills
    );
    ensure!(report, ended, "the victim did not end");
    Outcome::Pass
}

static NOFAIL_DONE: AtomicBool = AtomicBool::new(false);
static NOFAIL_GO: AtomicBool = AtomicBool::new(false);

fn nofail_goes_round_until_memory_comes(task: &Task, report: &mut Report) -> Outcome {
    fn never_fails(task: &Task, _: usize) {
        while !NOFAIL_GO.load(SeqCst) {
            thread::sleep_ns(task, MS);
        }
        let request = Request::kernel(Order::ZERO)
            .with(Gfp::NOFAIL)
            .with(Gfp::NOWARN);
        let got = mm::frames().alloc(task, &request.owned_by(OWNER)).is_ok();
        NOFAIL_DONE.store(got, SeqCst);
    }
    quiet(task);
    NOFAIL_GO.store(false, SeqCst);
    NOFAIL_DONE.store(false, SeqCst);
    let id = thread::spawn(
        "test-nofail",
        Placement::Any,
        Priority::Normal,
        never_fails,
        0,
    );
    let id = want!(report, id, "no thread");
    let mut pile = Pile::new();
    take_all_down(task, unmovable, nothing, &mut pile);
    let calls = oom::calls();
    NOFAIL_GO.store(true, SeqCst);
    // It has gone round at least once when it comes to OOM a second time.
    let round = eventually(task, SOON_NS, || oom::calls() >= calls + 2);
    let early = NOFAIL_DONE.load(SeqCst) || !id.is_alive();
    drop(pile);
    let ended = eventually(task, SOON_NS, || !id.is_alive());
    ensure!(report, !early, "it ended with nothing free");
    ensure!(report, round, "it did not go round");
    ensure!(report, ended, "it did not end");
    ensure!(report, NOFAIL_DONE.load(SeqCst), "it failed");
    Outcome::Pass
}

fn every_failure_is_told_or_counted_however_many_there_are(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    const EACH: u64 = 20;
    fn handler(irq: &HardIrq, _: usize) {
        for _ in 0..EACH {
            drop(mm::frames().alloc(irq, &Request::atomic(Order::ZERO).owned_by(OWNER)));
        }
    }
    fn settled() -> (u64, u64, u64) {
        warnings::flush_at_end();
        let (told, counted) = warnings::told();
        (warnings::alloc_failures(), told, counted)
    }
    quiet(task);
    let before = settled();
    let mut pile = Pile::new();
    take_all_down(task, everything, nothing, &mut pile);
    call_everywhere(handler, 0, task);
    let mut silent = 0;
    for request in [Request::nowait(Order::ZERO), Request::atomic(Order::ZERO)] {
        let request = request.with(Gfp::NOWARN).owned_by(OWNER);
        silent += u64::from(mm::frames().alloc(task, &request).is_err());
    }
    drop(pile);
    let after = settled();
    let failures = after.0 - before.0;
    let wanted = EACH * percpu::online_count() as u64;
    ensure!(report, silent == 2, "{silent} of 2 silent requests failed");
    ensure!(report, failures == wanted, "{failures} of {wanted} failed");
    let (told, counted) = (after.1 - before.1, after.2 - before.2);
    ensure!(report, told <= 10, "{told} were told one by one");
    ensure!(
        report,
        told + counted == failures,
        "{told} and {counted} of {failures}"
    );
    Outcome::Pass
}
