//! H2: same-CPU livelock.
//!
//! The writer has made the counter odd, and an interrupt arrives on its CPU. The handler's atomic
//! request reaches the slow path and, as no zone has a frame, its last check. A reader may wait for
//! an even counter, there or at its begin, or begin again until the counter is even. In all these
//! cases it waits for the writer that it has interrupted.
//!
//! Where the writer has interrupts off, the interrupt stays pending and is taken after "even": that
//! is the protection.
//!
//! H2-NMI, which is not in the specification (the demonstration found it): what interrupts the
//! writer is an NMI. Interrupts off do not keep it out, whatever the writer does. Nor does an NMI
//! reach a CPU that is inside an NMI's handler: the watchdog gets no answer, and the wait is told
//! to say itself where it is.

use super::super::{
    Finding, judge,
    judge::Window,
    play::{self, Kind, Level, Obstacle},
    schedule::{Action, Rule, Want, want},
    stage,
};
use super::{WRITER, WRITER_CPU, writer};
use crate::arch::context::Task;
use crate::mm;
use tidemark_wire::{
    LabContext,
    LabPoint::{
        self, End, Failed, GaveUp, GoesRound, Got, Hang, IrqOver, IrqPending, IrqRaised, IrqTaken,
        NmiOver, NmiTaken, RebuildEven, RebuildOdd, SlowBegin, SlowCheckNopage, Spins, Start,
        WaitsFor,
    },
    Role::{Reader, Watchdog, Writer},
};

static BY_IRQ: &[Rule] = &[Rule::first(Writer, RebuildOdd, Action::Interrupt)];
static BY_NMI: &[Rule] = &[Rule::first(Writer, RebuildOdd, Action::Nmi)];

const ODD: Want = writer(RebuildOdd).odd();
const EVEN: Want = want(Writer, RebuildEven).on(WRITER_CPU).past(0);
const RAISED: Want = want(Writer, IrqRaised).on(WRITER_CPU);

/// A step of the interrupt's handler on the writer's CPU.
const fn irq(point: LabPoint) -> Want {
    want(Reader, point)
        .on(WRITER_CPU)
        .within(LabContext::Interrupt)
}

/// A step of the NMI's handler on the writer's CPU.
const fn nmi(point: LabPoint) -> Want {
    want(Reader, point).on(WRITER_CPU).within(LabContext::Nmi)
}

/// The handler's request passes its last check inside the rebuild.
macro_rules! passes {
    ($handler:ident, [$($begin:expr),+], $over:expr) => {
        &[
            ODD,
            $($begin,)+
            $handler(SlowBegin).past(0),
            $handler(SlowCheckNopage).past(0),
            $handler(Failed).says(0),
            $handler($over),
            EVEN,
        ]
    };
}

/// What a reader does for as long as the counter is odd: it waits, or goes round.
macro_rules! fails {
    ($handler:ident, [$($begin:expr),+], $over:expr) => {
        &[
            Window {
                steps: &[
                    ODD,
                    $($begin,)+
                    $handler(Spins).past(0),
                    want(Watchdog, Hang).says(WRITER_CPU as u64),
                    want(Watchdog, WaitsFor),
                    $handler(GaveUp),
                    $handler($over),
                    EVEN,
                ],
                means: "waits",
            },
            Window {
                steps: &[
                    ODD,
                    $($begin,)+
                    $handler(SlowBegin).past(0),
                    $handler(SlowCheckNopage).past(0),
                    $handler(SlowBegin).past(0),
                    $handler(GoesRound),
                    want(Watchdog, WaitsFor),
                    $handler(Got),
                    $handler($over),
                    EVEN,
                ],
                means: "goes round for as long as the counter is odd",
            },
        ]
    };
}

const IRQ_HOLDS: &[Window] = &[
    Window {
        steps: passes!(irq, [RAISED.says(1), irq(IrqTaken)], IrqOver),
        means: "the handler's request passes its last check inside the rebuild",
    },
    Window {
        steps: &[
            ODD,
            RAISED.says(0),
            want(Writer, IrqPending).on(WRITER_CPU),
            EVEN,
            irq(IrqTaken),
            // Of `snapshot`'s observers the counter may still be odd: it is the order that says
            // "after".
            irq(SlowBegin),
            irq(SlowCheckNopage),
            irq(Failed).says(0),
        ],
        means: "interrupts are off: this one stays pending until the rebuild is over",
    },
];
const IRQ_FAILS: &[Window] = fails!(irq, [RAISED.says(1), irq(IrqTaken)], IrqOver);
const NMI_HOLDS: &[Window] = &[Window {
    steps: passes!(nmi, [nmi(NmiTaken)], NmiOver),
    means: "the NMI handler's request passes its last check inside the rebuild",
}];
const NMI_FAILS: &[Window] = fails!(nmi, [nmi(NmiTaken)], NmiOver);

/// The writer of H2, H2-NMI, H3 and H5: a rebuild although no zone came or went.
pub(super) fn rebuild(task: &Task, _: usize) {
    stage::play_as(Writer);
    stage::step(Start, 0);
    mm::frames().rebuild(task);
    stage::step(End, 0);
}

/// Runs H2.
pub(super) fn by_irq(task: &Task) -> Result<Finding, Obstacle> {
    run(task, &BY_IRQ, IRQ_HOLDS, IRQ_FAILS)
}

/// Runs H2-NMI.
pub(super) fn by_nmi(task: &Task) -> Result<Finding, Obstacle> {
    run(task, &BY_NMI, NMI_HOLDS, NMI_FAILS)
}

fn run(
    task: &Task,
    rules: &'static &'static [Rule],
    holds: &'static [Window],
    fails: &'static [Window],
) -> Result<Finding, Obstacle> {
    play::squeeze(task, Level::Empty, 1)?;
    play::handlers_make(Kind::Atomic);
    let open = stage::Stage::open(rules, 0);
    let threads = [play::cast("lab-writer", WRITER, rebuild, 0)?];
    play::wait_for(task, &threads)?;
    drop(open);
    Ok(judge::of_waits(holds, fails))
}
