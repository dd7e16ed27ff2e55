//! Counts results of tests.

/// The counts of results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub ok: u64,
    pub not_ok: u64,
    pub skipped: u64,
    /// The problems, a line for each.
    pub problems: Vec<String>,
}

impl Tally {
    /// Returns the tally of one test that passed, or failed for this reason.
    pub fn one(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Tally {
                ok: 1,
                ..Tally::default()
            },
            Err(problem) => Tally {
                not_ok: 1,
                problems: vec![problem],
                ..Tally::default()
            },
        }
    }

    /// Adds another tally.
    pub fn add(&mut self, other: &Tally) {
        self.ok += other.ok;
        self.not_ok += other.not_ok;
        self.skipped += other.skipped;
        self.problems.extend(other.problems.iter().cloned());
    }
}
