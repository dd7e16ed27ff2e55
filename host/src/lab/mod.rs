//! `tidemark lab`: what each zonelist protocol does at each hazard.
//!
//! One fresh guest a cell, two at a time where two cores allow.

mod columns;
mod expected;
mod explain;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use serde_json::{Value, json};
use tidemark_wire::{Hazard, LabResult, LabStep, LabVerdict};

use crate::build::{self, Built};
use crate::cli::{Accel, LabArgs, OutputArgs, Part, Verbosity, Zonelist, name_of};
use crate::conductor::Watch;
use crate::console::{BAD, Console, FAINT, GOOD, say};
use crate::machine::Machine;
use crate::options::{Mode, Options};
use crate::record::Record;
use crate::report::seconds;
use crate::run::{Spec, run};
use crate::size::Mib;
use crate::suite::Tally;
use crate::trial::run_cases;
use crate::verdict::{self, EXIT_INTERRUPTED};
use crate::{interrupt, json, qemu};
use columns::Writes;
use expected::{contradiction, scope, words};
pub use explain::{explanation, fails};

/// Guests that run at the same time, where the host has as many cores.
const AT_ONCE: usize = 2;
/// Version of the JSON's layout.
const SCHEMA: u32 = 1;

/// A cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    variant: Zonelist,
    hazard: Hazard,
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
    fn name(self) -> String {
        format!("{} {}", name_of(self.variant), self.hazard.name())
    }

    fn expected(self) -> Option<LabVerdict> {
        expected::expected(&name_of(self.variant), self.hazard)
    }

    /// The command that repeats exactly this cell.
    fn command(self, cpus: u16) -> String {
        format!(
            "cargo run -- lab --variant {} --hazard {} --cpus {cpus} --show",
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
    json::prepare(args.output.json.as_deref())?;
    qemu::require()?;
    let args = &LabArgs {
        accel: crate::demo::usable(args.accel),
        ..args.clone()
    };
    let started = Instant::now();
    let built = build::guest()?;
    let mut console = Console::new(args.output.verbosity(), args.output.log.as_deref())?;
    let cells = cells(args);
    let found = run_all(&cells, args, &built, &mut console)?;
    if args.show {
        found.iter().for_each(|cell| show(cell, args.cpus));
    }
    if !args.show || found.len() > 1 {
        print_matrix(&found, args);
    }
    let exit_code = exit_code(&cells, &found);
    if let Some(path) = &args.output.json {
        let result = json!({
            "schema": SCHEMA,
            "kind": "lab",
            "verdict": if exit_code == 0 { "passed" } else { "failed" },
            "exit_code": exit_code,
            "machine": machine(args).to_string(),
            "cells": found.iter().map(|cell| cell.json(args.cpus)).collect::<Vec<_>>(),
        });
        json::write(path, &result)?;
    }
    print_total(&cells, &found, exit_code, started.elapsed());
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
                cells.push(Cell { variant, hazard });
            }
        }
    }
    cells
}

fn machine(args: &LabArgs) -> Machine {
    Machine {
        cpus: args.cpus,
        nodes: 2,
        memory: Mib(3072),
        accel: args.accel,
        without: Vec::new(),
    }
}

/// Runs the cells, several guests at a time; the results are in the cells' order.
fn run_all(
    cells: &[Cell],
    args: &LabArgs,
    built: &Built,
    console: &mut Console,
) -> Result<Vec<Found>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let queue: Mutex<VecDeque<(usize, Cell)>> =
        Mutex::new(cells.iter().copied().enumerate().collect());
    let results: Mutex<Vec<(usize, Result<Found>)>> = Mutex::new(Vec::new());
    let next = || queue.lock().ok()?.pop_front();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(cores).min(cells.len()) {
            // QEMU dies with the thread that started it, which waits for it.
            scope.spawn(|| {
                while let Some((number, cell)) = next() {
                    if interrupt::requested() {
                        break;
                    }
                    let found = run_cell(cell, args, built);
                    if let Ok(mut results) = results.lock() {
                        results.push((number, found));
                    }
                }
            });
        }
    });
    let mut results = results
        .into_inner()
        .map_err(|_| anyhow!("a thread that ran a guest died"))?;
    results.sort_by_key(|(number, _)| *number);
    let mut all = Vec::new();
    for (_, found) in results {
        let found = found?;
        console.write_log(&format!("# {}: {}", found.cell.name(), found.how));
        for line in &found.log {
            if args.output.verbosity() == Verbosity::All {
                console.line(line);
            } else {
                console.write_log(line);
            }
        }
        all.push(found);
    }
    console.unfold();
    Ok(all)
}

fn run_cell(cell: Cell, args: &LabArgs, built: &Built) -> Result<Found> {
    run_cell_on(machine(args), cell, built)
}

fn run_cell_on(machine: Machine, cell: Cell, built: &Built) -> Result<Found> {
    let spec = Spec {
        machine,
        options: Options {
            mode: Mode::Lab {
                hazard: cell.hazard,
            },
            zonelist: cell.variant,
            plant: None,
            verbose: false,
            dump: Vec::new(),
        },
        built: built.clone(),
        kernel_image: None,
        extra: Vec::new(),
        watch: Watch::Long,
    };
    let mut log = Vec::new();
    let record = run(&spec, |line| log.push(line.to_owned()))
        .with_context(|| format!("the guest of {}", cell.name()))?;
    Ok(Found::of(cell, record, log))
}

/// 0 if every cell that was asked for was run and is as expected.
fn exit_code(cells: &[Cell], found: &[Found]) -> i32 {
    if interrupt::requested() {
        return EXIT_INTERRUPTED;
    }
    let all_expected = found.iter().all(Found::is_expected);
    i32::from(cells.is_empty() || found.len() < cells.len() || !all_expected)
}

/// Prints one cell: what was found, the columns, the command.
fn show(found: &Found, cpus: u16) {
    let mark = mark(found);
    say(format!(
        "{}: {}{} {mark}",
        found.cell.name(),
        words(found.verdict),
        scope(found.verdict)
            .map(|scope| format!(" ({scope})"))
            .unwrap_or_default()
    ));
    say(format!("  {}", found.how));
    if let Some(line) = &found.trouble {
        say(format!("  {BAD}{line}{BAD:#}"));
    }
    say("");
    for line in columns::draw(&found.steps, Writes::of(&name_of(found.cell.variant))) {
        say(line);
    }
    if found.dropped > 0 {
        say(format!("({} steps more were not kept)", found.dropped));
    }
    say("");
    say(format!("{FAINT}{}{FAINT:#}", found.cell.command(cpus)));
    say("");
}

/// ✓ for an expected cell, ✗ for another; a star where the specification is contradicted.
fn mark(found: &Found) -> String {
    let (style, sign) = if found.is_expected() {
        (GOOD, "✓")
    } else {
        (BAD, "✗")
    };
    let star = contradiction(&name_of(found.cell.variant), found.cell.hazard);
    format!("{style}{sign}{style:#}{}", star.map_or("", |_| "*"))
}

fn print_matrix(found: &[Found], args: &LabArgs) {
    let hazards: Vec<Hazard> = Hazard::ALL
        .into_iter()
        .filter(|hazard| found.iter().any(|cell| cell.cell.hazard == *hazard))
        .collect();
    say(format!("{}, a fresh guest a cell", machine(args)));
    let mut head = format!("{:<18}", "variant");
    for hazard in &hazards {
        head.push_str(&format!("{:<15}", hazard.name()));
    }
    say(head.trim_end());
    for &variant in Zonelist::value_variants() {
        let row = |hazard: &Hazard| {
            found
                .iter()
                .find(|cell| cell.cell.variant == variant && cell.cell.hazard == *hazard)
        };
        if hazards.iter().all(|hazard| row(hazard).is_none()) {
            continue;
        }
        let mut line = format!("{:<18}", name_of(variant));
        for hazard in &hazards {
            let Some(cell) = row(hazard) else {
                line.push_str(&format!("{:<15}", "-"));
                continue;
            };
            let verdict = match cell.verdict {
                LabVerdict::HoldsDirectOnly => "holds°",
                verdict => words(verdict),
            };
            let sign = mark(cell);
            let star = usize::from(sign.ends_with('*'));
            let gap = 15_usize.saturating_sub(verdict.chars().count() + 2 + star);
            line.push_str(&format!("{verdict} {sign}{:gap$}", ""));
        }
        say(line.trim_end());
    }
    let has = |verdict| found.iter().any(|cell| cell.verdict == verdict);
    if has(LabVerdict::HoldsDirectOnly) {
        say("° for requests that may reclaim only");
    }
    for cell in found.iter().filter(|cell| !cell.is_expected()) {
        let expected = cell.cell.expected().map_or("nothing", words);
        say(format!(
            "{BAD}unexpected{BAD:#}: {}: {}, not {expected}: {}{}",
            cell.cell.name(),
            words(cell.verdict),
            cell.how,
            cell.trouble
                .as_ref()
                .map(|trouble| format!("; {trouble}"))
                .unwrap_or_default()
        ));
        say(format!("  {}", cell.cell.command(args.cpus)));
    }
    for cell in found {
        let name = name_of(cell.cell.variant);
        if let Some(contradicted) = contradiction(&name, cell.cell.hazard) {
            say(format!("* {}: {}", cell.cell.name(), contradicted.why));
        }
    }
}

fn print_total(cells: &[Cell], found: &[Found], exit_code: i32, wall: Duration) {
    let expected = found.iter().filter(|cell| cell.is_expected()).count();
    let (style, word) = if exit_code == 0 {
        (GOOD, "PASS")
    } else {
        (BAD, "FAIL")
    };
    say(format!(
        "{style}{word}{style:#}: {expected} of {} cells as expected, in {}",
        cells.len(),
        seconds(wall)
    ));
}

/// The step of `test`: a few cells of both kinds, and a check that the judge itself can fail.
///
/// # Errors
/// QEMU cannot be started.
pub fn self_test(pattern: Option<&str>, accel: Accel, built: &Built) -> Result<Tally> {
    let args = &LabArgs {
        variant: None,
        hazard: None,
        show: false,
        cpus: 2,
        accel,
        output: OutputArgs::default(),
    };
    let sample = [
        ("seed", Hazard::H2),
        ("seed", Hazard::H7),
        ("none", Hazard::H1),
        ("seqlock", Hazard::H2),
        ("seqlock-irqsave", Hazard::H2Nmi),
        ("snapshot", Hazard::H7),
    ];
    let cells = sample.into_iter().filter_map(|(variant, hazard)| {
        let mut known = Zonelist::value_variants().iter();
        let variant = *known.find(|known| name_of(**known) == variant)?;
        Some(Cell { variant, hazard })
    });
    let cells = cells.map(|cell| {
        let name = format!("lab/{}-{}", name_of(cell.variant), cell.hazard.name());
        (name, Some(cell))
    });
    let planted = ("lab/planted-not-reached".to_owned(), None);
    let part = ("lab", "cells of the laboratory's matrix");
    run_cases(part, pattern, cells.chain([planted]), |_, cell| {
        let Some(cell) = cell else {
            return planted_not_reached(args, built);
        };
        let found = run_cell(cell, args, built)?;
        let verdict = words(found.verdict);
        let problem = || format!("{verdict}: {} {:?}", found.how, found.trouble);
        Ok(found.is_expected().then_some(()).ok_or_else(problem))
    })
}

/// A run outside the window must have no verdict.
fn planted_not_reached(args: &LabArgs, built: &Built) -> Result<Result<(), String>> {
    // Nothing can leave a machine without DIMMs, so the window cannot be reached.
    let bare = Machine {
        without: vec![Part::Dimms],
        ..machine(args)
    };
    let cell = Cell {
        variant: Zonelist::Seed,
        hazard: Hazard::H7,
    };
    let found = run_cell_on(bare, cell, built)?;
    let noticed = found.verdict == LabVerdict::NotReached && exit_code(&[cell], &[found]) == 1;
    let problem = || "a run outside the window has a verdict".to_owned();
    Ok(noticed.then_some(()).ok_or_else(problem))
}

#[cfg(test)]
mod tests;
