//! The harness of the self-tests: groups of tests, run in a task, reported as KTAP on the console.
//!
//! No panic is caught: a test that panics ends the run as a crash, and a log that stops short is a
//! failure.

mod ktap;

use crate::arch::context::Task;
use crate::console;
use core::fmt;
use ktap::{Ktap, Sink, Verdict};

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The property that it checks holds.
    Pass,
    /// The property does not hold; the report's lines give details.
    Fail,
    /// This machine cannot show the property, for this reason.
    Skip(&'static str),
}

/// A test.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// Its name: words joined by `_`, no `#`.
    pub name: &'static str,
    /// The function that performs it.
    pub run: fn(&Task, &mut Report) -> Outcome,
}

/// Tests that belong together. They form one KTAP subtest.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// Its tests, in the order in which they run.
    pub tests: &'static [Test],
}

/// A receiver of a test's diagnostic lines, which appear as `# …` before its result.
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

/// The counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Tests that passed.
    pub ok: u32,
    /// Tests that failed.
    pub not_ok: u32,
    /// Tests that this machine could not perform.
    pub skipped: u32,
}

/// A function that checks the whole system after every test. Its error makes the test fail; its
/// notes give the reason.
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
    // A skipped test may also have changed something before it found that it cannot go on.
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

/// Returns whether `group/test` contains `pattern`.
fn matches(group: &str, test: &str, pattern: &str) -> bool {
    if group.contains(pattern) || test.contains(pattern) {
        return true;
    }
    pattern
        .match_indices('/')
        .any(|(at, _)| group.ends_with(&pattern[..at]) && test.starts_with(&pattern[at + 1..]))
}

/// Prints whole lines without time stamps, and loses none.
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
