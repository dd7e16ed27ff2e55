//! Judges a run: turns facts into a verdict.

use tidemark_wire::{PROTOCOL_VERSION, Pressure, Source, SourceCounts, Totals, exit_value};

use crate::guest::record::{Ended, Record};
use crate::judge::promise::{self, Promise};
use crate::terminal::console::split_stamp;
use crate::terminal::exit::{EXIT_INTERRUPTED, EXIT_USAGE};
use crate::terminal::release::Zonelist;

/// Number of cycles from which the full numbers are expected.
const FULL_CYCLES: u64 = 10;
/// Slow-path entries expected of each interrupt source on every CPU, in a run of full length.
const FULL_SLOW_PATH: u64 = 1000;
/// Rebuilds expected of each cycle.
const REBUILDS_PER_CYCLE: u64 = 2;
/// At most one request in this many may fail because the kernel had announced that it makes memory
/// scarce. Such failures are those of tasks' requests for several frames at once.
const ANNOUNCED_ONE_IN: u64 = 100;
/// The interrupt sources that run on every CPU.
const ON_EVERY_CPU: [Source; 2] = [Source::Timer, Source::CallFunction];

/// The parameters of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    pub cycles: u32,
    pub dimms: u8,
    pub cpus: u16,
    pub zonelist: Zonelist,
    pub pressure: Pressure,
}

impl Expectation {
    /// Returns the number of slow-path entries that each source on every CPU must reach. Zones are
    /// held short only while lists are rebuilt.
    pub fn slow_path(&self) -> u64 {
        if self.dimms == 0 {
            0
        } else {
            FULL_SLOW_PATH * u64::from(self.cycles).min(FULL_CYCLES) / FULL_CYCLES
        }
    }

    /// Returns the number of rebuilds that the run must reach. Without a DIMM no zone empties.
    pub fn rebuilds(&self) -> u64 {
        if self.dimms == 0 {
            0
        } else {
            REBUILDS_PER_CYCLE * u64::from(self.cycles)
        }
    }

    /// Returns the protocol's promises, given what happened.
    pub fn promise(&self, totals: &Totals) -> Promise {
        let removals = totals.pulls_confirmed;
        promise::promise(
            self.zonelist.variant,
            self.pressure,
            removals,
            self.cpus.into(),
        )
    }

    /// Returns the number of removals that the run makes.
    pub fn pulls(&self) -> u64 {
        u64::from(self.cycles) * u64::from(self.dimms)
    }
}

/// The kind of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    /// Nothing went wrong, but what the run is meant to exercise did not happen.
    NotExercised,
    /// The loader or the kernel refused, or QEMU failed.
    Refused,
    Crashed,
    Hung,
    Interrupted,
}

impl Outcome {
    /// Returns the program's exit code.
    pub fn exit_code(self) -> i32 {
        match self {
            Outcome::Passed => 0,
            Outcome::Failed | Outcome::NotExercised => 1,
            Outcome::Refused => EXIT_USAGE,
            Outcome::Crashed => 3,
            Outcome::Hung => 4,
            Outcome::Interrupted => EXIT_INTERRUPTED,
        }
    }

    /// Returns the word used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::NotExercised => "not exercised",
            Outcome::Refused => "refused",
            Outcome::Crashed => "crashed",
            Outcome::Hung => "hung",
            Outcome::Interrupted => "interrupted",
        }
    }

    /// Returns the word that the summary begins with.
    pub fn heading(self) -> &'static str {
        match self {
            Outcome::Passed => "PASS",
            Outcome::Failed => "FAIL",
            Outcome::NotExercised => "not exercised",
            Outcome::Refused => "REFUSED",
            Outcome::Crashed => "CRASHED",
            Outcome::Hung => "HUNG",
            Outcome::Interrupted => "INTERRUPTED",
        }
    }
}

/// A verdict and its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub outcome: Outcome,
    /// The reasons, most important first; empty for a pass.
    pub reasons: Vec<String>,
}

impl Verdict {
    fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        Verdict {
            outcome,
            reasons: vec![reason.into()],
        }
    }
}

/// Returns the verdict on how a run ended, if that alone decides; `None` for an exit in order.
pub fn of_ending(record: &Record) -> Option<Verdict> {
    Some(match &record.ended {
        Ended::Exit(exit_value::PASSED | exit_value::FAILED) => return None,
        Ended::Exit(exit_value::CRASHED) => Verdict::new(
            Outcome::Crashed,
            match &record.panic {
                Some(words) => format!("the kernel panicked: {words}"),
                None => "the kernel panicked".to_owned(),
            },
        ),
        Ended::Exit(exit_value::REFUSED) => Verdict::new(
            Outcome::Refused,
            format!(
                "the kernel refuses its configuration: {}",
                last_line(record)
            ),
        ),
        Ended::Exit(exit_value::LOADER_REFUSED) => Verdict::new(
            Outcome::Refused,
            format!("the loader refuses the kernel image: {}", last_line(record)),
        ),
        Ended::Exit(value) => Verdict::new(
            Outcome::Crashed,
            format!("the guest exited with the unknown value {value:#x}"),
        ),
        Ended::Reset => Verdict::new(Outcome::Crashed, "triple fault: the machine was reset"),
        Ended::Hung(hang) => Verdict::new(Outcome::Hung, hang.to_string()),
        Ended::Qemu { how, words } => {
            let words = if words.is_empty() {
                "it said nothing".to_owned()
            } else {
                words.lines().collect::<Vec<_>>().join("; ")
            };
            Verdict::new(Outcome::Refused, format!("QEMU ended with {how}: {words}"))
        }
        Ended::Interrupted => Verdict::new(Outcome::Interrupted, "ended by the user"),
    })
}

fn last_line(record: &Record) -> &str {
    let last = record
        .tail
        .iter()
        .rev()
        .find(|line| !line.trim().is_empty());
    last.map_or("it did not say why", |line| {
        split_stamp(line).map_or(line.as_str(), |(_, text)| text)
    })
}

/// Judges a demonstration.
pub fn judge(expected: &Expectation, record: &Record) -> Verdict {
    if let Some(verdict) = of_ending(record) {
        return verdict;
    }
    let mut failures = Vec::new();
    match record.protocol {
        Some(PROTOCOL_VERSION) => {}
        Some(other) => failures.push(format!(
            "the guest speaks protocol {other}, the host {PROTOCOL_VERSION}"
        )),
        None => failures.push("the guest named no protocol: it never said hello".to_owned()),
    }
    if record.damaged_messages > 0 {
        failures.push(format!("{} damaged messages", record.damaged_messages));
    }
    match &record.totals {
        Some(totals) => {
            judge_totals(expected, totals, &mut failures);
            judge_promise(expected, record, totals, &mut failures);
            compare_counts(record, totals, &mut failures);
        }
        None => failures.push("the guest sent no totals".to_owned()),
    }
    let mut missing = Vec::new();
    for source in Source::ALL {
        match record.counts_of(source) {
            Some(counts) => judge_source(source, counts, &mut failures),
            None => missing.push(source.name()),
        }
    }
    if !missing.is_empty() {
        failures.push(format!(
            "the guest sent no counts for {}",
            missing.join(", ")
        ));
    }
    for source in ON_EVERY_CPU {
        let entries = record.counts_of(source).map_or(0, |c| c.slow_path);
        if entries < expected.slow_path() {
            failures.push(format!(
                "{} entered the slow path {entries} times, not {}",
                source.name(),
                expected.slow_path()
            ));
        }
    }
    if let Some(totals) = &record.totals {
        compare_verdicts(record, totals, &mut failures);
    }
    if !failures.is_empty() {
        return Verdict {
            outcome: Outcome::Failed,
            reasons: failures,
        };
    }
    let overlapped: u64 = record.counts.iter().flatten().map(|c| c.overlapped).sum();
    if overlapped == 0 {
        let why = if expected.dimms == 0 {
            "this machine has no DIMM to pull, so nothing was rebuilt under a walk"
        } else {
            "no walk overlapped a rebuild, but for those that were held over one"
        };
        return Verdict::new(Outcome::NotExercised, why);
    }
    Verdict {
        outcome: Outcome::Passed,
        reasons: Vec::new(),
    }
}

fn judge_totals(expected: &Expectation, totals: &Totals, failures: &mut Vec<String>) {
    let mut fail = |wrong: bool, words: String| {
        if wrong {
            failures.push(words);
        }
    };
    let lost = totals.frames_lost;
    fail(lost > 0, format!("{lost} frames lost"));
    let corrupted = totals.pages_corrupted;
    fail(corrupted > 0, format!("{corrupted} pages corrupted"));
    let on = totals.rebuilds_with_interrupts_on;
    fail(
        on > 0,
        format!("{on} looks during a rebuild found interrupts on"),
    );
    fail(
        !totals.validate_ok,
        "validate() found an inconsistency".to_owned(),
    );
    fail(
        totals.cycles < expected.cycles,
        format!("{} cycles, not {}", totals.cycles, expected.cycles),
    );
    fail(
        totals.rebuilds < expected.rebuilds(),
        format!("{} rebuilds, not {}", totals.rebuilds, expected.rebuilds()),
    );
    fail(
        totals.pulls < expected.pulls(),
        format!("{} pulls, not {}", totals.pulls, expected.pulls()),
    );
    fail(
        totals.pulls_confirmed != totals.pulls,
        format!(
            "{} pulls, {} confirmed by DEVICE_DELETED",
            totals.pulls, totals.pulls_confirmed
        ),
    );
}

/// Checks that host and guest agree about what both counted.
fn compare_counts(record: &Record, totals: &Totals, failures: &mut Vec<String>) {
    let host = &record.host;
    for (what, guest, host) in [
        ("pulls", totals.pulls, host.pulls),
        (
            "DEVICE_DELETED",
            totals.pulls_confirmed,
            host.device_deleted,
        ),
        ("plugs", totals.plugs, host.plugs),
        (
            "OST events of inserted DIMMs",
            totals.plugs,
            host.ost_inserted,
        ),
        (
            "OST events of ejected DIMMs",
            totals.pulls_confirmed,
            host.ost_ejecting,
        ),
        ("exits of the guest", 1, host.guest_exits),
    ] {
        if guest != host {
            failures.push(format!(
                "guest and host disagree on {what}: {guest} and {host}"
            ));
        }
    }
}

/// Checks that the guest's two reports of its own verdict agree.
fn compare_verdicts(record: &Record, totals: &Totals, failures: &mut Vec<String>) {
    let said = record.ended == Ended::Exit(exit_value::PASSED);
    if said != totals.passed {
        failures.push("the guest's exit value contradicts its totals".to_owned());
    } else if !said {
        failures.push("the guest's own verdict is a failure".to_owned());
    }
}

/// Checks that the protocol's promises were kept.
fn judge_promise(
    expected: &Expectation,
    record: &Record,
    totals: &Totals,
    failures: &mut Vec<String>,
) {
    let (promise, paid) = (expected.promise(totals), promise::paid(record));
    let name = expected.zonelist.variant.name();
    for (bound, found, whose) in [
        (promise.tasks, paid.tasks, "tasks' requests"),
        (promise.handlers, paid.handlers, "handlers' requests"),
        (
            promise.held,
            totals.probes_failed,
            "requests held over a rebuild",
        ),
    ] {
        if let Some(most) = bound.number()
            && bound.is_broken_by(found)
        {
            failures.push(format!(
                "{found} {whose} failed although a fresh walk served them; {name} promises {most} at most"
            ));
        }
    }
}

/// Returns the number of failures that neither a rebuild nor announced pressure explains.
pub fn unexplained(counts: &SourceCounts) -> u64 {
    counts
        .failures
        .saturating_sub(counts.failures_overlapping_rebuild)
        .saturating_sub(counts.failures_under_announced_pressure)
}

fn judge_source(source: Source, counts: &SourceCounts, failures: &mut Vec<String>) {
    let bad = unexplained(counts);
    if bad > 0 {
        let what = if source == Source::Task {
            "failed requests of tasks".to_owned()
        } else {
            format!("atomic failures in {}", source.name())
        };
        failures.push(format!(
            "{bad} {what} outside a rebuild and announced pressure"
        ));
    }
    let short = counts
        .failures_overlapping_rebuild
        .saturating_sub(counts.failures_fresh_walk_serves);
    if short > 0 {
        failures.push(format!(
            "{short} requests in {} failed over a rebuild, and so did a second one",
            source.name()
        ));
    }
    let (announced, most) = (
        counts.failures_under_announced_pressure,
        counts.requests / ANNOUNCED_ONE_IN,
    );
    if announced > most {
        failures.push(format!(
            "{announced} requests in {} failed under announced pressure, more than one in {ANNOUNCED_ONE_IN}",
            source.name()
        ));
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
pub(crate) mod tests;
