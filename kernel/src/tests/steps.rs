//! A real NMI at every step of the fast path, and of compaction, the reserve and steals.
//!
//! Each scene is repeated, with an NMI at its first step, its second one and so on, until it has
//! none left. The NMI's handler frees a block and takes another one, so whatever the step leaves
//! half done is met by both. At the end the steps that were hit are compared with those that the
//! sources have: a step that no scene reaches fails the test.

mod pressed;
mod scenes;
mod source;

use super::support::{
    SOON_NS, ensure,
    everywhere::{Jobs, others},
    frames::{Block, OWNER, sign, unsigned},
    tests, want,
};
use crate::{
    arch::{
        context::{HardIrq, Nmi, Task},
        cpu_id, nmi, percpu, time, vectors,
    },
    mm,
    options::{self, Plant},
    points,
    selftest::{Group, Outcome, Report},
    thread::{self, Placement, Priority},
};
use core::{
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*},
};
use pressed::Pressed;
use scenes::{SCENES, Scene, play, take};
use tidemark_frames::{FrameHandle, Gfp, NodeId, Order, Request, Step};

/// The group.
pub const GROUP: Group = Group {
    name: "steps",
    tests: tests![an_nmi_may_come_at_every_step],
};

/// Most steps of a scene.
const MOST_STEPS: u32 = 2_000;
/// Where a scene repeats itself only every seventh step is tried.
const STRIDE: usize = 7;
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
/// What went wrong: NMIs or drains that did not come, blocks that were broken, requests that
/// failed.
static LATE: AtomicU32 = AtomicU32::new(0);
static BROKEN: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicU32 = AtomicU32::new(0);
/// The block that the handler frees, and then has taken.
static HELD: AtomicU64 = AtomicU64::new(0);
static ORDER: AtomicU32 = AtomicU32::new(0);
/// Where the handler's blocks come from: index into [`ZONES`].
static ZONE: AtomicUsize = AtomicUsize::new(0);
/// Any zone, or one of node 0 that is short of memory.
const ZONES: [Gfp; 3] = [Gfp::NONE, Gfp::DMA, Gfp::DMA32];
/// The steps at which an NMI came; the armed CPU writes.
static HIT: [AtomicPtr<Step>; 256] = [const { AtomicPtr::new(ptr::null_mut()) }; 256];

const NEVER: u32 = u32::MAX;

fn at_step(step: &'static Step) {
    if ARMED.load(Relaxed) != cpu_id().0 + 1 || percpu::in_nmi() {
        return;
    }
    let nth = GONE_BY.fetch_add(1, Relaxed);
    if nth == DRAIN_AT.load(Relaxed) {
        be_drained();
    }
    let at = AT.load(Relaxed);
    // Of a long scene not every step is tried: then every line is, all the same.
    if nth == at || at >= pressed::DENSE && !is_hit(step.file, step.line) {
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
    let zone = ZONES[ZONE.load(Relaxed)];
    let anywhere = Request::atomic(order).with(Gfp::NOWARN).owned_by(OWNER);
    let there = anywhere.with(zone | Gfp::THISNODE).on_node(NodeId(0));
    let there = (zone != Gfp::NONE).then(|| mm::frames().alloc(nmi, &there).ok());
    // The zone may have nothing at this step.
    match there
        .flatten()
        .map_or_else(|| mm::frames().alloc(nmi, &anywhere), Ok)
    {
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
    let pressed = match scene {
        Scene::Pressed(pressed) => Some(pressed),
        _ => None,
    };
    let stage = pressed.and_then(|scene| scene.stage(task));
    let zone = pressed.map_or(Gfp::NONE, Pressed::zone);
    let zone = ZONES.iter().position(|&other| other == zone)?;
    ZONE.store(zone, Relaxed);
    let each = pressed.map_or(MOST_STEPS, Pressed::each);
    let later = (each..MOST_STEPS).step_by(STRIDE);
    for at in (0..each).chain(later) {
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
                drop(stage);
                return Some(GONE_BY.load(Relaxed));
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

fn an_nmi_may_come_at_every_step(task: &Task, report: &mut Report) -> Outcome {
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
        if matches!(scene, Scene::Pressed(scene) if !scene.can_be_played()) {
            report.note(format_args!("{scene:?}: {}", pressed::TOO_SMALL));
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
    // Only another CPU asks for a drain by an interrupt: the step in `drain_local`, and the two in
    // `drain_wanted`.
    // And a zone that is too small for a reserve never comes to the steps of one.
    let alone = if other.is_none() { 3 } else { 0 };
    let has_reserve = Pressed::ReserveGrows.can_be_played();
    let (mut steps, mut missed, mut beyond) = (0, 0, alone);
    for &(file, lines) in source::SOURCES {
        if file == source::RESERVE && !has_reserve {
            beyond += lines.len();
        }
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
    ensure!(
        report,
        missed <= beyond,
        "{missed} steps were not reached; {beyond} are beyond this machine"
    );
    ensure!(report, steps >= 70, "the sources have {steps} steps only");
    Outcome::Pass
}
