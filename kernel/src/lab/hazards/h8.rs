//! H8: stale start, endless retry.
//!
//! As H1, but reclaim makes progress each round, so that rounds are never used up: "is progress possible?" walks the whole
//! list and says yes, the allocation walks from its stale start and says no.

use super::super::{
    Finding, how, not_reached,
    play::{self, Fate, Kind, Level, Obstacle, Way},
    schedule::{Action, Place, Rule},
    shows,
    stage::{self, TRACE},
};
use super::{READER, WRITER, feeder, h1};
use crate::arch::context::Task;
use core::sync::atomic::{AtomicBool, Ordering::*};
use tidemark_wire::{
    LabPoint::{
        AsksToPull, End, Fed, MemoryFreed, OfflineDone, OfflineLeft, RebuildEven, RebuildOdd,
        Released, Request, SlotLeaves, SlowBegin, SlowRetry, SlowWalk, Start,
    },
    LabVerdict,
    Role::{Feeder, Reader, Writer},
};

/// Rounds from a stale start after which the retry counts as endless.
const ENDLESS: usize = 64;

static RULES: &[Rule] = &[
    Rule::first(Writer, Start, Action::Hold(&[(Reader, SlowWalk)])),
    Rule::first(Writer, OfflineLeft, Action::FreeSpare),
    Rule::first(Feeder, Start, Action::Hold(&[(Writer, OfflineDone)])),
    Rule::first(Reader, SlowWalk, Action::Hold(&[(Feeder, Fed)])),
    // Enough is seen: without progress the rounds are limited.
    Rule {
        role: Reader,
        point: SlowRetry,
        nth: 80,
        action: Action::StopFeeding,
    },
    Rule::first(Reader, End, Action::StopFeeding),
];

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
    (Feeder, Fed),
    (Reader, Released),
];

/// 4 MiB blocks that come free in the NORMAL zone.
const SPARE: usize = 32;
/// Pages that are there to reclaim when the reader goes on: more than 80 rounds take.
const FIRST_PAGES: u32 = 4096;

static SERVED: AtomicBool = AtomicBool::new(false);

fn reader(task: &Task, _: usize) {
    stage::play_as(Reader);
    let (fate, _) = play::request(task, Kind::KernelAlone);
    SERVED.store(matches!(fate, Fate::Got(_)), Release);
    stage::step(End, 0);
}

fn feed(task: &Task, _: usize) {
    stage::play_as(Feeder);
    stage::step(Start, 0);
    play::feed(task, FIRST_PAGES);
    stage::step(End, 0);
}

pub(super) fn run(task: &Task) -> Result<Finding, Obstacle> {
    play::squeeze(task, Level::Empty, SPARE)?;
    let open = stage::Stage::open(&RULES);
    let threads = [
        play::cast("lab-writer", WRITER, h1::writer, 0)?,
        play::cast("lab-feeder", feeder(), feed, 0)?,
        play::cast("lab-reader", READER, reader, 0)?,
    ];
    let ended = play::wait_for(task, &threads);
    play::stop_feeding();
    drop(open);
    ended?;
    play::release(task);
    play::hotplug(task, Way::In)?;
    if let Err(place) = shows(0, &[WINDOW]) {
        return Ok(not_reached(place));
    }
    let rounds = TRACE
        .steps()
        .filter(|step| (step.role, step.point, step.detail) == (Reader, SlowRetry, 1))
        .count();
    Ok(if rounds > ENDLESS {
        (
            LabVerdict::Fails,
            how!("endless retry: {rounds} rounds from a stale start, a fresh walk finds memory"),
        )
    } else if SERVED.load(Acquire) {
        (
            LabVerdict::Holds,
            how!("served after {rounds} round(s) from the stale start"),
        )
    } else {
        not_reached((Reader, tidemark_wire::LabPoint::Got))
    })
}
