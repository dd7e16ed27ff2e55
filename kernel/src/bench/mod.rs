//! The cost of the allocator in guest instructions: `mode=bench`.
//!
//! The host runs it with `-icount shift=0,sleep=off` on one CPU, where the TSC counts instructions.
//! Elsewhere the numbers are time-stamp ticks. docs/bench.md documents each row.

mod measure;
mod mix;
mod rebuild;
mod rows;

use crate::arch::context::Task;
use crate::{link, mm, warn};
use core::fmt;
use measure::{Arena, Disturbed, Spread};
use tidemark_wire::{BenchRow, ToHost};

/// The result of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every row was measured undisturbed, and the allocator's records are consistent.
    Complete,
    /// Some row was not measured, or the records are not consistent. The log says which.
    Incomplete,
}

/// The reason why a row has no number.
#[derive(Clone, Copy)]
enum Missing {
    /// An interrupt came into the measured stretch.
    Disturbed(Disturbed),
    /// The machine lacks this, which the row needs.
    NotHere(&'static str),
}

impl From<Disturbed> for Missing {
    fn from(disturbed: Disturbed) -> Self {
        Missing::Disturbed(disturbed)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Disturbed(by) => write!(f, "{} interrupts came into it", by.interrupts),
            Missing::NotHere(what) => write!(f, "the machine lacks {what}"),
        }
    }
}

/// Measures every row and sends it to the host.
pub fn run(task: &Task) -> Verdict {
    mm::quiet(task);
    let Some(mut arena) = Arena::new(task) else {
        warn!("bench: no memory for the samples");
        return Verdict::Incomplete;
    };
    let mut verdict = Verdict::Complete;
    let mut tell = |row: BenchRow, measured: Result<Spread, Missing>| match measured {
        Ok(spread) => link::send(task, &ToHost::Bench(spread.result(row))),
        Err(why) => {
            warn!("bench: {row:?} was not measured: {why}");
            verdict = Verdict::Incomplete;
        }
    };
    if crate::options::get().pattern.as_str() == "rebuild" {
        rebuild::rows(task, &mut arena, &mut tell);
    } else {
        rows::all(task, &mut arena, &mut tell);
    }
    if let Err(unsound) = mm::oracle::recount(task) {
        warn!("bench: {unsound}");
        verdict = Verdict::Incomplete;
    }
    verdict
}
