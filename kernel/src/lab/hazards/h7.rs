//! H7: torn entry.
//!
//! The list begins [(Normal, 2), …]. An unmovable request's walk has read the index 2 of the first entry. Movable memory
//! arrives, and the entry becomes (Movable, 3). The walk reads the zone: (Movable, 2) passes its filter.
//!
//! The new zone has nothing to give while it is isolated, which it is until the rebuild is over: the walk must stay
//! between its two loads until the arrival is done. Interrupts, or whoever runs the virtual CPU, keep it there for as
//! long as they like.
//!
//! In `snapshot` a walk is waited for before its lists are written again, so a writer is never inside an entry that a
//! reader is in: there the reader begins its walk when the writer is about to publish.

use super::super::{
    Finding, how, not_reached,
    play::{self, Fate, Kind, Level, Obstacle, Way},
    schedule::{Action, Place, Rule},
    shows,
    stage::{self, TRACE},
};
use super::{READER, WRITER};
use crate::arch::context::Task;
use crate::mm;
use core::sync::atomic::{AtomicU32, Ordering::*};
use tidemark_frames::{Variant, ZoneKind};
use tidemark_wire::{
    LabPoint::{
        AsksToPlug, End, Got, OnlineDone, RebuildEntry, RebuildEven, RebuildOdd, Released, Request,
        SlotArrives, Start, WalkEntry,
    },
    LabVerdict,
    Role::{Reader, Writer},
};

static IN_PLACE: &[Rule] = &[
    Rule::first(Writer, Start, Action::Hold(&[(Reader, WalkEntry)])),
    Rule::first(Reader, WalkEntry, Action::Hold(&[(Writer, OnlineDone)])),
];
static BESIDE: &[Rule] = &[
    Rule::first(Reader, Start, Action::Hold(&[(Writer, RebuildOdd)])),
    Rule::first(Writer, RebuildOdd, Action::Hold(&[(Reader, WalkEntry)])),
    Rule::first(Reader, WalkEntry, Action::Hold(&[(Writer, OnlineDone)])),
];

/// The entry was rewritten, and its memory was there to take, between the reader's two loads.
const REWRITTEN: &[Place] = &[
    (Reader, Request),
    (Reader, WalkEntry),
    (Writer, AsksToPlug),
    (Writer, SlotArrives),
    (Writer, RebuildOdd),
    (Writer, RebuildEntry),
    (Writer, RebuildEven),
    (Writer, OnlineDone),
    (Reader, Released),
    (Reader, Got),
];
/// New lists were published beside those that the reader is in, and their memory was there to take.
const PUBLISHED: &[Place] = &[
    (Writer, AsksToPlug),
    (Writer, SlotArrives),
    (Writer, RebuildEntry),
    (Writer, RebuildOdd),
    (Reader, Request),
    (Reader, WalkEntry),
    (Writer, RebuildEven),
    (Writer, OnlineDone),
    (Reader, Released),
    (Reader, Got),
];

/// The kind of the zone that the frame came from, plus one; 0 for no frame.
static ZONE: AtomicU32 = AtomicU32::new(0);

fn reader(task: &Task, _: usize) {
    stage::play_as(Reader);
    stage::step(Start, 0);
    let zone = match play::request(task, Kind::Kernel).0 {
        Fate::Got(kind) => kind as u32 + 1,
        Fate::Failed | Fate::FailedWithMemoryFree => 0,
    };
    ZONE.store(zone, Release);
    stage::step(End, 0);
}

fn writer(task: &Task, _: usize) {
    stage::play_as(Writer);
    stage::step(Start, 0);
    // What it comes to is seen by the trace: the role is the hot-plug thread's from the asking on.
    let _ = play::hotplug(task, Way::In);
}

pub(super) fn run(task: &Task) -> Result<Finding, Obstacle> {
    play::hotplug(task, Way::Out)?;
    play::squeeze(task, Level::BetweenMinAndLow, 0)?;
    let from = TRACE.taken();
    let beside = mm::frames().variant() == Variant::Snapshot;
    let open = stage::Stage::open(if beside { &BESIDE } else { &IN_PLACE });
    let threads = [
        play::cast("lab-writer", WRITER, writer, 0)?,
        play::cast("lab-reader", READER, reader, 0)?,
    ];
    play::wait_for(task, &threads)?;
    drop(open);
    if let Err(place) = shows(from, &[if beside { PUBLISHED } else { REWRITTEN }]) {
        return Ok(not_reached(place));
    }
    let kind = (ZONE.load(Acquire) as usize)
        .checked_sub(1)
        .and_then(|kind| ZoneKind::ALL.get(kind));
    Ok(match kind {
        Some(ZoneKind::Movable) => (
            LabVerdict::Fails,
            how!("misplaced frame: an unmovable request got a Movable frame"),
        ),
        Some(kind) => (
            LabVerdict::Holds,
            how!("the unmovable request got a {kind} frame"),
        ),
        None => not_reached((Reader, Got)),
    })
}
