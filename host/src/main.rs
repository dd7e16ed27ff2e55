//! The `tidemark` command: builds the kernel, runs it under QEMU, removes its DIMMs and judges the
//! run.
//!
//! The modules are in four folders, each of which uses only those before it:
//!
//! * `terminal` has what the user types and sees. The command line is here, at the bottom, because
//!   all folders above use its values: protocols, hazards, parts of a machine.
//! * `guest` builds the guest, describes the machine, runs QEMU and records what the guest says. It
//!   tells a hung guest from a slow one, because it has to end it.
//! * `judge` turns a record into a verdict. It needs no guest, only the record of one.
//! * `commands` does what the user asks for, with a module for each command.
//!
//! No module is in a circle with another, nor is a folder with its neighbours. The tests of
//! `modules.rs` read the sources, and fail on a circle or if a folder uses one above it.

mod commands;
mod guest;
mod judge;
#[cfg(test)]
mod modules;
mod terminal;

use std::io::Write;
use std::process::ExitCode;

use commands::{bench, demo, lab, linux, mutants, price, shell, suite};
use guest::build;
use terminal::exit::{EXIT_INTERRUPTED, EXIT_USAGE};
use terminal::{cli, interrupt};

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(line) => {
            complain(&line);
            return exit(EXIT_USAGE);
        }
    };
    let code = interrupt::catch()
        .map_err(anyhow::Error::from)
        .and_then(|()| match &cli.command {
            Some(cli::Command::Test(args)) => suite::test(args),
            Some(cli::Command::Shell(args)) => shell::run(args),
            Some(cli::Command::Bench(args)) => bench::run(args),
            Some(cli::Command::Lab(line)) => match &line.command {
                Some(cli::LabCommand::Price(args)) => price::run(args),
                Some(cli::LabCommand::Linux(args)) => linux::run(args),
                None => lab::lab(&line.args),
            },
            Some(cli::Command::Mutants(args)) => mutants::run(args),
            Some(cli::Command::LintGuest) => build::lint_guest(),
            None => demo::run(&cli.demo),
        });
    match code {
        Ok(code) => exit(code),
        // The failure most likely comes from a process that the same Ctrl-C ended.
        Err(_) if interrupt::requested() => exit(EXIT_INTERRUPTED),
        Err(error) => {
            complain(&format!("tidemark: {error:#}"));
            exit(EXIT_USAGE)
        }
    }
}

/// Writes a line for the user. If the stream is closed, that is no reason to panic.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
