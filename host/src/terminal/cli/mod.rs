//! The command line: what may be asked, and one clear line for what may not.

mod bench;
mod demo;
mod lab;
mod mutants;
mod output;
mod parsing;
mod shell;
mod test;
mod values;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

pub use bench::BenchArgs;
pub use demo::DemoArgs;
pub use lab::{LabArgs, LabCommand, LabLine, LinuxArgs, PriceArgs};
pub use mutants::MutantsArgs;
pub use output::{OutputArgs, Verbosity};
pub use shell::ShellArgs;
pub use test::TestArgs;
pub use values::{Accel, Half, Part, Shard, Show};

const LONG_ABOUT: &str = "\
Builds the Tidemark kernel and boots it under QEMU. The demonstration allocates from tasks, \
interrupt handlers and NMIs on every CPU while the host pulls DIMMs out of the running machine and \
puts them back; the run is then judged.";

const AFTER_HELP: &str = "\
Examples:
  cargo run                                   the demonstration: 4 CPUs, 3 GiB, 2 nodes, 2 DIMMs
  cargo run -- --cpus 8 --nodes 4 --cycles 50 --seed 7
  cargo run -- lab                            what each zonelist protocol does at each hazard
  cargo run -- test                           host tests, self-tests in the guest, planted faults
  cargo run -- shell                          the kernel left to you: zoneinfo, offline 34, help
  cargo run -- -q --json result.json          the summary only, and the result for a program
  cargo run -- -- -d int -D qemu.log          what follows the second -- goes to QEMU

Exit codes: 0 passed; 1 a verdict failed, or nothing overlapped a rebuild; 2 usage, a missing tool, or
the guest refused its configuration; 3 the guest crashed; 4 the guest hung; 130 interrupted.
docs/output.md describes the log, KTAP and the JSON.";

/// What the user asked for.
#[derive(Debug, Parser)]
#[command(
    name = "tidemark",
    version,
    about = "Boots the Tidemark kernel under QEMU, pulls its DIMMs and judges the run",
    long_about = LONG_ABOUT,
    after_long_help = AFTER_HELP,
    after_help = "--help explains each option with an example.",
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub demo: DemoArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs every test: the host's, then the kernel's self-tests in QEMU, then the planted faults.
    Test(TestArgs),
    /// Boots the kernel and leaves it to you: a prompt on the serial console.
    ///
    /// Lines from a pipe are fed one at a time, and at their end the kernel exits:
    /// echo zoneinfo | tidemark shell
    Shell(ShellArgs),
    /// Measures the allocator: guest instructions beside Linux, time and instructions on this
    /// machine beside other crates.
    ///
    /// Each row has an aim and says whether it is reached; docs/bench.md explains the rows.
    /// Instructions on this machine are counted by valgrind (apt install valgrind); without it
    /// those rows are left out. Example: tidemark bench --only host
    Bench(BenchArgs),
    /// Reaches the zonelist protocols' hazards on purpose and prints what each protocol does.
    Lab(LabLine),
    /// Makes deliberate mistakes in the allocator and the locks, one at a time; a test must find
    /// each.
    ///
    /// docs/testing.md says how the list (kernel/mutants) is written. Several minutes for all of
    /// it.
    Mutants(MutantsArgs),
    /// Runs clippy over the loader and the kernel as the guest is built.
    #[command(hide = true)]
    LintGuest,
}

/// Reads the command line. Help and version are printed and end the program with 0; anything wrong
/// ends as one line.
///
/// # Errors
/// The line to print.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, String> {
    Cli::try_parse_from(args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.exit(),
        _ => one_line(&error.to_string()),
    })
}

/// Joins what clap says before its usage text.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty() && !line.starts_with("tip:"))
        .collect();
    format!("{} (see --help)", words.join(" "))
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
