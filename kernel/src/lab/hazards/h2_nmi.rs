//! H2-NMI: same-CPU livelock by an NMI. Not in the specification; found by the demonstration.
//!
//! As H2, but what interrupts the writer is an NMI, whose handler makes an atomic request.
//! Interrupts off do not keep it out: a reader that waits for "even" waits for what it has
//! interrupted, whatever the writer does.
//!
//! Nor does an NMI reach a CPU that is inside an NMI's handler: the watchdog gets no answer, and
//! the wait is told to say itself where it is.

use super::super::{
    Finding, judge,
    judge::Window,
    play::{self, Kind, Level, Obstacle},
    schedule::{Action, Rule, Want, want},
    stage,
};
use super::{WRITER, WRITER_CPU, h2};
use crate::arch::context::Task;
use tidemark_wire::{
    LabContext,
    LabPoint::{
        Failed, GaveUp, GoesRound, Got, Hang, NmiOver, NmiTaken, RebuildEven, RebuildOdd,
        SlowBegin, SlowCheckNopage, Spins, WaitsFor,
    },
    Role::{Reader, Watchdog, Writer},
};

static RULES: &[Rule] = &[Rule::first(Writer, RebuildOdd, Action::Nmi)];

const ODD: Want = want(Writer, RebuildOdd)
    .on(WRITER_CPU)
    .within(LabContext::Task)
    .odd();
const EVEN: Want = want(Writer, RebuildEven).on(WRITER_CPU).past(0);

/// A step of the NMI's handler on the writer's CPU.
const fn handler(point: tidemark_wire::LabPoint) -> Want {
    want(Reader, point).on(WRITER_CPU).within(LabContext::Nmi)
}

const HOLDS: &[Window] = &[Window {
    steps: &[
        ODD,
        handler(NmiTaken),
        handler(SlowBegin).past(0),
        handler(SlowCheckNopage).past(0),
        handler(Failed).says(0),
        handler(NmiOver),
        EVEN,
    ],
    means: "the NMI handler's request passes its last check inside the rebuild",
}];
const FAILS: &[Window] = &[
    Window {
        steps: &[
            ODD,
            handler(NmiTaken),
            handler(Spins).past(0),
            want(Watchdog, Hang).says(WRITER_CPU as u64),
            want(Watchdog, WaitsFor),
            handler(GaveUp),
            handler(NmiOver),
            EVEN,
        ],
        means: "waits",
    },
    Window {
        steps: &[
            ODD,
            handler(NmiTaken),
            handler(SlowBegin).past(0),
            handler(SlowCheckNopage).past(0),
            handler(SlowBegin).past(0),
            handler(GoesRound),
            want(Watchdog, WaitsFor),
            handler(Got),
            handler(NmiOver),
            EVEN,
        ],
        means: "goes round for as long as the counter is odd",
    },
];

pub(super) fn run(task: &Task) -> Result<Finding, Obstacle> {
    play::squeeze(task, Level::Empty, 1)?;
    play::handlers_make(Kind::Atomic);
    let open = stage::Stage::open(&RULES, 0);
    let threads = [play::cast("lab-writer", WRITER, h2::writer, 0)?];
    play::wait_for(task, &threads)?;
    drop(open);
    Ok(judge::of_waits(HOLDS, FAILS))
}
