//! H7 on the hot path: a torn entry that is remembered.
//!
//! The hot path walks no list. It remembers which zone serves a class of requests first, and that
//! is read in a list, entry by entry: index, then zone. The list of node 0 is [Normal, DMA32, DMA,
//! node 1's Movable, …], and a request for DMA memory looks for the first entry with the index 0.
//! Normal leaves, and the third entry becomes (Movable, 3): with the index 0 that was read before
//! it is torn. Were it remembered, each such request would get a Movable frame of this CPU's cache,
//! without another look at any list, until the rebuild is over.
//!
//! The writer is held in the fourth entry, where the first three are whole again: a walk serves the
//! second request well. What gives it a Movable frame is the memory of the hot path alone.

use super::super::{
    Finding, how, judge,
    play::{self, Fate, Kind, Obstacle, Way},
    schedule::{Action, Rule, Want, released, want},
    stage::{self, TRACE},
};
use super::{READER, READER_CPU, WRITER, WRITER_CPU, reader, writer};
use crate::arch::context::Task;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tidemark_frames::ZoneKind;
use tidemark_wire::{
    LabPoint::{
        AsksToPull, End, FirstNoted, Got, NoteEntry, OfflineDone, OfflineLeft, RebuildEntry,
        Request, SlotLeaves, Start,
    },
    LabVerdict,
    Role::{Reader, Writer},
};

static RULES: &[Rule] = &[
    Rule::first(Reader, Start, Action::Hold(&[(Writer, RebuildEntry, 1)])),
    Rule::first(
        Writer,
        RebuildEntry,
        Action::Hold(&[(Reader, NoteEntry, 3)]),
    ),
    Rule::nth(
        Reader,
        NoteEntry,
        3,
        Action::Hold(&[(Writer, RebuildEntry, 4)]),
    ),
    Rule::nth(Writer, RebuildEntry, 4, Action::Hold(&[(Reader, Got, 2)])),
];

/// The third entry was rewritten between the two loads of the reader, which made another request
/// before the rebuild was over.
const WINDOW: &[Want] = &[
    writer(AsksToPull),
    writer(SlotLeaves),
    writer(OfflineLeft),
    released(Reader, Start, RebuildEntry).on(READER_CPU),
    reader(Request),
    reader(NoteEntry),
    reader(NoteEntry),
    reader(NoteEntry),
    released(Writer, RebuildEntry, NoteEntry).on(WRITER_CPU),
    released(Reader, NoteEntry, RebuildEntry).on(READER_CPU),
    reader(Got),
    reader(Request),
    reader(Got),
    released(Writer, RebuildEntry, Got).on(WRITER_CPU),
    writer(OfflineDone),
];

/// Whether the reader had a Movable frame in its CPU's cache.
static CACHED: AtomicBool = AtomicBool::new(false);

fn requests(task: &Task, _: usize) {
    stage::play_as(Reader);
    stage::step(Start, 0);
    // The caches of the leaving zone are drained by now; this one's is none of them.
    CACHED.store(play::cache_movable().is_ok(), Relaxed);
    play::request(task, Kind::Dma);
    play::request(task, Kind::Dma);
    stage::step(End, 0);
}

fn pull(task: &Task, _: usize) {
    stage::play_as(Writer);
    // What it comes to is seen by the trace: the role is the hot-plug thread's from the asking on.
    let _ = play::hotplug_local(task, Way::Out);
}

pub(super) fn run(task: &Task) -> Result<Finding, Obstacle> {
    let from = TRACE.taken();
    play::take_fate();
    let open = stage::Stage::open(&RULES, 0);
    let threads = [
        play::cast("lab-writer", WRITER, pull, 0)?,
        play::cast("lab-reader", READER, requests, 0)?,
    ];
    play::wait_for(task, &threads)?;
    drop(open);
    play::release(task);
    play::hotplug_local(task, Way::In)?;
    if let Err(lacks) = judge::shows(from, WINDOW) {
        return Ok(judge::not_reached(lacks));
    }
    let is_remembered = || {
        let first = judge::steps(from).skip_while(|step| step.point != Request);
        let mut first = first.take_while(|step| step.point != Got);
        first.any(|step| step.point == FirstNoted)
    };
    Ok(match play::take_fate() {
        Some((Fate::Got(ZoneKind::Dma), _)) if CACHED.load(Relaxed) => {
            let how = if is_remembered() {
                how!("the reader's list is whole, and its zone is remembered")
            } else {
                how!("the torn entry is read and not remembered")
            };
            (LabVerdict::Holds, how)
        }
        Some((Fate::Got(kind), _)) if kind != ZoneKind::Dma => (
            LabVerdict::Fails,
            how!(
                "a torn entry is remembered: the hot path gives a request for DMA memory a {kind} frame"
            ),
        ),
        _ => judge::not_reached(want(Reader, Got)),
    })
}
