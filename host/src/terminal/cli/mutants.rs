//! The command line of `mutants`.

use std::path::PathBuf;

use clap::Args;

use super::parsing::{parse_pattern, parse_shard};
use super::values::Shard;

/// The deliberate mistakes.
#[derive(Args, Clone, Debug)]
pub struct MutantsArgs {
    /// Only those whose name or file contains this.
    #[arg(value_name = "PATTERN", value_parser = parse_pattern)]
    pub pattern: Option<String>,
    /// Only every Nth, from the Ith on; several shards may run at once.
    ///
    /// Example: mutants --shard 1/2
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    pub shard: Option<Shard>,
    /// Runs the whole suite of the crate for those that no test is named for.
    #[arg(long)]
    pub all_tests: bool,
    /// Prints those that no test can find, and why; runs nothing.
    #[arg(long, conflicts_with = "shard")]
    pub equivalent: bool,
    /// Writes what became of each to a file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
