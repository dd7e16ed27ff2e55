//! Says where results go, and how much of a run the terminal shows.

use std::path::PathBuf;

use clap::Args;

/// Where results go.
#[derive(Args, Clone, Debug, Default)]
pub struct OutputArgs {
    /// Writes the result to a file; docs/output.md describes it.
    ///
    /// Example: --json result.json
    #[arg(long, value_name = "FILE", help_heading = "Output and debugging")]
    pub json: Option<PathBuf>,
    /// Writes the whole serial log, verbose lines included, to a file.
    ///
    /// Example: --log serial.log
    #[arg(long, value_name = "FILE", help_heading = "Output and debugging")]
    pub log: Option<PathBuf>,
    /// Shows the kernel's tables at the end of the run, as the shell's commands of these names do.
    ///
    /// Example: --dump zoneinfo,buddyinfo
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = clap::builder::PossibleValuesParser::new(tidemark_wire::Topic::NAMES),
        help_heading = "Output and debugging"
    )]
    pub dump: Vec<String>,
    /// Shows every line of the log.
    ///
    /// Example: -v
    #[arg(
        short,
        long,
        conflicts_with = "quiet",
        help_heading = "Output and debugging"
    )]
    pub verbose: bool,
    /// Shows the summary only.
    ///
    /// Example: -q
    #[arg(short, long, help_heading = "Output and debugging")]
    pub quiet: bool,
}

/// How much of the log the terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// The summary only.
    Quiet,
    /// The story, as many lines of it as the console has room for.
    Story,
    /// Every line.
    All,
}

impl OutputArgs {
    /// What `-v` and `-q` ask for.
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::All,
            _ => Verbosity::Story,
        }
    }

    /// Whether the kernel is to log what only `-v` and `--log` show.
    pub fn wants_details(&self) -> bool {
        self.log.is_some() || self.verbosity() == Verbosity::All
    }
}
