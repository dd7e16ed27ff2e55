//! H3: ABBA through the console.
//!
//! CPU0 takes a byte from COM1 under the port's lock and has a buffer allocated for it: an atomic request, which may
//! wait for an even counter. CPU1 has made the counter odd and prints: it may wait for the port's lock.

use super::super::{
    Finding, hang, how, not_reached,
    play::{self, Level, Obstacle},
    schedule::{Action, Place, Rule},
    shows, stage,
};
use super::WRITER;
use crate::arch::context::Task;
use crate::arch::time;
use crate::console::{self, Share};
use crate::{link, mm, thread};
use tidemark_wire::{
    Ask,
    LabPoint::{
        End, Got, Hang, PortFreed, PortLocked, PortWanted, Print, PrintStored, RebuildEven,
        RebuildOdd, SlowBegin, Spins, Start,
    },
    LabVerdict,
    Role::{Reader, Watchdog, Writer},
};

static RULES: &[Rule] = &[
    Rule::first(Writer, RebuildOdd, Action::Hold(&[(Reader, PortLocked)])),
    Rule::first(Writer, RebuildOdd, Action::Print),
    // A print that was stored does not keep the writer: it stays odd until the reader has met it.
    Rule::first(
        Writer,
        RebuildOdd,
        Action::Hold(&[(Reader, Spins), (Reader, SlowBegin)]),
    ),
    Rule::first(
        Reader,
        PortLocked,
        Action::Hold(&[(Writer, PortWanted), (Writer, PrintStored)]),
    ),
];

/// Reader: holds the port's lock and meets the counter. Writer: holds the counter and prints.
const WAITS_AND_STORES: &[Place] = &[
    (Writer, RebuildOdd),
    (Reader, PortLocked),
    (Writer, Print),
    (Writer, PrintStored),
    (Reader, Spins),
    (Writer, RebuildEven),
    (Reader, Got),
    (Reader, PortFreed),
];
const PRINTS: &[Place] = &[
    (Writer, RebuildOdd),
    (Reader, PortLocked),
    (Writer, Print),
    (Writer, PortWanted),
    (Reader, SlowBegin),
    (Reader, Got),
    (Reader, PortFreed),
    (Writer, PortLocked),
    (Writer, RebuildEven),
];
const HUNG: &[Place] = &[
    (Writer, RebuildOdd),
    (Reader, PortLocked),
    (Writer, Print),
    (Writer, PortWanted),
    (Reader, Spins),
    (Watchdog, Hang),
];

fn writer(task: &Task, _: usize) {
    stage::play_as(Writer);
    stage::step(Start, 0);
    mm::frames().rebuild(task);
    stage::step(End, 0);
}

pub(super) fn run(task: &Task) -> Result<Finding, Obstacle> {
    play::squeeze(task, Level::BetweenMinAndLow, 0)?;
    console::flush(Share::All);
    let open = stage::Stage::open(&RULES);
    play::expect_byte();
    let threads = [play::cast("lab-writer", WRITER, writer, 0)?];
    let deadline = time::now_ns() + play::DEADLINE_NS;
    while stage::count((Writer, RebuildOdd)) == 0 && time::now_ns() < deadline {
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
    if let Some(how) = hang() {
        return Ok(match shows(0, &[HUNG]) {
            Ok(()) => (LabVerdict::Fails, how),
            Err(place) => not_reached(place),
        });
    }
    if let Err(place) = shows(0, &[WAITS_AND_STORES, PRINTS]) {
        return Ok(not_reached(place));
    }
    let how = if shows(0, &[PRINTS]).is_ok() {
        how!("the reader does not wait; the print waits for the port until it is done")
    } else {
        how!("the reader waits, the print is stored for later")
    };
    Ok((LabVerdict::Holds, how))
}
