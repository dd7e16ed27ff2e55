//! Defines the command line of `bench`.

use clap::Args;

use super::output::OutputArgs;
use super::parsing::parse_zonelists;
use super::values::Half;
use crate::terminal::release::Zonelist;

/// The benchmarks.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Measures one half only.
    ///
    /// Example: bench --only guest
    #[arg(long, value_enum, value_name = "HALF")]
    pub only: Option<Half>,
    /// Counts a rebuild of the zonelists, and nothing else, in these protocols, or in all.
    ///
    /// Example: bench --zonelist seed,snapshot
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = parse_zonelists,
        conflicts_with_all = ["only", "check", "update", "markdown"]
    )]
    pub zonelist: Vec<Vec<Zonelist>>,
    /// Fails if a count of guest instructions is more than 5 % above the table that is checked in.
    ///
    /// Counts are compared only if rustc and QEMU are those of the table.
    ///
    /// Example: bench --check --only guest
    #[arg(long)]
    pub check: bool,
    /// Writes the counts of guest instructions as the table to check in.
    ///
    /// Example: bench --update --only guest
    #[arg(long, conflicts_with = "check")]
    pub update: bool,
    /// Prints the tables as Markdown, to be put into docs/bench.md.
    ///
    /// Example: bench --markdown --only host
    #[arg(long)]
    pub markdown: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}
