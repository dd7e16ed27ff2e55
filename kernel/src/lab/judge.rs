//! Judges the trace: which window it shows, and whether a party waits or goes round for ever.

use super::schedule::{self, Want};
use super::stage::{ROUNDS, TRACE};
use super::{Finding, How, how, waits};
use crate::watchdog::{self, Function};
use core::fmt::Write;
use tidemark_wire::{AtCounter, EntryRead, LabContext, LabPoint, LabStep, LabVerdict, Role};

/// A window, and its meaning in words.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The steps, in their order.
    pub steps: &'static [Want],
    /// What happened in a run that shows them.
    pub means: &'static str,
}

/// Returns the trace from step `from` on.
pub fn steps(from: u32) -> impl Iterator<Item = LabStep> {
    TRACE.steps().skip(from as usize)
}

/// Checks that the trace from step `from` on shows a window.
///
/// # Errors
///
/// Returns the first step that it lacks.
pub fn shows(from: u32, window: &[Want]) -> Result<(), Want> {
    schedule::missing(steps(from), window).map_or(Ok(()), Err)
}

/// Returns the finding of a run whose trace does not show the window.
pub fn not_reached(lacks: Want) -> Finding {
    (LabVerdict::NotReached, how!("the trace lacks {lacks}"))
}

/// Returns the first of these windows that the trace from step `from` on shows. If it shows none,
/// returns the missing step of the window that it shows most of.
fn first_shown(from: u32, windows: &'static [Window]) -> Result<&'static Window, Want> {
    let mut lacks: Option<(usize, Want)> = None;
    for window in windows {
        let Err(want) = shows(from, window.steps) else {
            return Ok(window);
        };
        let place = window.steps.iter().position(|step| *step == want);
        let place = place.unwrap_or(0);
        if lacks.is_none_or(|(known, _)| place > known) {
            lacks = Some((place, want));
        }
    }
    let nothing = schedule::want(Role::Watchdog, LabPoint::Act);
    Err(lacks.map_or(nothing, |(_, want)| want))
}

/// Returns the finding of a scenario in which a party may wait for ever. If parties do, the
/// scenario fails, provided that the trace shows one of the windows in `fails`. Otherwise it holds,
/// if the trace shows one of those in `holds`.
pub fn of_waits(holds: &'static [Window], fails: &'static [Window]) -> Finding {
    if waits::cycle().is_none() {
        return match first_shown(0, holds) {
            Ok(window) => (LabVerdict::Holds, how!("{}", window.means)),
            Err(lacks) => not_reached(lacks),
        };
    }
    match first_shown(0, fails) {
        Ok(window) => (LabVerdict::Fails, where_they_hang(window.means)),
        Err(lacks) => not_reached(lacks),
    }
}

/// Returns, in words, where the CPUs of the cycle are.
fn where_they_hang(means: &str) -> How {
    let mut how = how!("{means}");
    for (number, (cpu, found)) in watchdog::hung().enumerate() {
        let comma = if number == 0 { ": hang of" } else { "," };
        // The text cuts what does not fit and never fails.
        let _ = write!(how, "{comma} cpu{cpu} in {}", Function(found));
        if found.context() == LabContext::Nmi {
            let _ = how.write_str(", in an NMI handler");
        }
    }
    how
}

/// Returns the number of the reader's rounds from step `from` on, at `retry`, in which a fresh walk
/// would have served it.
pub fn rounds_in_vain(from: u32) -> usize {
    steps(from)
        .filter(|step| (step.role, step.point) == (Role::Reader, LabPoint::SlowRetry))
        .filter(|step| AtCounter::unpack(step.detail).serves)
        .count()
}

/// Returns the finding of a request that goes round, in any scenario; nothing if none does.
pub fn goes_round(from: u32) -> Option<Finding> {
    let rounds = rounds_in_vain(from);
    (rounds > ROUNDS as usize).then(|| {
        (
            LabVerdict::Fails,
            how!("endless retry: {rounds} rounds from a stale start, a fresh walk finds memory"),
        )
    })
}

/// Returns whether the reader declared OOM from step `from` on while memory was free for it.
pub fn premature_oom(from: u32) -> bool {
    steps(from).any(|step| (step.point, step.detail) == (LabPoint::OomDeclared, 1))
}

/// Returns the entries that the reader read from step `from` on, as far as they were written down.
pub fn entries_read(from: u32) -> impl Iterator<Item = EntryRead> {
    steps(from)
        .filter(|step| (step.role, step.point) == (Role::Reader, LabPoint::EntryRead))
        .map(|step| EntryRead::unpack(step.detail))
}
