//! The requests that look at the counter again before they fail, and those that do not.

use super::{
    super::{
        ONE_CPU,
        support::{
            SOON_NS, ensure, eventually,
            everywhere::{Jobs, others},
            frames::{Block, OWNER, Pile, at_min, nothing, quiet, take_all_down, unmovable},
            want,
        },
    },
    GOT, MET, Met, READERS_KEEP_NO_COUNTER, READERS_NEVER_LOOK, READERS_WAIT, WRITER,
    forget_the_last_round, in_nmi, rebuild,
};
use crate::{
    arch::{context::Task, cpu_id, interrupts, nmi, percpu, time},
    mm::{self, oom},
    points,
    selftest::{Outcome, Report},
    thread::{self, Placement, Priority, ThreadId},
};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use tidemark_frames::{
    FrameHandle, Gfp, Order, Point, Readers, Request, Variant, WalkInfo, Writes, ZoneInfo,
};

/// A block that is freed at a point, so that memory comes back where a test wants it; raw, or 0.
static SPARE: AtomicU64 = AtomicU64::new(0);

fn set_spare(block: Block) {
    SPARE.store(block.leak().into_raw(), SeqCst);
}

/// Frees the spare block, if it is there still. Any context.
fn free_spare() {
    if let Some(handle) = FrameHandle::from_raw(SPARE.swap(0, SeqCst)) {
        // A spare that is not adopted is reported by the allocator.
        drop(mm::frames().adopt(handle));
    }
}

/// Empties every zone that unmovable requests may use, but for a spare block that a hook frees.
fn empty_but_for_a_spare(task: &Task) -> Option<Pile> {
    quiet(task);
    let order = Order::new(9)?;
    let request = Request::kernel(order).owned_by(OWNER).with(Gfp::DMA32);
    set_spare(mm::frames().alloc(task, &request).ok()?);
    let mut pile = Pile::new();
    // Just below MIN, not at nothing: the spare lifts its zone above.
    let below = |zone: &ZoneInfo| at_min(zone).saturating_sub(8);
    take_all_down(task, unmovable, below, &mut pile);
    Some(pile)
}

pub(super) fn an_atomic_request_does_not_look_again(task: &Task, report: &mut Report) -> Outcome {
    /// Makes the NMI come while the counter is odd, and memory come back just before the check.
    fn hook(point: Point) {
        match point {
            Point::RebuildOdd => {
                let here = cpu_id();
                nmi::send(here);
                time::spin_until(SOON_NS, || MET[here.0][1].load(SeqCst) != 0);
                WRITER.store(here.0 as u32 + 1, SeqCst);
            }
            Point::SlowCheckNopage => free_spare(),
            _ => {}
        }
    }
    if mm::frames().variant().every_reader_waits() {
        return Outcome::Skip(READERS_WAIT);
    }
    forget_the_last_round();
    let _jobs = want!(report, Jobs::set(in_nmi, |_| {}), "no room for hooks");
    let mut pile = want!(report, empty_but_for_a_spare(task), "no spare block");
    take_all_down(task, unmovable, nothing, &mut pile);
    let hooked = points::set_hook(hook);
    rebuild(task);
    drop(hooked);
    drop(pile);
    free_spare();
    let writer = want!(
        report,
        WRITER.load(SeqCst).checked_sub(1),
        "no rebuild came by"
    );
    let met = MET[writer as usize][1].load(SeqCst);
    let got = FrameHandle::from_raw(GOT[writer as usize][1].load(SeqCst));
    drop(got.map(|handle| mm::frames().adopt(handle)));
    let expected = Met::AS_PROMISED & !Met::GOT;
    ensure!(
        report,
        met == expected,
        "it met {met:#b}, not {expected:#b}"
    );
    Outcome::Pass
}

/// At which point of a request the lists are rebuilt, in [`rebuild_underneath`].
static REBUILD_AT_OOM: AtomicBool = AtomicBool::new(false);
static REBUILT: AtomicBool = AtomicBool::new(false);

/// Rebuilds the lists once, between a request's cookie and its check, and gives memory back where
/// only another round finds it.
fn rebuild_underneath(point: Point) {
    let at_oom = REBUILD_AT_OOM.load(SeqCst);
    let here = match point {
        Point::SlowCheckOom => at_oom,
        Point::SlowCheckNopage => !at_oom,
        _ => false,
    };
    // A handler's request cannot wait for a rebuild; the one that is meant is a task's.
    if here && interrupts::interrupts_enabled() && !REBUILT.swap(true, SeqCst) {
        // SAFETY: interrupts are on, so this is the task that makes the request; the points before
        // a check are reached with no lock held.
        rebuild(&unsafe { Task::mint() });
        free_spare();
    }
}

/// A request that fails unless it looks again; returns whether it got a frame, and what it met.
fn looks_again(task: &Task, at_oom: bool, request: Request) -> Option<(bool, WalkInfo)> {
    REBUILD_AT_OOM.store(at_oom, SeqCst);
    REBUILT.store(false, SeqCst);
    let pile = empty_but_for_a_spare(task)?;
    let hooked = points::set_hook(rebuild_underneath);
    let mut walk = WalkInfo::default();
    let request = request.with(Gfp::NOWARN).owned_by(OWNER);
    let got = mm::frames().alloc_traced(task, &request, &mut walk).is_ok();
    drop(hooked);
    drop(pile);
    free_spare();
    REBUILT.load(SeqCst).then_some((got, walk))
}

fn looked_again(report: &mut Report, got: bool, walk: &WalkInfo) -> Outcome {
    ensure!(report, got, "it failed, with memory free: {walk:?}");
    ensure!(report, walk.retries == 1, "{walk:?}");
    ensure!(
        report,
        walk.slow && walk.overlapped && !walk.odd,
        "{walk:?}"
    );
    Outcome::Pass
}

pub(super) fn a_request_that_may_wait_looks_again_before_it_fails(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    if mm::frames().variant() == Variant::None {
        return Outcome::Skip(READERS_NEVER_LOOK);
    }
    let request = Request::kernel(Order::ZERO).with(Gfp::NORETRY);
    let (got, walk) = want!(
        report,
        looks_again(task, false, request),
        "the check was not reached"
    );
    looked_again(report, got, &walk)
}

pub(super) fn a_request_that_may_wait_looks_again_before_oom(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    if mm::frames().variant() == Variant::None {
        return Outcome::Skip(READERS_NEVER_LOOK);
    }
    let before = oom::calls();
    let request = Request::kernel(Order::ZERO);
    let (got, walk) = want!(
        report,
        looks_again(task, true, request),
        "the check was not reached"
    );
    ensure!(report, oom::calls() == before, "it went on to OOM");
    looked_again(report, got, &walk)
}

/// The request's thread: its CPU plus one, once it makes its request; what it met.
static READER: AtomicU32 = AtomicU32::new(0);
static READER_MAY_GO: AtomicBool = AtomicBool::new(false);
static READER_MET: AtomicU64 = AtomicU64::new(0);
/// What the reader asks for besides GFP_KERNEL.
static READER_HURRIES: AtomicBool = AtomicBool::new(false);
/// How often the reader has begun, and has come to the check at `nopage`, while the writer stayed.
static BEGINS: AtomicU32 = AtomicU32::new(0);
static CHECKS: AtomicU32 = AtomicU32::new(0);

fn reader(task: &Task, _: usize) {
    while !READER_MAY_GO.load(SeqCst) {
        core::hint::spin_loop();
    }
    READER.store(cpu_id().0 as u32 + 1, SeqCst);
    // MEMALLOC does not reclaim for itself: nothing in its round waits for the writer's CPU, as
    // draining that CPU's caches does.
    let hurries = READER_HURRIES.load(SeqCst);
    let how = if hurries { Gfp::MEMALLOC } else { Gfp::NORETRY };
    let request = Request::kernel(Order::ZERO).with(how).with(Gfp::NOWARN);
    let mut walk = WalkInfo::default();
    let block = mm::frames().alloc_traced(task, &request.owned_by(OWNER), &mut walk);
    READER_MET.store(Met::of(block.is_ok(), &walk).0, SeqCst);
}

fn is_reader() -> bool {
    READER.load(SeqCst) == cpu_id().0 as u32 + 1
}

/// Starts the reader on another CPU than this; nothing on a machine with one CPU.
fn start_reader(hurries: bool) -> Option<Result<ThreadId, thread::SpawnError>> {
    let cpu = percpu::cpus_in(others()).next()?;
    READER_MAY_GO.store(false, SeqCst);
    READER_HURRIES.store(hurries, SeqCst);
    for count in [&READER, &BEGINS, &CHECKS] {
        count.store(0, SeqCst);
    }
    READER_MET.store(0, SeqCst);
    let placement = Placement::Cpu(cpu);
    Some(thread::spawn(
        "test-reader",
        placement,
        Priority::Normal,
        reader,
        0,
    ))
}

/// Rebuilds under a hook with the reader on its way and memory gone but for the spare; returns what
/// the reader met.
fn rebuild_around_reader(
    task: &Task,
    report: &mut Report,
    hurries: bool,
    hook: points::Hook,
) -> Result<u64, Outcome> {
    let fail = |report: &mut Report, why: &str| {
        report.note(format_args!("{why}"));
        Err(Outcome::Fail)
    };
    let id = match start_reader(hurries) {
        Some(Ok(id)) => id,
        Some(Err(_)) => return fail(report, "no thread"),
        None => return Err(Outcome::Skip(ONE_CPU)),
    };
    let Some(mut pile) = empty_but_for_a_spare(task) else {
        READER_MAY_GO.store(true, SeqCst);
        return fail(report, "no spare block");
    };
    if hurries {
        take_all_down(task, unmovable, nothing, &mut pile);
    }
    let hooked = points::set_hook(hook);
    rebuild(task);
    let ended = eventually(task, SOON_NS, || !id.is_alive());
    drop(hooked);
    drop(pile);
    free_spare();
    if !ended {
        return fail(report, "the request did not end");
    }
    Ok(READER_MET.load(SeqCst))
}

/// Why the protocol in force has no reader that may wait, does not, and goes round on an odd
/// counter: the seed's alone does.
fn no_reader_goes_round() -> Option<&'static str> {
    let rules = mm::frames().variant().rules();
    match (rules.waits, rules.looks, rules.writes) {
        (_, Readers::Nobody, _) => Some(READERS_NEVER_LOOK),
        (_, _, Writes::Beside) => Some(READERS_KEEP_NO_COUNTER),
        (Readers::Nobody, _, _) => None,
        _ => Some(READERS_WAIT),
    }
}

/// What a request met that began at an odd counter and had to begin again.
const WENT_ROUND: u64 =
    Met::DONE | Met::GOT | Met::SLOW | Met::ODD | Met::OVERLAPPED | Met::RETRIED;

pub(super) fn a_task_that_began_at_an_odd_counter_goes_round_and_gets_its_frame(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    /// The writer stays until the reader has begun; memory comes back just before its check.
    fn hook(point: Point) {
        match point {
            Point::RebuildOdd => {
                READER_MAY_GO.store(true, SeqCst);
                time::spin_until(SOON_NS, || BEGINS.load(SeqCst) > 0);
            }
            Point::SlowBegin if is_reader() => {
                BEGINS.fetch_add(1, SeqCst);
            }
            Point::SlowCheckNopage if is_reader() => free_spare(),
            _ => {}
        }
    }
    if let Some(why) = no_reader_goes_round() {
        return Outcome::Skip(why);
    }
    match rebuild_around_reader(task, report, false, hook) {
        Ok(met) => {
            ensure!(
                report,
                met == WENT_ROUND,
                "it met {met:#b}, not {WENT_ROUND:#b}"
            );
            Outcome::Pass
        }
        Err(outcome) => outcome,
    }
}

pub(super) fn a_task_goes_round_for_as_long_as_the_counter_is_odd(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    /// The writer stays until the reader has come to its check three times with nothing changed.
    fn hook(point: Point) {
        match point {
            Point::RebuildOdd => {
                READER_MAY_GO.store(true, SeqCst);
                time::spin_until(SOON_NS, || CHECKS.load(SeqCst) >= 3);
            }
            Point::SlowCheckNopage if is_reader() => {
                let nth = CHECKS.fetch_add(1, SeqCst) + 1;
                if nth == 3 {
                    free_spare();
                }
            }
            _ => {}
        }
    }
    if let Some(why) = no_reader_goes_round() {
        return Outcome::Skip(why);
    }
    match rebuild_around_reader(task, report, true, hook) {
        Ok(met) => {
            let (met, checks) = (met & !Met::ODD_AFTER, CHECKS.load(SeqCst));
            ensure!(report, checks >= 3, "{checks} checks only");
            ensure!(
                report,
                met == WENT_ROUND,
                "it met {met:#b}, not {WENT_ROUND:#b}"
            );
            Outcome::Pass
        }
        Err(outcome) => outcome,
    }
}
