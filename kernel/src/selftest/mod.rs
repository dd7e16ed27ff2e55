//! The self-tests' harness: groups of tests, run in a task, reported as KTAP on the console.
//!
//! Nothing is caught: a test that panics ends the run as a crash, and a log that stops short is a
//! failure.

mod ktap;

use crate::arch::context::Task;
use crate::console;
use core::fmt;
use ktap::{Ktap, Sink, Verdict};

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What it checks holds.
    Pass,
    /// It does not; the report's lines say what.
    Fail,
    /// This machine cannot show it; the reason.
    Skip(&'static str),
}

/// One test.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// Its name: words joined by `_`, no `#`.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&Task, &mut Report) -> Outcome,
}

/// Tests that belong together: one KTAP subtest.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// Its tests, in the order in which they run.
    pub tests: &'static [Test],
}

/// Takes a test's diagnostic lines; they appear as `# …` before its result.
#[derive(Debug)]
pub struct Report<'t> {
    task: &'t Task,
}

impl Report<'_> {
    /// Adds diagnostic lines.
    pub fn note(&mut self, text: fmt::Arguments<'_>) {
        ktap::note(&mut Console(self.task), text);
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Tests that passed.
    pub ok: u32,
    /// Tests that failed.
    pub not_ok: u32,
    /// Tests that this machine cannot show.
    pub skipped: u32,
}

/// What checks the whole system after every test; its error makes the test fail, its notes say why.
pub type Validate = fn(&Task, &mut Report) -> Result<(), ()>;

/// Runs the tests whose `group/test` contains `pattern` and prints KTAP; returns the counts.
pub fn run_all(task: &Task, groups: &[Group], pattern: &str, validate: Validate) -> Summary {
    let chosen = |group: &Group, test: &Test| matches(group.name, test.name, pattern);
    let count = |group: &Group| {
        group
            .tests
            .iter()
            .filter(|test| chosen(group, test))
            .count()
    };
    let mut sink = Console(task);
    let chosen_groups = groups.iter().filter(|group| count(group) > 0);
    let mut top = Ktap::begin(&mut sink, chosen_groups.clone().count());
    for group in chosen_groups {
        let mut tests = top.subtest(group.name, count(group));
        for test in group.tests.iter().filter(|test| chosen(group, test)) {
            let verdict = run_one(task, test, validate);
            tests.result(test.name, verdict);
        }
        tests.end();
    }
    top.summary()
}

fn run_one(task: &Task, test: &Test, validate: Validate) -> Verdict {
    let mut report = Report { task };
    let outcome = (test.run)(task, &mut report);
    // A skipped test, too, may have changed something before it saw that it cannot go on.
    if validate(task, &mut report).is_err() {
        report.note(format_args!("the system is inconsistent after this test"));
        return Verdict::NotOk;
    }
    match outcome {
        Outcome::Pass => Verdict::Ok,
        Outcome::Fail => Verdict::NotOk,
        Outcome::Skip(reason) => Verdict::Skip(reason),
    }
}

/// Whether `group/test` contains `pattern`.
fn matches(group: &str, test: &str, pattern: &str) -> bool {
    if group.contains(pattern) || test.contains(pattern) {
        return true;
    }
    pattern
        .match_indices('/')
        .any(|(at, _)| group.ends_with(&pattern[..at]) && test.starts_with(&pattern[at + 1..]))
}

/// Whole lines, without a time stamp, none lost.
struct Console<'t>(&'t Task);

impl Sink for Console<'_> {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        console::plain(self.0, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_across_group_and_test() {
        assert!(matches("zone", "marks_hold", ""));
        assert!(matches("zone", "marks_hold", "zone"));
        assert!(matches("zone", "marks_hold", "marks"));
        assert!(matches("zone", "marks_hold", "one/mar"));
        assert!(matches("zone", "marks_hold", "zone/marks_hold"));
        assert!(matches("zone", "marks_hold", "/"));
        assert!(!matches("zone", "marks_hold", "zone/hold"));
        assert!(!matches("zone", "marks_hold", "on/marks"));
        assert!(!matches("zone", "marks_hold", "zones"));
    }
}
