//! H1: spurious OOM.
//!
//! A request has chosen its preferred entry in [Movable, Normal, …]. The last Movable memory leaves, and
//! the list becomes [Normal, …]: memory that is free in Normal now stands before the entry where the request's walks begin.
//! Played twice: by a request that may reclaim, and by an atomic one.

use super::super::{
    Finding, how, not_reached,
    play::{self, Fate, Kind, Level, Obstacle, Way},
    schedule::{Action, Place, Rule},
    shows,
    stage::{self, TRACE},
};
use super::{READER, WRITER};
use crate::arch::context::Task;
use core::sync::atomic::{AtomicU32, Ordering::*};
use tidemark_wire::{
    LabPoint::{
        self, AsksToPull, End, MemoryFreed, OfflineDone, OfflineLeft, OomDeclared, RebuildEven,
        RebuildOdd, Released, Request, SlotLeaves, SlowBegin, SlowWalk, Start,
    },
    LabVerdict,
    Role::{Reader, Writer},
};

static RULES: &[Rule] = &[
    Rule::first(Writer, Start, Action::Hold(&[(Reader, SlowWalk)])),
    Rule::first(Reader, SlowWalk, Action::Hold(&[(Writer, OfflineDone)])),
    Rule::first(Writer, OfflineLeft, Action::FreeSpare),
];

/// The lists were rewritten, with memory free in what moved, while the reader had its start and had not walked.
const WINDOW: &[Place] = &[
    (Reader, Request),
    (Reader, SlowBegin),
    (Reader, SlowWalk),
    (Writer, AsksToPull),
    (Writer, SlotLeaves),
    (Writer, OfflineLeft),
    (Writer, MemoryFreed),
    (Writer, RebuildOdd),
    (Writer, RebuildEven),
    (Reader, Released),
];

/// 4 MiB blocks that come free in the NORMAL zone.
const SPARE: usize = 4;

/// What became of the request, as a number, and how often it was made to start again.
static FATE: AtomicU32 = AtomicU32::new(0);
static RETRIES: AtomicU32 = AtomicU32::new(0);

const GOT: u32 = 1;
const FAILED: u32 = 2;
const FAILED_WITH_MEMORY_FREE: u32 = 3;

fn reader(task: &Task, kind: usize) {
    stage::play_as(Reader);
    let kind = if kind == 0 {
        Kind::Kernel
    } else {
        Kind::Atomic
    };
    let (fate, walk) = play::request(task, kind);
    RETRIES.store(walk.retries, Relaxed);
    let fate = match fate {
        Fate::Got(_) => GOT,
        Fate::Failed => FAILED,
        Fate::FailedWithMemoryFree => FAILED_WITH_MEMORY_FREE,
    };
    FATE.store(fate, Release);
    stage::step(End, 0);
}

pub(super) fn writer(task: &Task, _: usize) {
    stage::play_as(Writer);
    stage::step(Start, 0);
    // What it comes to is seen by the trace: the role is the hot-plug thread's from the asking on.
    let _ = play::hotplug(task, Way::Out);
}

/// How one kind of request came out of it.
enum Outcome {
    Served { retries: u32 },
    PrematureOom,
    FailedWithMemoryFree,
    NotReached(Place),
}

fn play_with(task: &Task, kind: usize) -> Result<Outcome, Obstacle> {
    play::squeeze(task, Level::Empty, SPARE)?;
    let from = TRACE.taken();
    let open = stage::Stage::open(&RULES);
    let threads = [
        play::cast("lab-writer", WRITER, writer, 0)?,
        play::cast("lab-reader", READER, reader, kind)?,
    ];
    play::wait_for(task, &threads)?;
    drop(open);
    play::release(task);
    play::hotplug(task, Way::In)?;
    if let Err(place) = shows(from, &[WINDOW]) {
        return Ok(Outcome::NotReached(place));
    }
    let premature = TRACE
        .steps()
        .skip(from as usize)
        .any(|step| step.point == OomDeclared && step.detail == 1);
    Ok(match FATE.load(Acquire) {
        GOT => Outcome::Served {
            retries: RETRIES.load(Relaxed),
        },
        _ if premature => Outcome::PrematureOom,
        FAILED_WITH_MEMORY_FREE => Outcome::FailedWithMemoryFree,
        _ => Outcome::NotReached((Reader, LabPoint::Failed)),
    })
}

pub(super) fn run(task: &Task) -> Result<Finding, Obstacle> {
    let direct = play_with(task, 0)?;
    let atomic = play_with(task, 1)?;
    Ok(match (direct, atomic) {
        (Outcome::NotReached(place), _) | (_, Outcome::NotReached(place)) => not_reached(place),
        (Outcome::PrematureOom, _) => (
            LabVerdict::Fails,
            how!("premature OOM: GFP_KERNEL, memory free before its start"),
        ),
        (Outcome::FailedWithMemoryFree, _) => (
            LabVerdict::Fails,
            how!("GFP_KERNEL fails with memory free before its start"),
        ),
        (Outcome::Served { retries }, Outcome::Served { .. }) => (
            LabVerdict::Holds,
            how!("both kinds of request are served; GFP_KERNEL after {retries} restart(s)"),
        ),
        (Outcome::Served { retries }, _) => (
            LabVerdict::HoldsDirectOnly,
            how!(
                "GFP_KERNEL is served after {retries} restart(s), GFP_ATOMIC fails with memory free"
            ),
        ),
    })
}
