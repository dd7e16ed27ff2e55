//! H10: stale start, misplaced frame.
//!
//! An unmovable request has chosen its preferred entry, (Normal, 2), at its begin. It finds nothing
//! and reclaims. Movable memory arrives meanwhile, and the entry becomes (Movable, 3). The walk
//! after the reclaim starts with that entry's zone, whose index is not tested again.
//!
//! The window is as long as direct reclaim. The frame is taken before any check of the protocol:
//! the request succeeds. The frame is kept, and the DIMM is to be removed again. While an unmovable
//! frame lives in it, it stays.

use super::super::{
    Finding, how, judge,
    play::{self, Fate, Kind, Level, Obstacle, Way},
    schedule::{Action, Rule, Want, released, want},
    stage::{self, TRACE},
};
use super::{READER, READER_CPU, WRITER, plug, reader, writer};
use crate::arch::context::Task;
use tidemark_frames::ZoneKind;
use tidemark_wire::{
    LabPoint::{
        AsksToPlug, End, EntryRead, Got, MemoryFreed, OnlineCounted, OnlineDone, RebuildEven,
        Request, SlotArrives, SlowBegin, SlowRetry, SlowWalk, Start,
    },
    LabVerdict,
    Role::{Reader, Writer},
};

/// The walk after direct reclaim: the first one is at MIN, the second one at *retry*.
const AFTER_RECLAIM: u32 = 3;

static RULES: &[Rule] = &[
    Rule::first(
        Writer,
        Start,
        Action::Hold(&[(Reader, SlowWalk, AFTER_RECLAIM)]),
    ),
    // So that a walk which tests its start again is served.
    Rule::first(Writer, OnlineCounted, Action::FreeSpare),
    Rule::nth(
        Reader,
        SlowWalk,
        AFTER_RECLAIM,
        Action::Hold(&[(Writer, OnlineDone, 1)]),
    ),
];

/// The lists were rewritten, and the new zone's memory was there to take, between the reader's
/// begin and its walk after direct reclaim.
const WINDOW: &[Want] = &[
    reader(Request),
    reader(SlowBegin),
    reader(SlowRetry),
    reader(SlowWalk),
    released(Writer, Start, SlowWalk),
    writer(AsksToPlug),
    writer(SlotArrives),
    writer(MemoryFreed),
    writer(RebuildEven),
    writer(OnlineDone),
    released(Reader, SlowWalk, OnlineDone).on(READER_CPU),
    reader(EntryRead),
    reader(Got),
];

/// 4 MiB blocks that come free in the NORMAL zone.
const SPARE: usize = 32;

fn request(task: &Task, _: usize) {
    stage::play_as(Reader);
    play::request(task, Kind::KernelAlone);
    stage::step(End, 0);
}

pub(super) fn run(task: &Task) -> Result<Finding, Obstacle> {
    play::hotplug(task, Way::Out)?;
    play::keep_frames(true);
    play::squeeze(task, Level::Empty, SPARE)?;
    let from = TRACE.taken();
    play::take_fate();
    let open = stage::Stage::open(&RULES, 0);
    let threads = [
        play::cast("lab-writer", WRITER, plug, 0)?,
        play::cast("lab-reader", READER, request, 0)?,
    ];
    let ended = play::wait_for(task, &threads);
    drop(open);
    ended?;
    play::note_memory();
    play::keep_frames(false);
    play::release(task);
    let is_refused = play::pull_while_kept(task)?;
    if let Err(lacks) = judge::shows(from, WINDOW) {
        return Ok(judge::not_reached(lacks));
    }
    let Some((Fate::Got(kind), retries)) = play::take_fate() else {
        return Ok(judge::not_reached(want(Reader, Got)));
    };
    Ok(match (kind, is_refused) {
        (ZoneKind::Movable, true) => (
            LabVerdict::Fails,
            how!(
                "misplaced frame: the start of the begin is MOVABLE's by now, and gives an unmovable request a frame after {retries} check(s) that found a change; its DIMM stays"
            ),
        ),
        (ZoneKind::Movable, false) | (_, true) => (
            LabVerdict::NotReached,
            how!("frame {kind}, removal refused {is_refused}"),
        ),
        (_, false) => (
            LabVerdict::Holds,
            how!("the unmovable request got a {kind} frame, and its DIMM leaves"),
        ),
    })
}
