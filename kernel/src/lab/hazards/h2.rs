//! H2: same-CPU livelock.
//!
//! The writer has made the counter odd; an interrupt arrives on its CPU, and the handler's atomic
//! request reaches the slow path. A reader that waits for "even" waits for what it has interrupted.
//!
//! Where the writer has interrupts off, the interrupt stays pending and is taken after "even": that is the
//! protection. Readers that never wait are sent an NMI as well, which nothing keeps out; what it does to those that
//! wait is a column of its own (`h2_nmi`).

use super::super::{
    Finding, hang, how, not_reached,
    play::{self, Level, Obstacle},
    schedule::{Action, Place, Rule},
    shows, stage,
};
use super::WRITER;
use crate::arch::context::Task;
use crate::mm;
use tidemark_wire::{
    LabPoint::{
        End, Got, Hang, IrqPending, IrqTaken, NmiOver, NmiTaken, RebuildEven, RebuildOdd,
        SlowBegin, Spins, Start,
    },
    LabVerdict,
    Role::{Reader, Watchdog, Writer},
};

static INTERRUPT: &[Rule] = &[Rule::first(Writer, RebuildOdd, Action::Interrupt)];
static INTERRUPT_AND_NMI: &[Rule] = &[
    Rule::first(Writer, RebuildOdd, Action::Interrupt),
    Rule::first(Writer, RebuildOdd, Action::Nmi),
];

/// The reader inside the window: its handler ran over the writer, between the two steps.
const INSIDE: &[Place] = &[
    (Writer, RebuildOdd),
    (Reader, IrqTaken),
    (Reader, SlowBegin),
    (Reader, Got),
    (Writer, RebuildEven),
];
/// The reader kept out: its interrupt was pending at the writer's CPU between the two steps.
const KEPT_OUT: &[Place] = &[
    (Writer, RebuildOdd),
    (Writer, IrqPending),
    (Writer, RebuildEven),
    (Reader, IrqTaken),
    (Reader, SlowBegin),
    (Reader, Got),
];
/// The reader inside the window: an NMI's handler ran over the writer, between the two steps.
pub(super) const INSIDE_BY_NMI: &[Place] = &[
    (Writer, RebuildOdd),
    (Reader, NmiTaken),
    (Reader, SlowBegin),
    (Reader, Got),
    (Reader, NmiOver),
    (Writer, RebuildEven),
];
const HUNG: &[Place] = &[
    (Writer, RebuildOdd),
    (Reader, IrqTaken),
    (Reader, Spins),
    (Watchdog, Hang),
];

pub(super) fn writer(task: &Task, _: usize) {
    stage::play_as(Writer);
    stage::step(Start, 0);
    mm::frames().rebuild(task);
    stage::step(End, 0);
}

pub(super) fn run(task: &Task) -> Result<Finding, Obstacle> {
    let waits = mm::frames().variant().every_reader_waits();
    play::squeeze(task, Level::BetweenMinAndLow, 0)?;
    let rules = if waits {
        &INTERRUPT
    } else {
        &INTERRUPT_AND_NMI
    };
    let open = stage::Stage::open(rules);
    let threads = [play::cast("lab-writer", WRITER, writer, 0)?];
    play::wait_for(task, &threads)?;
    drop(open);
    if let Some(how) = hang() {
        return Ok(match shows(0, &[HUNG]) {
            Ok(()) => (LabVerdict::Fails, how),
            Err(place) => not_reached(place),
        });
    }
    if let Err(place) = shows(0, &[INSIDE, KEPT_OUT]) {
        return Ok(not_reached(place));
    }
    let kept_out = shows(0, &[KEPT_OUT]).is_ok();
    let interrupt = if kept_out {
        "the interrupt stays pending until the rebuild is over"
    } else {
        "the handler's request ends inside the rebuild"
    };
    if waits {
        return Ok((LabVerdict::Holds, how!("{interrupt}")));
    }
    Ok(match shows(0, &[INSIDE_BY_NMI]) {
        Ok(()) => (
            LabVerdict::Holds,
            how!("{interrupt}; the NMI handler's ends inside it"),
        ),
        Err(place) => not_reached(place),
    })
}
