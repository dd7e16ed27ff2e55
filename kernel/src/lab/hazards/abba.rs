//! H3 and H5: ABBA through the console.
//!
//! CPU0 takes a byte from COM1 under the port's lock and has a buffer allocated for it: an atomic
//! request, which may wait for an even counter. CPU1 is inside a rebuild and prints: it may wait
//! for the port's lock.
//!
//! In H3 it prints while it rewrites. In H5 the lock validator prints, when it is told of the
//! writer: at its begin, or at its end. What matters is whether the counter is odd there, and the
//! console deferred.

use super::super::{
    Finding, judge,
    judge::Window,
    play::{self, Kind, Level, Obstacle},
    schedule::{Action, Rule, Want, want},
    stage::{self, TRACE},
};
use super::{READER_CPU, WRITER, WRITER_CPU, h2, writer};
use crate::arch::context::Task;
use crate::arch::time;
use crate::console::{self, Share};
use crate::{link, thread};
use tidemark_wire::{
    Ask, LabContext,
    LabPoint::{
        self, AnnotateBegin, AnnotateEnd, Failed, GaveUp, GoesRound, Got, Hang, PortFreed,
        PortLocked, PortWanted, Print, PrintStored, RebuildOdd, SlowBegin, SlowCheckNopage, Spins,
        WaitsFor,
    },
    LabVerdict,
    Role::{Reader, Watchdog, Writer},
};

/// Returns the rules of a print at a point. The writer stays until the reader has the port's lock,
/// prints, and stays until the reader has met the counter. The reader, having the lock, stays until
/// the print wants it or was stored.
const fn rules(at: LabPoint) -> [Rule; 4] {
    [
        Rule::first(Writer, at, Action::Hold(&[(Reader, PortLocked, 1)])),
        Rule::first(Writer, at, Action::Print),
        Rule::first(
            Writer,
            at,
            Action::Hold(&[(Reader, Spins, 1), (Reader, SlowCheckNopage, 1)]),
        ),
        Rule::first(
            Reader,
            PortLocked,
            Action::Hold(&[(Writer, PortWanted, 1), (Writer, PrintStored, 1)]),
        ),
    ]
}

static IN_REBUILD: &[Rule] = &rules(RebuildOdd);
static AT_BEGIN: &[Rule] = &rules(AnnotateBegin);
static AT_END: &[Rule] = &rules(AnnotateEnd);

/// A step of COM1's interrupt.
const fn tty(point: LabPoint) -> Want {
    want(Reader, point)
        .on(READER_CPU)
        .within(LabContext::Interrupt)
}

/// A window: where the writer prints, its counter odd or even, and what follows once it has printed
/// under the reader's lock.
macro_rules! window {
    ($means:literal, $at:expr, $($then:expr),+ $(,)?) => {
        Window {
            steps: &[$at, tty(PortLocked), writer(Print), $($then),+],
            means: $means,
        }
    };
}

/// The windows of a run that holds, and of one that fails.
macro_rules! windows {
    ($at:expr) => {
        (
            &[
                window!(
                    "the reader waits, the print is stored for later",
                    writer($at).odd(),
                    writer(PrintStored),
                    tty(Spins).past(0),
                    tty(SlowBegin).past(1),
                    tty(Failed).says(0),
                    tty(PortFreed),
                ),
                window!(
                    "the reader does not wait; the print waits for the port until it is done",
                    writer($at).odd(),
                    writer(PortWanted),
                    tty(SlowBegin).past(0),
                    tty(SlowCheckNopage).past(0),
                    tty(Failed).says(0),
                    tty(PortFreed),
                    writer(PortLocked),
                ),
                // Nothing else can keep the reader.
                window!(
                    "the counter is even where the validator prints",
                    writer($at).even(),
                    writer(PortWanted),
                    tty(SlowBegin),
                    tty(SlowCheckNopage),
                    tty(Failed).says(0),
                    tty(PortFreed),
                    writer(PortLocked),
                ),
                window!(
                    "the counter is even where the validator prints, and the print is stored",
                    writer($at).even(),
                    writer(PrintStored),
                    tty(SlowBegin),
                    tty(SlowCheckNopage),
                    tty(Failed).says(0),
                    tty(PortFreed),
                ),
            ],
            &[
                window!(
                    "each waits for the other",
                    writer($at).odd(),
                    writer(PortWanted),
                    tty(Spins).past(0),
                    want(Watchdog, WaitsFor),
                    want(Watchdog, WaitsFor),
                    tty(GaveUp),
                    tty(PortFreed),
                    writer(PortLocked),
                ),
                window!(
                    "the reader goes round, the print waits for its port",
                    writer($at).odd(),
                    writer(PortWanted),
                    tty(SlowBegin).past(0),
                    tty(SlowCheckNopage).past(0),
                    tty(SlowBegin).past(0),
                    tty(GoesRound),
                    want(Watchdog, WaitsFor),
                    want(Watchdog, WaitsFor),
                    tty(Got),
                    tty(PortFreed),
                    writer(PortLocked),
                ),
            ],
        )
    };
}

type Windows = (&'static [Window; 4], &'static [Window; 2]);

const H3: Windows = windows!(RebuildOdd);
const H5_BEGIN: Windows = windows!(AnnotateBegin);
const H5_END: Windows = windows!(AnnotateEnd);

/// Runs H3: the writer prints while it rewrites.
pub(super) fn h3(task: &Task) -> Result<Finding, Obstacle> {
    // There the counter must be odd.
    run(task, (&IN_REBUILD, RebuildOdd), (&H3.0[..2], H3.1))
}

/// Runs H5's begin: the validator prints when it is told of the writer.
pub(super) fn h5_begin(task: &Task) -> Result<Finding, Obstacle> {
    run(task, (&AT_BEGIN, AnnotateBegin), (H5_BEGIN.0, H5_BEGIN.1))
}

/// Runs H5's end: the validator prints when it is told that the writer is done.
pub(super) fn h5_end(task: &Task) -> Result<Finding, Obstacle> {
    run(task, (&AT_END, AnnotateEnd), (H5_END.0, H5_END.1))
}

fn run(
    task: &Task,
    (rules, at): (&'static &'static [Rule], LabPoint),
    (holds, fails): (&'static [Window], &'static [Window]),
) -> Result<Finding, Obstacle> {
    play::squeeze(task, Level::Empty, 1)?;
    play::handlers_make(Kind::Atomic);
    console::flush(Share::All);
    let open = stage::Stage::open(rules, 0);
    play::expect_byte();
    let threads = [play::cast("lab-writer", WRITER, h2::rebuild, 0)?];
    let deadline = time::now_ns() + play::DEADLINE_NS;
    while stage::count((Writer, at)) == 0 && time::now_ns() < deadline {
        thread::sleep_ns(task, 100_000);
    }
    // A real byte from outside. The answer may come late: this CPU is about to hang, where it can.
    link::send(
        task,
        &tidemark_wire::ToHost::Ask {
            id: u32::MAX,
            ask: Ask::Type { bytes: 1 },
        },
    );
    play::wait_for(task, &threads)?;
    drop(open);
    let (verdict, how) = judge::of_waits(holds, fails);
    let found = |cpu: usize| {
        let mut steps = TRACE.steps();
        steps.any(|step| (step.point, step.detail) == (Hang, cpu as u64))
    };
    // Parties that wait in loops are both found by the watchdog.
    let waits = stage::count((Reader, GaveUp)) > 0;
    if verdict == LabVerdict::Fails && waits && !(found(READER_CPU) && found(WRITER_CPU)) {
        return Ok(judge::not_reached(want(Watchdog, Hang)));
    }
    Ok((verdict, how))
}
