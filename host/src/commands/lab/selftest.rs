//! The steps of `test` about the laboratory: a few cells, planted mistakes, and a check that the
//! judge itself can fail.

use anyhow::Result;
use tidemark_frames::{Mistake, Variant};
use tidemark_wire::{Hazard, LabVerdict};

use super::cells::Cell;
use super::flips;
use super::found::exit_code;
use super::running::{run_cell, run_cell_on};
use crate::commands::cases::run_cases;
use crate::guest::build::Built;
use crate::guest::machine::Machine;
use crate::judge::tally::Tally;
use crate::judge::words::words;
use crate::terminal::cli::{Accel, LabArgs, OutputArgs, Part};

/// Returns the arguments of the suite's runs.
fn quiet(accel: Accel) -> LabArgs {
    LabArgs {
        linux: false,
        variant: None,
        hazard: None,
        show: None,
        mistake: None,
        planted: false,
        list: false,
        cpus: 2,
        accel,
        output: OutputArgs::default(),
    }
}

/// Runs the step of `test --full`: each mistake of each protocol flips exactly the cells that it
/// should.
///
/// # Errors
/// QEMU cannot be started.
pub fn full_test(pattern: Option<&str>, accel: Accel, built: &Built) -> Result<Tally> {
    let args = &quiet(accel);
    let mut rows: Vec<(String, Vec<Cell>)> = Vec::new();
    for cell in flips::cells(args) {
        let mistake = cell.mistake.map(Mistake::name).unwrap_or_default();
        let name = format!("lab-planted/{mistake}-{}", cell.variant.name());
        match rows.last_mut().filter(|(known, _)| *known == name) {
            Some((_, cells)) => cells.push(cell),
            None => rows.push((name, vec![cell])),
        }
    }
    let part = (
        "lab, planted",
        "mistakes of protocols, and the cells that they flip",
    );
    run_cases(part, pattern, rows, |_, cells| {
        let found = cells
            .into_iter()
            .map(|cell| run_cell(cell, args, built))
            .collect::<Result<Vec<_>>>()?;
        let problems = flips::problems(found.iter());
        Ok(problems
            .is_empty()
            .then_some(())
            .ok_or_else(|| problems.join("; ")))
    })
}

/// Runs the step of `test`: a few cells of both kinds, and a check that the judge itself can fail.
///
/// # Errors
/// QEMU cannot be started.
pub fn self_test(pattern: Option<&str>, accel: Accel, built: &Built) -> Result<Tally> {
    let args = &quiet(accel);
    let sample = [
        (Variant::Seed, Hazard::H2),
        (Variant::Seed, Hazard::H7),
        (Variant::None, Hazard::H1),
        (Variant::Seqlock, Hazard::H2),
        (Variant::SeqlockIrqsave, Hazard::H2Nmi),
        (Variant::SeqlockAnnotated, Hazard::H5End),
        (Variant::Snapshot, Hazard::H7),
    ];
    let cells = sample
        .into_iter()
        .map(|(variant, hazard)| Cell::of(variant, hazard));
    let cells = cells.chain(flips::sample()).map(|cell| {
        let mistake = cell.mistake.map(|mistake| format!("-{}", mistake.name()));
        let name = format!(
            "lab/{}-{}{}",
            cell.variant.name(),
            cell.hazard.name(),
            mistake.unwrap_or_default()
        );
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

/// Checks that a run outside the window has no verdict.
fn planted_not_reached(args: &LabArgs, built: &Built) -> Result<Result<(), String>> {
    // No DIMM can leave a machine without DIMMs, so the window cannot be reached.
    let bare = Machine {
        without: vec![Part::Dimms],
        ..Machine::usual(args.cpus, args.accel)
    };
    let cell = Cell::of(Variant::Seed, Hazard::H7);
    let found = run_cell_on(bare, cell, built)?;
    let noticed = found.verdict == LabVerdict::NotReached && exit_code(&[cell], &[found]) == 1;
    let problem = || "a run outside the window has a verdict".to_owned();
    Ok(noticed.then_some(()).ok_or_else(problem))
}
