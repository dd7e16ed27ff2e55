//! The guests of the cells.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, anyhow};

use super::{Cell, Found};
use crate::guest::build::Built;
use crate::guest::conductor::Watch;
use crate::guest::machine::Machine;
use crate::guest::options::{Mode, Options};
use crate::guest::run::{Spec, run};
use crate::terminal::cli::{LabArgs, Verbosity};
use crate::terminal::console::Console;
use crate::terminal::interrupt;
use crate::terminal::size::Mib;

/// Guests that run at the same time, where the host has as many cores.
const AT_ONCE: usize = 2;

/// The machine that the scenarios need.
pub fn machine(args: &LabArgs) -> Machine {
    Machine {
        cpus: args.cpus,
        nodes: 2,
        memory: Mib(3072),
        accel: args.accel,
        without: Vec::new(),
    }
}

/// Runs the cells, several guests at a time; the results are in the cells' order.
pub fn run_all(
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

/// Runs one cell.
///
/// # Errors
/// QEMU cannot be started.
pub fn run_cell(cell: Cell, args: &LabArgs, built: &Built) -> Result<Found> {
    run_cell_on(machine(args), cell, built)
}

/// Runs one cell on a machine.
///
/// # Errors
/// QEMU cannot be started.
pub fn run_cell_on(machine: Machine, cell: Cell, built: &Built) -> Result<Found> {
    let spec = Spec {
        machine,
        options: Options {
            mode: Mode::Lab {
                hazard: cell.hazard,
                mistake: cell.mistake,
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
