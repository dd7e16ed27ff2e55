//! Runs the guests of the cells.

use std::num::NonZero;

use anyhow::{Context, Result};

use super::cells::Cell;
use super::found::Found;
use crate::guest::build::Built;
use crate::guest::conductor::Watch;
use crate::guest::machine::Machine;
use crate::guest::options::{Mode, Options};
use crate::guest::run::{Spec, run_logged};
use crate::guest::several::run_each;
use crate::terminal::cli::LabArgs;
use crate::terminal::console::Console;

/// Runs the cells, several guests at a time. The results are in the cells' order.
///
/// # Errors
/// QEMU cannot be started.
pub fn run_all(
    cells: &[Cell],
    args: &LabArgs,
    built: &Built,
    console: &mut Console,
) -> Result<Vec<Found>> {
    let run = |cell| run_cell(cell, args, built);
    let mut all = Vec::new();
    for found in run_each(cells, NonZero::<usize>::MIN, run)? {
        let found = found?;
        let title = format!("{}: {}", found.cell.name(), found.how);
        console.whole_log(&title, &found.log);
        all.push(found);
    }
    console.unfold();
    Ok(all)
}

/// Runs one cell.
///
/// # Errors
/// QEMU cannot be started.
pub fn run_cell(cell: Cell, args: &LabArgs, built: &Built) -> Result<Found> {
    run_cell_on(Machine::usual(args.cpus, args.accel), cell, built)
}

/// Runs one cell on a machine.
///
/// # Errors
/// QEMU cannot be started.
pub fn run_cell_on(machine: Machine, cell: Cell, built: &Built) -> Result<Found> {
    let mode = Mode::Lab {
        hazard: cell.hazard,
        mistake: cell.mistake,
    };
    let spec = Spec {
        watch: Watch::Long,
        ..Spec::new(machine, Options::new(mode, cell.variant), built)
    };
    let (record, log) =
        run_logged(&spec).with_context(|| format!("the guest of {}", cell.name()))?;
    Ok(Found::of(cell, record, log))
}
