//! H8: stale start, endless retry.
//!
//! It is as H1, but reclaim makes progress each round, so that rounds are never used up. The check
//! whether progress is possible walks the whole list and says yes. The allocation walks from its
//! stale start and says no. It is played twice: the reader is held before its first walk, and
//! inside it. Requests of handlers have no rounds.

use super::super::{
    Finding, how, judge,
    play::{self, Fate, Kind, Level, Obstacle, Way},
    schedule::{Action, Moment, Rule, Want, released, want},
    stage::{self, TRACE},
};
use super::{READER, READER_CPU, WRITER, feeder, reader, writer};
use crate::arch::context::Task;
use tidemark_wire::{
    LabPoint::{
        self, AsksToPull, End, Fed, Got, MemoryFreed, OfflineDone, OfflineLeft, RebuildEven,
        RebuildOdd, Request, SlotLeaves, SlowBegin, SlowRetry, SlowWalk, Start, WalkEntry,
    },
    LabVerdict,
    Role::{Feeder, Reader, Writer},
};

const fn rules(at: LabPoint, reached: &'static [Moment]) -> [Rule; 6] {
    [
        Rule::first(Writer, Start, Action::Hold(reached)),
        Rule::first(Writer, OfflineLeft, Action::FreeSpare),
        Rule::first(Feeder, Start, Action::Hold(&[(Writer, OfflineDone, 1)])),
        Rule::first(Reader, at, Action::Hold(&[(Feeder, Fed, 1)])),
        // Enough is seen: without progress the rounds are limited.
        Rule::nth(Reader, SlowRetry, stage::ROUNDS + 16, Action::StopFeeding),
        Rule::first(Reader, End, Action::StopFeeding),
    ]
}

static AT_START: &[Rule] = &rules(SlowWalk, &[(Reader, SlowWalk, 1)]);
static IN_WALK: &[Rule] = &rules(WalkEntry, &[(Reader, WalkEntry, 1)]);

const fn window(at: LabPoint) -> [Want; 14] {
    [
        reader(Request),
        reader(SlowBegin).even(),
        reader(at),
        released(Writer, Start, at),
        writer(AsksToPull),
        writer(SlotLeaves),
        writer(OfflineLeft),
        writer(MemoryFreed),
        writer(RebuildOdd),
        writer(RebuildEven),
        writer(OfflineDone),
        released(Feeder, Start, OfflineDone),
        want(Feeder, Fed),
        released(Reader, at, Fed).on(READER_CPU),
    ]
}

/// Rules and window of each play.
static PLAYS: [(&&[Rule], [Want; 14]); 2] =
    [(&AT_START, window(SlowWalk)), (&IN_WALK, window(WalkEntry))];

/// 4 MiB blocks that come free in the NORMAL zone.
const SPARE: usize = 32;
/// Pages that are there to reclaim when the reader goes on: more than the rounds take.
const FIRST_PAGES: u32 = 4096;

fn request(task: &Task, _: usize) {
    stage::play_as(Reader);
    play::request(task, Kind::KernelAlone);
    stage::step(End, 0);
}

fn pull(task: &Task, _: usize) {
    stage::play_as(Writer);
    stage::step(Start, 0);
    // What it comes to is seen by the trace: the role is the hot-plug thread's from the asking on.
    let _ = play::hotplug(task, Way::Out);
}

fn feed(task: &Task, _: usize) {
    stage::play_as(Feeder);
    stage::step(Start, 0);
    play::feed(task, FIRST_PAGES);
    stage::step(End, 0);
}

pub(super) fn run(task: &Task) -> Result<Finding, Obstacle> {
    let mut rounds = 0;
    for (number, (rules, window)) in PLAYS.iter().enumerate() {
        play::handlers_make(Kind::KernelAlone);
        play::squeeze(task, Level::Empty, SPARE)?;
        let from = TRACE.taken();
        play::take_fate();
        let open = stage::Stage::open(rules, number as u32);
        let threads = [
            play::cast("lab-writer", WRITER, pull, 0)?,
            play::cast("lab-feeder", feeder(), feed, 0)?,
            play::cast("lab-reader", READER, request, 0)?,
        ];
        let ended = play::wait_for(task, &threads);
        play::stop_feeding();
        drop(open);
        ended?;
        play::note_memory();
        play::release(task);
        play::hotplug(task, Way::In)?;
        if let Err(lacks) = judge::shows(from, window) {
            return Ok(judge::not_reached(lacks));
        }
        if let Some(finding) = judge::goes_round(from) {
            return Ok(finding);
        }
        if !matches!(play::take_fate(), Some((Fate::Got(_), _))) {
            return Ok(judge::not_reached(want(Reader, Got)));
        }
        rounds += judge::rounds_in_vain(from);
    }
    Ok((
        LabVerdict::Holds,
        how!("served both times, after {rounds} round(s) from the stale start"),
    ))
}
