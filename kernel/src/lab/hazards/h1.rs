//! H1: spurious OOM.
//!
//! A request has chosen its preferred entry in [Movable, Normal, …]. The last Movable memory
//! leaves, and the list becomes [Normal, …]: memory of Normal now stands before the entry where the
//! request's walks begin.
//!
//! It is played in six ways, which are equal for every protocol. The requests may reclaim or are
//! those of handlers. They are held before a walk, or inside one. The memory of Normal comes free
//! meanwhile, or was there all along. In the other two ways, a zone arrives after the walk has
//! missed it, and a request begins on a list half written.

use super::super::{
    Finding, how, judge,
    play::{self, Fate, Kind, Level, Obstacle, Way},
    schedule::{Action, Moment, Rule, Want, left, released, want},
    stage::{self, TRACE},
};
use super::{READER, READER_CPU, WRITER, WRITER_CPU, reader, writer};
use crate::arch::context::Task;
use crate::mm;
use tidemark_wire::{
    LabContext,
    LabPoint::{
        self, AsksToPlug, AsksToPull, End, Failed, Got, GraceBegin, MemoryFreed, OfflineDone,
        OfflineLeft, OnlineCounted, OnlineDone, OomDeclared, RebuildEntry, RebuildEven, RebuildOdd,
        Request, SlotArrives, SlotLeaves, SlowBegin, SlowWalk, SlowWalked, Spins, Start, WalkEntry,
    },
    LabVerdict,
    Role::{Reader, Writer},
};

/// One way to play it.
struct Play {
    /// The request; one that may not reclaim is a handler's.
    kind: Kind,
    /// What Normal is taken down to before.
    level: Level,
    /// 4 MiB blocks of Normal that come free once the last Movable frame has left.
    spare: usize,
    rules: Rules,
    window: &'static [Want],
}

/// What happens to the DIMM, and how roles are held.
#[derive(Clone, Copy)]
enum Rules {
    /// It leaves.
    Out(&'static &'static [Rule]),
    /// It arrives.
    In(&'static &'static [Rule]),
    /// It arrives, and the writer is held in the first entry of the reader's list.
    InHalf,
}

/// Returns the rules by which the DIMM leaves. The reader begins when its frames are gone and the
/// lists still name it. It is held at a point until that is over, or until the writer waits for its
/// CPU. In `snapshot` the writer interrupts all CPUs once new lists are in force, and a handler
/// keeps that interrupt out.
const fn leaving(at: LabPoint, until: &'static [Moment], spare: bool) -> [Rule; 4] {
    [
        Rule::first(Reader, Start, Action::Hold(&[(Writer, OfflineLeft, 1)])),
        Rule::first(Writer, OfflineLeft, Action::Hold(until)),
        Rule::first(
            Reader,
            at,
            Action::Hold(&[(Writer, OfflineDone, 1), (Writer, GraceBegin, 1)]),
        ),
        if spare {
            Rule::first(Writer, OfflineLeft, Action::FreeSpare)
        } else {
            // Nothing comes free.
            Rule::nth(Writer, OfflineLeft, 0, Action::FreeSpare)
        },
    ]
}

const AT_START: &[Moment] = &[(Reader, SlowWalk, 1)];
const IN_WALK: &[Moment] = &[(Reader, WalkEntry, 1)];

static AT_START_FREED: &[Rule] = &leaving(SlowWalk, AT_START, true);
static AT_START_PLAIN: &[Rule] = &leaving(SlowWalk, AT_START, false);
static IN_WALK_FREED: &[Rule] = &leaving(WalkEntry, IN_WALK, true);
static IN_WALK_PLAIN: &[Rule] = &leaving(WalkEntry, IN_WALK, false);

/// The DIMM arrives after the reader's only walk. A task's: no handler can be held until all of it
/// is done.
static ARRIVING: &[Rule] = &[
    Rule::first(Reader, Start, Action::Hold(&[(Writer, OnlineCounted, 1)])),
    Rule::first(
        Writer,
        OnlineCounted,
        Action::Hold(&[(Reader, SlowWalked, 1)]),
    ),
    Rule::first(Reader, SlowWalked, Action::Hold(&[(Writer, OnlineDone, 1)])),
];

/// The window of a DIMM that leaves while the reader is held.
macro_rules! leaving_window {
    ($at:expr, $context:expr, $($freed:expr)?) => {
        &[
            writer(AsksToPull),
            writer(SlotLeaves),
            writer(OfflineLeft),
            reader(Request).within($context),
            reader(SlowBegin).within($context).even(),
            reader($at).within($context),
            released(Writer, OfflineLeft, $at),
            $(writer($freed),)?
            writer(RebuildOdd),
            writer(RebuildEven),
            left(Reader, $at).on(READER_CPU).within($context),
        ]
    };
}

const TASK: LabContext = LabContext::Task;
const HANDLER: LabContext = LabContext::Interrupt;

static PLAYS: [Play; 6] = [
    Play {
        kind: Kind::Kernel,
        level: Level::Empty,
        spare: 4,
        rules: Rules::Out(&AT_START_FREED),
        window: leaving_window!(SlowWalk, TASK, MemoryFreed),
    },
    Play {
        kind: Kind::Kernel,
        level: Level::BetweenMinAndLow,
        spare: 0,
        rules: Rules::Out(&IN_WALK_PLAIN),
        window: leaving_window!(WalkEntry, TASK,),
    },
    Play {
        kind: Kind::Atomic,
        level: Level::Empty,
        spare: 4,
        rules: Rules::Out(&IN_WALK_FREED),
        window: leaving_window!(WalkEntry, HANDLER, MemoryFreed),
    },
    Play {
        kind: Kind::Atomic,
        level: Level::BetweenMinAndLow,
        spare: 0,
        rules: Rules::Out(&AT_START_PLAIN),
        window: leaving_window!(SlowWalk, HANDLER,),
    },
    Play {
        kind: Kind::AtomicMovable,
        level: Level::Empty,
        spare: 0,
        rules: Rules::In(&ARRIVING),
        window: &[
            writer(AsksToPlug),
            writer(SlotArrives),
            writer(OnlineCounted),
            reader(Request),
            reader(SlowBegin),
            reader(SlowWalked),
            released(Writer, OnlineCounted, SlowWalked),
            writer(RebuildEven),
            writer(OnlineDone),
            released(Reader, SlowWalked, OnlineDone)
                .on(READER_CPU)
                .within(TASK),
        ],
    },
    Play {
        kind: Kind::KernelReclaimer,
        level: Level::BetweenMinAndLow,
        spare: 0,
        rules: Rules::InHalf,
        window: &[
            writer(AsksToPlug),
            writer(SlotArrives),
            writer(OnlineCounted),
            writer(RebuildEntry),
            // The reader may be quicker than the writer's word that it is held: its end tells as
            // well.
            reader(Request),
            left(Writer, RebuildEntry).on(WRITER_CPU).within(TASK),
            writer(OnlineDone),
        ],
    },
];

/// The rules of [`Rules::InHalf`], whose entry is known at run time.
static HALF: spin::Once<[Rule; 2]> = spin::Once::new();
static HALF_RULES: spin::Once<&'static [Rule]> = spin::Once::new();

/// Holds the writer in the first entry of the reader's list, new zone and old index, until the
/// reader has met the counter or has come to an end.
fn half_rules() -> &'static &'static [Rule] {
    let zones = || mm::frames().zones().filter(|zone| zone.managed > 0);
    // Node by node, and of each node the list of all nodes first. The Movable zone has arrived by
    // then.
    let of_all = zones().count() + 1;
    let of_own = zones().filter(|zone| zone.id.node() < play::NODE).count();
    let nth = (of_all + of_own + 1) as u32;
    let rules = HALF.call_once(|| {
        static HELD: spin::Once<[Moment; 1]> = spin::Once::new();
        let held = HELD.call_once(|| [(Writer, RebuildEntry, nth)]);
        let met = &[
            (Reader, Spins, 1),
            (Reader, SlowBegin, 2),
            (Reader, Got, 1),
            (Reader, Failed, 1),
            (Reader, OomDeclared, 1),
        ];
        [
            Rule::first(Reader, Start, Action::Hold(held)),
            Rule::nth(Writer, RebuildEntry, nth, Action::Hold(met)),
        ]
    });
    HALF_RULES.call_once(|| rules)
}

fn request(task: &Task, number: usize) {
    stage::play_as(Reader);
    stage::step(Start, 0);
    let kind = PLAYS[number].kind;
    match kind {
        Kind::Atomic => play::request_in_handler(kind),
        _ => {
            play::request(task, kind);
        }
    }
    stage::step(End, 0);
}

fn pull(task: &Task, _: usize) {
    stage::play_as(Writer);
    // What it comes to is seen by the trace: the role is the hot-plug thread's from the asking on.
    let _ = play::hotplug(task, Way::Out);
}

fn plug(task: &Task, _: usize) {
    stage::play_as(Writer);
    let _ = play::hotplug(task, Way::In);
}

/// How one play ended.
enum Outcome {
    Served { retries: u32 },
    PrematureOom,
    FailedWithMemoryFree,
    NotReached(Want),
}

fn play_one(task: &Task, number: usize) -> Result<Outcome, Obstacle> {
    let play = &PLAYS[number];
    let (rules, writer): (_, fn(&Task, usize)) = match play.rules {
        Rules::Out(rules) => (rules, pull),
        Rules::In(rules) => {
            play::hotplug(task, Way::Out)?;
            (rules, plug)
        }
        Rules::InHalf => {
            play::hotplug(task, Way::Out)?;
            // What stands in spare lists is then as old as what is in force.
            mm::frames().rebuild(task);
            (half_rules(), plug)
        }
    };
    play::handlers_make(play.kind);
    play::squeeze(task, play.level, play.spare)?;
    let from = TRACE.taken();
    play::take_fate();
    let open = stage::Stage::open(rules, number as u32);
    let threads = [
        play::cast("lab-reader", READER, request, number)?,
        play::cast("lab-writer", WRITER, writer, 0)?,
    ];
    play::wait_for(task, &threads)?;
    drop(open);
    play::note_memory();
    play::release(task);
    if let Rules::Out(_) = play.rules {
        play::hotplug(task, Way::In)?;
    }
    if let Err(lacks) = judge::shows(from, play.window) {
        return Ok(Outcome::NotReached(lacks));
    }
    // Whatever came after: that it was declared is the hazard.
    if judge::premature_oom(from) {
        return Ok(Outcome::PrematureOom);
    }
    Ok(match play::take_fate() {
        Some((Fate::Got(_), retries)) => Outcome::Served { retries },
        Some((Fate::FailedWithMemoryFree, _)) => Outcome::FailedWithMemoryFree,
        _ => Outcome::NotReached(want(Reader, Failed).says(1)),
    })
}

pub(super) fn run(task: &Task) -> Result<Finding, Obstacle> {
    let (mut restarts, mut atomic, mut failed) = (0, 0, 0);
    for (number, play) in PLAYS.iter().enumerate() {
        let is_atomic = matches!(play.kind, Kind::Atomic | Kind::AtomicMovable);
        atomic += u32::from(is_atomic);
        match play_one(task, number)? {
            Outcome::NotReached(lacks) => {
                let how = how!("play {}: the trace lacks {lacks}", number + 1);
                return Ok((LabVerdict::NotReached, how));
            }
            Outcome::Served { retries } => restarts += retries,
            Outcome::PrematureOom => {
                let how = how!(
                    "play {}: premature OOM, with memory free before its start",
                    number + 1
                );
                return Ok((LabVerdict::Fails, how));
            }
            Outcome::FailedWithMemoryFree if is_atomic => failed += 1,
            Outcome::FailedWithMemoryFree => {
                let how = how!("play {}: GFP_KERNEL fails with memory free", number + 1);
                return Ok((LabVerdict::Fails, how));
            }
        }
    }
    let served = PLAYS.len() as u32 - atomic;
    Ok(if failed == 0 {
        (
            LabVerdict::Holds,
            how!(
                "all {} requests are served, {restarts} of them by a second look",
                PLAYS.len()
            ),
        )
    } else {
        (
            LabVerdict::HoldsDirectOnly,
            how!(
                "GFP_KERNEL is served {served} of {served} times; GFP_ATOMIC fails {failed} of {atomic} times with memory free"
            ),
        )
    })
}
