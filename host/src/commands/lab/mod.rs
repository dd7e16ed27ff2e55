//! `tidemark lab`: what each zonelist protocol does at each hazard.
//!
//! One fresh guest a cell, two at a time where two cores allow.

mod columns;
mod describe;
mod expected;
mod explain;
mod planted;
mod printing;
mod running;
mod selftest;
mod steps;
mod values;

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};
use tidemark_wire::{Hazard, LabResult, LabStep, LabVerdict};

use crate::guest::build;
use crate::guest::qemu;
use crate::guest::record::Record;
use crate::judge::json;
use crate::judge::verdict;
use crate::terminal::cli::{LabArgs, Mistake, Zonelist, name_of};
use crate::terminal::console::Console;
use crate::terminal::exit::EXIT_INTERRUPTED;
use crate::terminal::interrupt;
use expected::{scope, words};
pub use explain::{explained, fails};
pub use selftest::{full_test, self_test};

/// Version of the JSON's layout.
const SCHEMA: u32 = 1;

/// A cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    variant: Zonelist,
    hazard: Hazard,
    /// The mistake that the protocol is to make.
    mistake: Option<Mistake>,
}

/// What became of a cell.
#[derive(Clone, Debug)]
struct Found {
    cell: Cell,
    verdict: LabVerdict,
    how: String,
    /// Anything wrong with the run beside its verdict.
    trouble: Option<String>,
    steps: Vec<LabStep>,
    dropped: u32,
    wall: Duration,
    log: Vec<String>,
}

impl Cell {
    /// The cell of the protocol as it is.
    fn of(variant: Zonelist, hazard: Hazard) -> Self {
        Cell {
            variant,
            hazard,
            mistake: None,
        }
    }

    fn name(self) -> String {
        format!("{} {}", name_of(self.variant), self.hazard.name())
    }

    fn expected(self) -> Option<LabVerdict> {
        let flipped = self
            .mistake
            .and_then(|mistake| planted::flipped(mistake, self.variant, self.hazard));
        flipped.or_else(|| expected::expected(&name_of(self.variant), self.hazard))
    }

    /// The command that repeats exactly this cell.
    fn command(self, cpus: u16) -> String {
        let mistake = self
            .mistake
            .map(|mistake| format!(" --mistake {}", name_of(mistake)))
            .unwrap_or_default();
        format!(
            "cargo run -- lab --variant {} --hazard {}{mistake} --cpus {cpus} --show",
            name_of(self.variant),
            self.hazard.name()
        )
    }
}

impl Found {
    /// Judges a guest's run.
    fn of(cell: Cell, record: Record, log: Vec<String>) -> Self {
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

    /// Whether it is what the matrix expects, from a guest that came out of it sound.
    fn is_expected(&self) -> bool {
        Some(self.verdict) == self.cell.expected() && self.trouble.is_none()
    }

    fn json(&self, cpus: u16) -> Value {
        let specified = expected::specified(&name_of(self.cell.variant), self.cell.hazard);
        json!({
            "variant": name_of(self.cell.variant),
            "hazard": self.cell.hazard.name(),
            "verdict": words(self.verdict),
            "scope": scope(self.verdict),
            "expected": self.cell.expected().map(words),
            "specified": specified.map(words),
            "as_expected": self.is_expected(),
            "how": self.how,
            "wait_for": values::wait_for(&self.steps),
            "mistake": self.cell.mistake.map(name_of),
            "trouble": self.trouble,
            "command": self.cell.command(cpus),
            "steps": self.steps.len(),
            "steps_dropped": self.dropped,
            "seconds": self.wall.as_secs_f64(),
        })
    }
}

/// Runs the cells that are asked for and returns the program's exit code.
///
/// # Errors
/// A tool is missing, the kernel does not build, or a result cannot be written.
pub fn lab(args: &LabArgs) -> Result<i32> {
    if args.list {
        describe::print();
        return Ok(0);
    }
    json::prepare(args.output.json.as_deref())?;
    qemu::require()?;
    let args = &LabArgs {
        accel: crate::guest::accel::usable(args.accel),
        ..args.clone()
    };
    let started = Instant::now();
    let built = build::guest()?;
    let mut console = Console::new(args.output.verbosity(), args.output.log.as_deref())?;
    let cells = if args.planted {
        planted::cells(args)
    } else {
        cells(args)
    };
    let found = running::run_all(&cells, args, &built, &mut console)?;
    if let Some(what) = args.show {
        let symbols = crate::judge::symbols::Symbols::of_files(&[&built.unstripped]);
        found
            .iter()
            .for_each(|cell| printing::show(cell, args.cpus, what, &symbols));
    }
    if args.planted {
        planted::print_table(&found, args);
    } else if args.show.is_none() || found.len() > 1 {
        printing::print_matrix(&found, args);
    }
    let exit_code = exit_code(&cells, &found);
    if let Some(path) = &args.output.json {
        let result = json!({
            "schema": SCHEMA,
            "kind": "lab",
            "verdict": if exit_code == 0 { "passed" } else { "failed" },
            "exit_code": exit_code,
            "machine": running::machine(args).to_string(),
            "cells": found.iter().map(|cell| cell.json(args.cpus)).collect::<Vec<_>>(),
        });
        json::write(path, &result)?;
    }
    printing::print_total(&cells, &found, exit_code, started.elapsed());
    Ok(exit_code)
}

fn cells(args: &LabArgs) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &variant in Zonelist::value_variants() {
        for hazard in Hazard::ALL {
            let wanted = args.variant.is_none_or(|wanted| wanted == variant)
                && args
                    .hazard
                    .is_none_or(|wanted| name_of(wanted).eq_ignore_ascii_case(hazard.name()));
            if wanted {
                cells.push(Cell {
                    variant,
                    hazard,
                    mistake: args.mistake,
                });
            }
        }
    }
    cells
}

/// 0 if every cell that was asked for was run and is as expected.
fn exit_code(cells: &[Cell], found: &[Found]) -> i32 {
    if interrupt::requested() {
        return EXIT_INTERRUPTED;
    }
    let all_expected = found.iter().all(Found::is_expected);
    i32::from(cells.is_empty() || found.len() < cells.len() || !all_expected)
}

#[cfg(test)]
mod tests;
