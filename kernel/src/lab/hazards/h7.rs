//! H7: torn entry.
//!
//! The list begins [(Normal, 2), …]. An unmovable request's walk has read the index 2 of the first
//! entry. Movable memory arrives, and the entry becomes (Movable, 3). The walk reads the zone:
//! (Movable, 2) passes its filter.
//!
//! The new zone has nothing to give while it is isolated, which lasts until the rebuild is over. So
//! the walk must stay between its two loads until the arrival is done. Interrupts, or the host that
//! runs the virtual CPU, may keep it there without limit. The frame is kept, and the DIMM is to be
//! removed again. While an unmovable frame lives in it, it stays.
//!
//! A protocol in which that does not happen is played a second time: the lists are rebuilt twice
//! while the walk is inside them. A walk that then reads an entry that is not its list's has seen
//! half a list.

use super::super::{
    Finding, how, judge,
    play::{self, Fate, Kind, Level, Obstacle, Way},
    schedule::{Action, Rule, Want, released, released_by_one, want},
    stage::{self, TRACE},
};
use super::{READER, READER_CPU, WRITER, plug, reader, writer};
use crate::arch::context::Task;
use crate::mm;
use tidemark_frames::ZoneKind;
use tidemark_wire::{
    LabPoint::{
        self, AsksToPlug, AsksToPull, End, EntryRead, Got, GraceWait, OfflineDone, OfflineLeft,
        OnlineDone, RebuildEven, Request, SlotArrives, SlotLeaves, Start, WalkEntry,
    },
    LabVerdict, ListNow,
    Role::{Reader, Writer},
    ZoneName,
};

static TORN: &[Rule] = &[
    Rule::first(Writer, Start, Action::Hold(&[(Reader, WalkEntry, 1)])),
    Rule::first(Reader, WalkEntry, Action::Hold(&[(Writer, OnlineDone, 1)])),
];
/// The reader is held in its first entry until the second rebuild waits for it, or has not waited.
static TWICE: &[Rule] = &[
    Rule::first(Writer, Start, Action::Hold(&[(Reader, WalkEntry, 1)])),
    Rule::first(
        Reader,
        WalkEntry,
        Action::Hold(&[(Writer, GraceWait, 2), (Writer, RebuildEven, 2)]),
    ),
];

/// The lists were rewritten, and the new zone's memory was there to take, between the reader's two
/// loads.
const IN_ENTRY: &[Want] = &[
    reader(Request),
    reader(WalkEntry),
    released(Writer, Start, WalkEntry),
    writer(AsksToPlug),
    writer(SlotArrives),
    writer(RebuildEven),
    writer(OnlineDone),
    released(Reader, WalkEntry, OnlineDone).on(READER_CPU),
    reader(EntryRead),
    reader(Got),
];
/// The lists were rewritten once while the reader was in its walk, and a second rebuild was asked
/// for.
const IN_WALK: &[Want] = &[
    reader(Request),
    reader(WalkEntry),
    released(Writer, Start, WalkEntry),
    writer(AsksToPull),
    writer(SlotLeaves),
    writer(OfflineLeft),
    writer(RebuildEven),
    writer(OfflineDone),
    released_by_one(Reader, WalkEntry, [GraceWait, RebuildEven]).on(READER_CPU),
    reader(EntryRead),
    reader(Got),
];

fn request(task: &Task, _: usize) {
    stage::play_as(Reader);
    play::request(task, Kind::Kernel);
    stage::step(End, 0);
}

fn pull_and_rebuild(task: &Task, _: usize) {
    stage::play_as(Writer);
    stage::step(Start, 0);
    let _ = play::hotplug(task, Way::Out);
    stage::play_as(Writer);
    mm::frames().rebuild(task);
    stage::step(End, 0);
}

/// Plays once; returns where the trace begins, or what it lacks.
fn play_one(
    task: &Task,
    number: u32,
    rules: &'static &'static [Rule],
    writer: fn(&Task, usize),
    window: &[Want],
) -> Result<Result<u32, Want>, Obstacle> {
    play::squeeze(task, Level::BetweenMinAndLow, 0)?;
    let from = TRACE.taken();
    play::take_fate();
    let open = stage::Stage::open(rules, number);
    let threads = [
        play::cast("lab-writer", WRITER, writer, 0)?,
        play::cast("lab-reader", READER, request, 0)?,
    ];
    play::wait_for(task, &threads)?;
    drop(open);
    play::note_memory();
    play::release(task);
    Ok(judge::shows(from, window).map(|()| from))
}

pub(super) fn run(task: &Task) -> Result<Finding, Obstacle> {
    play::hotplug(task, Way::Out)?;
    play::keep_frames(true);
    let from = play_one(task, 0, &TORN, plug, IN_ENTRY)?;
    play::keep_frames(false);
    let is_refused = play::pull_while_kept(task)?;
    let from = match from {
        Ok(from) => from,
        Err(lacks) => return Ok(judge::not_reached(lacks)),
    };
    let torn = judge::entries_read(from).find(|read| read.is_torn());
    let kind = match play::take_fate() {
        Some((Fate::Got(kind), _)) => kind,
        _ => return Ok(judge::not_reached(want(Reader, Got))),
    };
    match (kind, torn, is_refused) {
        (ZoneKind::Movable, Some(read), true) => {
            let how = how!(
                "misplaced frame: entry {}, {} with index {}, gives an unmovable request a Movable frame; its DIMM stays",
                read.at,
                read.zone,
                read.index
            );
            return Ok((LabVerdict::Fails, how));
        }
        (ZoneKind::Movable, _, _) | (_, Some(_), _) | (_, _, true) => {
            let how = how!(
                "frame {kind}, torn {}, refused {is_refused}",
                torn.is_some()
            );
            return Ok((LabVerdict::NotReached, how));
        }
        (_, None, false) => {}
    }
    let from = match play_one(task, 1, &TWICE, pull_and_rebuild, IN_WALK)? {
        Ok(from) => from,
        Err(lacks) => return Ok(judge::not_reached(lacks)),
    };
    play::hotplug(task, Way::In)?;
    Ok(match foreign(from) {
        Some((at, zone)) => (
            LabVerdict::Fails,
            how!("half a list: entry {at} reads {zone}, which is another list's"),
        ),
        None => (
            LabVerdict::Holds,
            how!(
                "the unmovable request got a {kind} frame, and its DIMM leaves; a second rebuild waits for the walk"
            ),
        ),
    })
}

/// The first entry that the reader read and that is not the one of the list as it was at the
/// beginning.
fn foreign(from: u32) -> Option<(u8, ZoneName)> {
    let mut lists = judge::steps(from).filter(|step| step.point == LabPoint::ListNow);
    let ListNow(list) = ListNow::unpack(lists.next()?.detail);
    judge::entries_read(from)
        .find(|read| list.get(usize::from(read.at)) != Some(&Some(read.zone)))
        .map(|read| (read.at, read.zone))
}
