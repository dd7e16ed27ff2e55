//! H2-NMI: same-CPU livelock by an NMI. Not in the specification; found by the demonstration.
//!
//! As H2, but what interrupts the writer is an NMI, whose handler makes an atomic request. Interrupts off do not keep
//! it out: a reader that waits for "even" waits for what it has interrupted, whatever the writer does.
//!
//! Nor does an NMI reach a CPU that is inside an NMI's handler: the watchdog gets no answer, and the wait is told to
//! say itself where it is.

use super::super::{
    Finding, hang, how, not_reached,
    play::{self, Level, Obstacle},
    schedule::{Action, Place, Rule},
    shows, stage,
};
use super::{WRITER, h2};
use crate::arch::context::Task;
use tidemark_wire::{
    LabPoint::{GaveUp, Hang, NmiOver, NmiTaken, RebuildEven, RebuildOdd, SlowBegin, Spins},
    LabVerdict,
    Role::{Reader, Watchdog, Writer},
};

static RULES: &[Rule] = &[Rule::first(Writer, RebuildOdd, Action::Nmi)];

const HUNG: &[Place] = &[
    (Writer, RebuildOdd),
    (Reader, NmiTaken),
    (Reader, Spins),
    (Watchdog, Hang),
    (Reader, GaveUp),
    (Reader, SlowBegin),
    (Reader, NmiOver),
    (Writer, RebuildEven),
];

pub(super) fn run(task: &Task) -> Result<Finding, Obstacle> {
    play::squeeze(task, Level::BetweenMinAndLow, 0)?;
    let open = stage::Stage::open(&RULES);
    let threads = [play::cast("lab-writer", WRITER, h2::writer, 0)?];
    play::wait_for(task, &threads)?;
    drop(open);
    if let Some(how) = hang() {
        return Ok(match shows(0, &[HUNG]) {
            Ok(()) => (LabVerdict::Fails, how),
            Err(place) => not_reached(place),
        });
    }
    Ok(match shows(0, &[h2::INSIDE_BY_NMI]) {
        Ok(()) => (
            LabVerdict::Holds,
            how!("the NMI handler's request ends inside the rebuild"),
        ),
        Err(place) => not_reached(place),
    })
}
