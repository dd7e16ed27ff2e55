//! H2: same-CPU livelock.
//!
//! The writer has made the counter odd, and an interrupt arrives on its CPU. The handler's atomic
//! request reaches the slow path and, as no zone has a frame, its last check. A reader may wait for
//! an even counter, there or at its begin, or begin again until the counter is even. In all these
//! cases it waits for the writer that it has interrupted.
//!
//! Where the writer has interrupts off, the interrupt stays pending and is taken after "even": that
//! is the protection.

use super::super::{
    Finding, judge,
    judge::Window,
    play::{self, Kind, Level, Obstacle},
    schedule::{Action, Rule, Want, want},
    stage,
};
use super::{WRITER, WRITER_CPU};
use crate::arch::context::Task;
use crate::mm;
use tidemark_wire::{
    LabContext,
    LabPoint::{
        End, Failed, GaveUp, GoesRound, Got, Hang, IrqOver, IrqPending, IrqRaised, IrqTaken,
        RebuildEven, RebuildOdd, SlowBegin, SlowCheckNopage, Spins, Start, WaitsFor,
    },
    Role::{Reader, Watchdog, Writer},
};

static RULES: &[Rule] = &[Rule::first(Writer, RebuildOdd, Action::Interrupt)];

const ODD: Want = want(Writer, RebuildOdd)
    .on(WRITER_CPU)
    .within(LabContext::Task)
    .odd();
const EVEN: Want = want(Writer, RebuildEven).on(WRITER_CPU).past(0);
const RAISED: Want = want(Writer, IrqRaised).on(WRITER_CPU);

/// A step of the handler on the writer's CPU.
const fn handler(point: tidemark_wire::LabPoint) -> Want {
    want(Reader, point)
        .on(WRITER_CPU)
        .within(LabContext::Interrupt)
}

const HOLDS: &[Window] = &[
    Window {
        steps: &[
            ODD,
            RAISED.says(1),
            handler(IrqTaken),
            handler(SlowBegin).past(0),
            handler(SlowCheckNopage).past(0),
            handler(Failed).says(0),
            handler(IrqOver),
            EVEN,
        ],
        means: "the handler's request passes its last check inside the rebuild",
    },
    Window {
        steps: &[
            ODD,
            RAISED.says(0),
            want(Writer, IrqPending).on(WRITER_CPU),
            EVEN,
            handler(IrqTaken),
            // Of `snapshot`'s observers the counter may still be odd: it is the order that says
            // "after".
            handler(SlowBegin),
            handler(SlowCheckNopage),
            handler(Failed).says(0),
        ],
        means: "interrupts are off: this one stays pending until the rebuild is over",
    },
];
const FAILS: &[Window] = &[
    Window {
        steps: &[
            ODD,
            RAISED.says(1),
            handler(IrqTaken),
            handler(Spins).past(0),
            want(Watchdog, Hang).says(WRITER_CPU as u64),
            want(Watchdog, WaitsFor),
            handler(GaveUp),
            handler(IrqOver),
            EVEN,
        ],
        means: "waits",
    },
    Window {
        steps: &[
            ODD,
            RAISED.says(1),
            handler(IrqTaken),
            handler(SlowBegin).past(0),
            handler(SlowCheckNopage).past(0),
            handler(SlowBegin).past(0),
            handler(GoesRound),
            want(Watchdog, WaitsFor),
            handler(Got),
            handler(IrqOver),
            EVEN,
        ],
        means: "goes round for as long as the counter is odd",
    },
];

/// The writer of H2, H2-NMI, H3 and H5: a rebuild although no zone came or went.
pub(super) fn writer(task: &Task, _: usize) {
    stage::play_as(Writer);
    stage::step(Start, 0);
    mm::frames().rebuild(task);
    stage::step(End, 0);
}

pub(super) fn run(task: &Task) -> Result<Finding, Obstacle> {
    play::squeeze(task, Level::Empty, 1)?;
    play::handlers_make(Kind::Atomic);
    let open = stage::Stage::open(&RULES, 0);
    let threads = [play::cast("lab-writer", WRITER, writer, 0)?];
    play::wait_for(task, &threads)?;
    drop(open);
    Ok(judge::of_waits(HOLDS, FAILS))
}
