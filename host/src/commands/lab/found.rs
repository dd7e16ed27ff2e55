//! Judges a guest's run of a cell.

use std::time::Duration;

use serde_json::{Value, json};
use tidemark_frames::Mistake;
use tidemark_wire::{LabResult, LabStep, LabVerdict};

use super::cells::Cell;
use super::expected::{self, scope};
use super::values;
use crate::guest::record::Record;
use crate::judge::verdict;
use crate::judge::words::words;
use crate::terminal::exit::EXIT_INTERRUPTED;
use crate::terminal::interrupt;

/// The result of a cell.
#[derive(Clone, Debug)]
pub struct Found {
    pub cell: Cell,
    pub verdict: LabVerdict,
    pub how: String,
    /// What is wrong with the run beside its verdict, if anything.
    pub trouble: Option<String>,
    pub steps: Vec<LabStep>,
    pub dropped: u32,
    pub wall: Duration,
    pub log: Vec<String>,
}

impl Found {
    /// Judges a guest's run.
    pub fn of(cell: Cell, record: Record, log: Vec<String>) -> Self {
        let ending = verdict::of_ending(&record).map(|verdict| verdict.reasons.join("; "));
        let wall = record.wall;
        let steps = record.lab_steps;
        let result = record.lab.filter(|result| result.hazard == cell.hazard);
        let Some(LabResult {
            verdict,
            how,
            sound,
            dropped,
            ..
        }) = result
        else {
            let how = ending.unwrap_or_else(|| "the guest ended without a result".to_owned());
            return Found {
                cell,
                verdict: LabVerdict::NotReached,
                how,
                trouble: None,
                steps,
                dropped: 0,
                wall,
                log,
            };
        };
        let trouble = if sound {
            ending
        } else {
            Some("validate() found the allocator out of order afterwards".to_owned())
        };
        Found {
            cell,
            verdict,
            how: how.as_str().to_owned(),
            trouble,
            steps,
            dropped,
            wall,
            log,
        }
    }

    /// Returns whether the verdict is what the matrix expects, from a guest that ended consistent.
    pub fn is_expected(&self) -> bool {
        Some(self.verdict) == self.cell.expected() && self.trouble.is_none()
    }

    pub fn json(&self, cpus: u16) -> Value {
        let specified = expected::specified(self.cell.variant, self.cell.hazard);
        json!({
            "variant": self.cell.variant.name(),
            "hazard": self.cell.hazard.name(),
            "verdict": words(self.verdict),
            "scope": scope(self.verdict),
            "expected": self.cell.expected().map(words),
            "specified": specified.map(words),
            "as_expected": self.is_expected(),
            "how": self.how,
            "wait_for": values::wait_for(&self.steps),
            "mistake": self.cell.mistake.map(Mistake::name),
            "trouble": self.trouble,
            "command": self.cell.command(cpus),
            "steps": self.steps.len(),
            "steps_dropped": self.dropped,
            "seconds": self.wall.as_secs_f64(),
        })
    }
}

/// Returns 0 if every cell that was asked for was run and is as expected.
pub fn exit_code(cells: &[Cell], found: &[Found]) -> i32 {
    if interrupt::requested() {
        return EXIT_INTERRUPTED;
    }
    let all_expected = found.iter().all(Found::is_expected);
    i32::from(cells.is_empty() || found.len() < cells.len() || !all_expected)
}

#[cfg(test)]
#[path = "found_tests.rs"]
mod tests;
