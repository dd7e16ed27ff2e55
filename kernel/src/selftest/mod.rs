//! The self-tests' harness: groups of tests, run in a task, reported as KTAP on the console.

use crate::arch::context::Task;
use core::fmt;

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
#[derive(Clone, Copy)]
pub struct Test {
    /// Its name: words joined by `_`, no `#`.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&Task, &mut Report) -> Outcome,
}

/// Tests that belong together: one KTAP subtest.
#[derive(Clone, Copy)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// Its tests, in the order in which they run.
    pub tests: &'static [Test],
}

/// Takes a test's diagnostic lines.
#[derive(Debug)]
pub struct Report {
    _private: (),
}

impl Report {
    /// Adds diagnostic lines, shown as `# …` before the test's result.
    pub fn note(&mut self, text: fmt::Arguments<'_>) {
        let _ = text;
        todo!()
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

/// What checks the whole system after every test; its error makes the test fail.
pub type Validate = fn(&Task, &mut Report) -> Result<(), ()>;

/// Runs the tests whose `group/test` contains `pattern` and prints KTAP; returns the counts.
pub fn run_all(task: &Task, groups: &[Group], pattern: &str, validate: Validate) -> Summary {
    let _ = (task, groups, pattern, validate);
    todo!()
}
