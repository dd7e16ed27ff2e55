//! A real NMI at every step of the fast path: allocation, free, refill, drain, isolated free.
//!
//! Each scene is repeated, with an NMI at its first step, its second one and so on, until it has
//! none left. The NMI's handler frees a block and takes another one, so whatever the step leaves
//! half done is met by both. At the end the steps that were hit are compared with those that the
//! sources have: a step that no scene reaches fails the test.

mod source;

use super::support::{
    SOON_NS, ensure, eventually,
    everywhere::{Jobs, others},
    frames::{Block, OWNER, Pile, sign, take_down, unsigned},
    tests, want,
};
use crate::{
    arch::{
        context::{HardIrq, Nmi, Task},
        cpu_id, nmi, percpu, pin, time, vectors,
    },
    mm::{self, points},
    options::{self, Plant},
    selftest::{Group, Outcome, Report},
    thread::{self, Placement, Priority},
};
use core::{
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*},
};
use tidemark_frames::{
    FrameHandle, Gfp, OfflineError, Order, Owner, OwnerKind, Pfn, PfnRange, Point, Request, Step,
    ZoneId,
};
use tidemark_sync::ContextKind;

/// The group.
pub const GROUP: Group = Group {
    name: "steps",
    tests: tests![an_nmi_may_come_at_every_step_of_the_fast_path],
};

/// What is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    AllocCached,
    AllocRefill,
    AllocBeyondCache,
    AllocLeftOver,
    AllocAfterRebuild,
    AllocBulk,
    FreeCached,
    FreeFullCache,
    FreeBeyondCache,
    FreeBulk,
    Split,
    Drain,
    DrainInSection,
    Isolated,
}

const SCENES: [Scene; 14] = [
    Scene::AllocCached,
    Scene::AllocRefill,
    Scene::AllocBeyondCache,
    Scene::AllocLeftOver,
    Scene::AllocAfterRebuild,
    Scene::AllocBulk,
    Scene::FreeCached,
    Scene::FreeFullCache,
    Scene::FreeBeyondCache,
    Scene::FreeBulk,
    Scene::Split,
    Scene::Drain,
    Scene::DrainInSection,
    Scene::Isolated,
];

/// Most steps of a scene.
const MOST_STEPS: u32 = 2_000;
/// How long an NMI may take to arrive.
const NMI_NS: u64 = SOON_NS;
/// What the blocks are signed with.
const TAG: u64 = 0x7374_6570;

/// The CPU whose steps count, plus one; 0 while none do. Written by the test, read by its hooks.
static ARMED: AtomicUsize = AtomicUsize::new(0);
/// The step at which the NMI is sent, and how many have gone by. The armed CPU's.
static AT: AtomicU32 = AtomicU32::new(0);
static GONE_BY: AtomicU32 = AtomicU32::new(0);
/// The step after which the drain interrupt is to come first, if any: that of another CPU.
static DRAIN_AT: AtomicU32 = AtomicU32::new(NEVER);
static DRAIN_WANTED: AtomicBool = AtomicBool::new(false);
static OVER: AtomicBool = AtomicBool::new(false);
/// NMIs that were handled.
static HANDLED: AtomicU32 = AtomicU32::new(0);
/// What went wrong: NMIs or drains that did not come, blocks that were broken, requests that failed.
static LATE: AtomicU32 = AtomicU32::new(0);
static BROKEN: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicU32 = AtomicU32::new(0);
/// The block that the handler frees, and then has taken.
static HELD: AtomicU64 = AtomicU64::new(0);
static ORDER: AtomicU32 = AtomicU32::new(0);
/// The steps at which an NMI came; the armed CPU writes.
static HIT: [AtomicPtr<Step>; 128] = [const { AtomicPtr::new(ptr::null_mut()) }; 128];

const NEVER: u32 = u32::MAX;

fn at_step(step: &'static Step) {
    if ARMED.load(Relaxed) != cpu_id().0 + 1 || percpu::in_nmi() {
        return;
    }
    let nth = GONE_BY.fetch_add(1, Relaxed);
    if nth == DRAIN_AT.load(Relaxed) {
        be_drained();
    }
    if nth == AT.load(Relaxed) {
        note(step);
        interrupt();
    }
}

fn note(step: &'static Step) {
    for slot in &HIT {
        // SAFETY: only this function writes the slots, and only references that live for good.
        match unsafe { slot.load(Relaxed).as_ref() } {
            Some(known) if known == step => return,
            Some(_) => {}
            None => return slot.store(ptr::from_ref(step).cast_mut(), Relaxed),
        }
    }
}

/// The NMI: by a message to the own CPU, which under emulation is not taken at once.
fn interrupt() {
    let before = HANDLED.load(Acquire);
    nmi::send(cpu_id());
    if !time::spin_until(NMI_NS, || HANDLED.load(Acquire) != before) {
        LATE.fetch_add(1, Relaxed);
    }
}

/// Lets another CPU ask for a drain, and takes its interrupt here.
fn be_drained() {
    let drains = || percpu::of(cpu_id()).taken(vectors::DRAIN);
    let before = drains();
    DRAIN_WANTED.store(true, Release);
    if !time::spin_until(NMI_NS, || drains() != before) {
        LATE.fetch_add(1, Relaxed);
    }
}

fn on_nmi(nmi: &Nmi) {
    if ARMED.load(Relaxed) != cpu_id().0 + 1 {
        return;
    }
    check_and_free(HELD.swap(0, Relaxed));
    let order = Order::new(ORDER.load(Relaxed) as u8).unwrap_or(Order::ZERO);
    let request = Request::atomic(order).with(Gfp::NOWARN).owned_by(OWNER);
    match mm::frames().alloc(nmi, &request) {
        Ok(block) => {
            let pfn = block.pfn();
            hold(block);
            if options::get().plant == Some(Plant::StrayWrite) {
                super::support::frames::deface(pfn);
            }
        }
        Err(_) => {
            FAILED.fetch_add(1, Relaxed);
        }
    }
    HANDLED.fetch_add(1, Release);
}

fn hold(block: Block) {
    sign(&block, TAG);
    HELD.store(block.leak().into_raw(), Relaxed);
}

fn check_and_free(raw: u64) {
    let Some(handle) = FrameHandle::from_raw(raw) else {
        return;
    };
    match mm::frames().adopt(handle) {
        Ok(block) if unsigned(&block, TAG).is_none() => drop(block),
        _ => {
            BROKEN.fetch_add(1, Relaxed);
        }
    }
}

/// Runs what is interrupted.
fn armed<R>(scene: impl FnOnce() -> R) -> R {
    GONE_BY.store(0, Relaxed);
    ARMED.store(cpu_id().0 + 1, Relaxed);
    let result = scene();
    ARMED.store(0, Relaxed);
    result
}

fn no_work(_: &HardIrq) {}

fn take(task: &Task, order: u8) -> Option<Block> {
    let order = Order::new(order)?;
    let block = mm::frames().alloc(task, &Request::kernel(order).owned_by(OWNER));
    let block = block.ok()?;
    sign(&block, TAG);
    Some(block)
}

/// Frees a block that must be as it was left.
fn give(block: Block) {
    if unsigned(&block, TAG).is_some() {
        BROKEN.fetch_add(1, Relaxed);
    }
    drop(block);
}

/// Plays a scene once; nothing if it could not be set.
fn play(scene: Scene, task: &Task) -> Option<()> {
    let frames = mm::frames();
    match scene {
        Scene::AllocCached => {
            let _pinned = pin();
            drop(take(task, 0)?);
            drop(take(task, 3)?);
            let blocks = armed(|| [0, 3].map(|order| take(task, order)));
            blocks.into_iter().flatten().for_each(give);
        }
        Scene::AllocRefill => {
            frames.drain_all(task);
            let _pinned = pin();
            give(armed(|| take(task, 0))?);
        }
        Scene::AllocBeyondCache => {
            for order in [3, 7, 9, 10] {
                let largest = take(task, order);
                drop(largest);
            }
            // Of those that are cached, the next one is not.
            frames.drain_all(task);
            let _pinned = pin();
            let blocks = armed(|| [3, 7, 9, 10].map(|order| take_unsigned(task, order)));
            blocks.into_iter().flatten().for_each(drop);
        }
        Scene::AllocLeftOver => left_over(task)?,
        Scene::AllocAfterRebuild => {
            // The rebuild makes every CPU forget which cache serves a class first.
            frames.rebuild(task);
            let _pinned = pin();
            give(armed(|| take(task, 0))?);
        }
        Scene::AllocBulk => {
            let request = Request::nowait(Order::ZERO).owned_by(OWNER);
            let mut blocks = [const { None }; 6];
            drop(take(task, 0)?);
            armed(|| frames.alloc_bulk(task, &request, &mut blocks)).ok()?;
        }
        Scene::FreeCached => {
            let block = take(task, 0)?;
            armed(|| give(block));
        }
        Scene::FreeFullCache => {
            // Neighbours, so that a full cache makes room for them.
            let neighbours = singles(take_unsigned(task, 5)?)?;
            let mut pile = Pile::new();
            for _ in 0..300 {
                pile.push(take(task, 0)?);
            }
            let _pinned = pin();
            drop(pile);
            armed(|| drop(neighbours));
        }
        Scene::FreeBeyondCache => {
            // The second one of a size finds its cache full.
            let blocks = [3, 7, 9, 9, 10, 10].map(|order| take_unsigned(task, order));
            armed(|| blocks.into_iter().flatten().for_each(drop));
        }
        Scene::FreeBulk => {
            let request = Request::nowait(Order::ZERO).owned_by(OWNER);
            let mut blocks = [const { None }; 6];
            frames.drain_all(task);
            frames.alloc_bulk(task, &request, &mut blocks).ok()?;
            armed(|| frames.free_bulk(&mut blocks));
        }
        Scene::Split => {
            let block = take_unsigned(task, 9)?;
            let halves = armed(|| block.split()).ok()?;
            drop(halves);
        }
        Scene::Drain => {
            drop(take(task, 0)?);
            drop(take(task, 3)?);
            armed(|| frames.drain_all(task));
        }
        Scene::DrainInSection => {
            drop(take(task, 0)?);
            let block = armed(|| take(task, 0))?;
            // The other CPU's drain ends before the next one can be asked for.
            let ended = || !DRAIN_WANTED.load(Acquire);
            if !eventually(task, SOON_NS, ended) {
                LATE.fetch_add(1, Relaxed);
            }
            give(block);
        }
        Scene::Isolated => isolated(task)?,
    }
    Some(())
}

fn take_unsigned(task: &Task, order: u8) -> Option<Block> {
    let request = Request::kernel(Order::new(order)?).with(Gfp::NORETRY | Gfp::NOWARN);
    mm::frames().alloc(task, &request.owned_by(OWNER)).ok()
}

/// Splits a block down to its frames.
fn singles(block: Block) -> Option<Pile> {
    let mut singles = Pile::new();
    let mut rest = Pile::new();
    rest.push(block);
    while let Some(block) = rest.pop() {
        if block.order() == Order::ZERO {
            singles.push(block);
        } else {
            let (low, high) = block.split().ok()?;
            rest.push(high);
            rest.push(low);
        }
    }
    Some(singles)
}

/// An unmovable request of a zone that has nothing but what a cache has for movable ones.
fn left_over(task: &Task) -> Option<()> {
    let frames = mm::frames();
    let zone = frames.zones().min_by_key(|zone| zone.managed)?.id;
    frames.drain_all(task);
    let _pinned = pin();
    let movable = Owner::new(OwnerKind::PageCache, 0);
    let left = frames.alloc_in_zone(ContextKind::Task, zone, Order::ZERO, movable)?;
    drop(left);
    let cached = |zone: ZoneId| {
        frames
            .cache_info(zone, cpu_id())
            .map_or(0, |info| info.count)
    };
    let left = cached(zone);
    let mut pile = Pile::new();
    take_down(zone, 0, &mut pile);
    while cached(zone) > left {
        pile.push(frames.alloc_in_zone(ContextKind::Task, zone, Order::ZERO, OWNER)?);
    }
    let block = armed(|| frames.alloc_in_zone(ContextKind::Task, zone, Order::ZERO, OWNER));
    drop(pile);
    block.map(drop)
}

/// The single frames of a pair of areas that is being taken offline: one that stays and keeps it
/// from leaving, one that is freed while it is isolated.
fn isolated(task: &Task) -> Option<()> {
    static FREED: AtomicU64 = AtomicU64::new(0);
    fn at(point: Point) {
        if point == Point::OfflineIsolated {
            armed(|| check_and_free(FREED.swap(0, Relaxed)));
        }
    }
    let frames = mm::frames();
    let whole = take_unsigned(task, 10)?;
    let range = PfnRange::new(whole.pfn(), Pfn(whole.pfn().0 + whole.order().frames()));
    let mut block = whole;
    while block.order() > Order::COSTLY {
        (block, _) = block.split().ok()?;
    }
    let (block, stays) = block.split().ok()?;
    let (_, freed) = block.split().ok()?;
    let (_, freed) = freed.split().ok()?;
    sign(&freed, TAG);
    FREED.store(freed.leak().into_raw(), Relaxed);
    let hooked = points::set_hook(at);
    let left = frames.offline_range(range, time::now_ns(), task);
    drop(hooked);
    let is_unmovable = matches!(left, Err(OfflineError::Unmovable { at, .. }) if at == stays.pfn());
    (is_unmovable && FREED.load(Relaxed) == 0).then_some(())
}

/// Drains whenever the armed CPU wants that.
fn drainer(task: &Task, _: usize) {
    while !OVER.load(Acquire) {
        if DRAIN_WANTED.load(Acquire) {
            mm::frames().drain_all(task);
            DRAIN_WANTED.store(false, Release);
        }
        thread::sleep_ns(task, 20_000);
    }
}

/// Repeats a scene with an NMI at each of its steps; returns how many it has.
fn every_step(scene: Scene, task: &Task, report: &mut Report) -> Option<u32> {
    let drains = scene == Scene::DrainInSection;
    // Behind the flag's setting, so that the section has to do it on its way out.
    DRAIN_AT.store(if drains { 1 } else { NEVER }, Relaxed);
    for at in 0..MOST_STEPS {
        for order in [0, 2] {
            ORDER.store(order, Relaxed);
            AT.store(at, Relaxed);
            if HELD.load(Relaxed) == 0 {
                hold(take(task, 0)?);
            }
            let handled = HANDLED.load(Acquire);
            if play(scene, task).is_none() {
                report.note(format_args!("{scene:?} could not be played, step {at}"));
                return None;
            }
            if HANDLED.load(Acquire) == handled {
                return Some(at);
            }
        }
    }
    report.note(format_args!("{scene:?} has no end"));
    None
}

/// Whether an NMI came at a line.
fn is_hit(file: &str, line: u32) -> bool {
    HIT.iter().any(|slot| {
        // SAFETY: as in `note`.
        let step = unsafe { slot.load(Relaxed).as_ref() };
        step.is_some_and(|step| step.file == file && step.line == line)
    })
}

fn an_nmi_may_come_at_every_step_of_the_fast_path(task: &Task, report: &mut Report) -> Outcome {
    for count in [&LATE, &BROKEN, &FAILED] {
        count.store(0, Relaxed);
    }
    OVER.store(false, Relaxed);
    let jobs = want!(report, Jobs::set(on_nmi, no_work), "no room for hooks");
    let hooked = points::set_step_hook(at_step);
    let other = percpu::cpus_in(others()).next();
    let drainer = other.map(|cpu| {
        let placed = Placement::Cpu(cpu);
        thread::spawn("test-drainer", placed, Priority::Normal, drainer, 0)
    });
    let mut played = true;
    for scene in SCENES {
        if scene == Scene::DrainInSection && !matches!(drainer, Some(Ok(_))) {
            continue;
        }
        let Some(steps) = every_step(scene, task, report) else {
            played = false;
            break;
        };
        report.note(format_args!("{scene:?}: {steps} steps"));
        played &= steps > 0;
    }
    OVER.store(true, Release);
    if let Some(Ok(thread)) = drainer {
        ensure!(
            report,
            thread::join(task, thread).is_ok(),
            "the drainer does not end"
        );
    }
    drop((hooked, jobs));
    check_and_free(HELD.swap(0, Relaxed));
    let [late, broken, failed] = [&LATE, &BROKEN, &FAILED].map(|count| count.load(Relaxed));
    ensure!(report, played, "not every scene was played");
    ensure!(
        report,
        late + broken + failed == 0,
        "{late} interrupts did not come, {broken} blocks were broken, {failed} requests failed"
    );
    let (mut steps, mut missed) = (0, 0);
    for &(file, lines) in source::SOURCES {
        for &line in lines.iter().filter(|&&line| !is_hit(file, line)) {
            report.note(format_args!("no NMI came at {file}:{line}"));
            missed += 1;
        }
        steps += lines.len();
    }
    report.note(format_args!(
        "NMIs at {} of {steps} steps, {} in all",
        steps - missed,
        HANDLED.load(Relaxed)
    ));
    // A drain meets a section only where another CPU asks for it: the two steps in `drain_wanted`.
    let beyond = if other.is_none() { 2 } else { 0 };
    ensure!(report, missed <= beyond, "{missed} steps were not reached");
    ensure!(report, steps >= 20, "the sources have {steps} steps only");
    Outcome::Pass
}
