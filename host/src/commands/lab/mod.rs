//! `tidemark lab`: the behaviour of each zonelist protocol at each hazard.
//!
//! Each cell runs in a fresh guest. Two guests run at a time where two cores allow it.

mod beside;
mod cells;
mod columns;
mod describe;
mod expected;
mod explain;
mod flips;
mod found;
mod planted;
mod printing;
mod running;
mod selftest;
mod steps;
mod values;

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use crate::guest::accel::usable;
use crate::guest::machine::Machine;
use crate::guest::{build, qemu};
use crate::judge::json;
use crate::judge::symbols::Symbols;
use crate::terminal::cli::LabArgs;
use crate::terminal::console::{Console, say};
use crate::terminal::release::Zonelist;
pub use explain::{explained, fails};
pub use selftest::{full_test, self_test};

/// Version of the JSON's layout.
const SCHEMA: u32 = 1;

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
    let linux = args.linux.then(|| beside::Columns::read(printing::COLUMN));
    let linux = linux.transpose().map_err(anyhow::Error::msg)?;
    qemu::require()?;
    let args = &LabArgs {
        accel: usable(args.accel),
        ..args.clone()
    };
    let started = Instant::now();
    let built = build::guest()?;
    let mut console = Console::new(args.output.verbosity(), args.output.log.as_deref())?;
    let cells = if args.planted {
        flips::cells(args)
    } else {
        cells::cells(args)
    };
    let found = running::run_all(&cells, args, &built, &mut console)?;
    let alias = args.variant.and_then(Zonelist::alias);
    alias.iter().for_each(say);
    if let Some(what) = args.show {
        let symbols = Symbols::of_files(&[&built.unstripped]);
        found
            .iter()
            .for_each(|cell| printing::show(cell, args.cpus, what, &symbols));
    }
    if args.planted {
        flips::print_table(&found, args);
    } else if args.show.is_none() || found.len() > 1 {
        printing::print_matrix(&found, args, linux.as_ref());
    }
    let exit_code = found::exit_code(&cells, &found);
    if let Some(path) = &args.output.json {
        let release = args.variant.and_then(|asked| asked.release);
        let result = json!({
            "schema": SCHEMA,
            "kind": "lab",
            "verdict": if exit_code == 0 { "passed" } else { "failed" },
            "exit_code": exit_code,
            "machine": Machine::usual(args.cpus, args.accel).to_string(),
            "linux": release.map(|release| release.to_string()),
            "cells": found.iter().map(|cell| cell.json(args.cpus)).collect::<Vec<_>>(),
        });
        json::write(path, &result)?;
    }
    printing::print_total(&cells, &found, exit_code, started.elapsed());
    Ok(exit_code)
}
