//! The command line: what may be asked, and one clear line for what may not.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

mod mutants;
mod price;
mod values;

pub use mutants::{MutantsArgs, Shard};
pub use price::{LabCommand, LabLine, PriceArgs};
pub use values::{
    Accel, Half, HazardName, Mistake, Part, Plant, Pressure, Show, Zonelist, name_of,
};

use crate::terminal::size::{self, Mib};

/// Fewest MiB that the kernel runs with; less is refused.
pub const MIN_MEMORY: Mib = Mib(32);
/// Most CPUs that the kernel runs with; more is refused.
pub const MAX_CPUS: u16 = 64;
/// Most NUMA nodes that a machine may have.
pub const MAX_NODES: u8 = 8;

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
    /// Measures the allocator: guest instructions beside Linux, time and instructions on this machine
    /// beside other crates.
    ///
    /// Each row has an aim and says whether it is reached; docs/bench.md explains the rows. Instructions
    /// on this machine are counted by valgrind (apt install valgrind); without it those rows are left
    /// out. Example: tidemark bench --only host
    Bench(BenchArgs),
    /// Reaches the zonelist protocols' hazards on purpose and prints what each protocol does.
    Lab(LabLine),
    /// Makes deliberate mistakes in the allocator and the locks, one at a time; a test must find each.
    ///
    /// docs/testing.md says how the list (kernel/mutants) is written. Several minutes for all of it.
    Mutants(MutantsArgs),
    /// Runs clippy over the loader and the kernel as the guest is built.
    #[command(hide = true)]
    LintGuest,
}

/// The demonstration.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Number of CPUs, 1 to 64.
    ///
    /// Example: --cpus 16
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = parse_cpus)]
    pub cpus: u16,
    /// Number of NUMA nodes, 1 to 8; CPUs and memory are spread evenly over them.
    ///
    /// Example: --nodes 4
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = parse_nodes)]
    pub nodes: u8,
    /// Memory beside the DIMMs, 32M or more.
    ///
    /// Example: --memory 8G
    #[arg(long, value_name = "SIZE", default_value = "3G", value_parser = parse_memory)]
    pub memory: Mib,
    /// How often both DIMMs are pulled and put back.
    ///
    /// Example: --cycles 50
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub cycles: u32,
    /// Repeats the host's actions and the workload's choices, not the interleaving.
    ///
    /// CPUs, interrupts and NMIs still meet as they happen to: two runs with one seed ask for the same
    /// things, and may see different races.
    ///
    /// Example: --seed 7
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How QEMU runs the guest.
    ///
    /// tcg behaves the same everywhere. kvm is untested until somebody has run it.
    ///
    /// Example: --accel kvm
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub accel: Accel,
    /// The protocol by which readers and rebuilds of the zonelists meet.
    ///
    /// none to gfp-seqlock are the steps of the field's argument; some of them hang or fail here, which is
    /// what they are kept for. seed is the seqcount whose writer disables interrupts under a spinlock;
    /// snapshot publishes whole lists by one store.
    ///
    /// Example: --zonelist snapshot
    #[arg(long, value_enum, default_value_t = Zonelist::Seed)]
    pub zonelist: Zonelist,
    /// How scarce memory is while lists are rebuilt.
    ///
    /// even leaves each zone something for requests that enter the slow path, so that a walk which misses one
    /// zone finds another. uneven leaves one zone something: a walk that misses it fails, which is the price of a
    /// protocol whose atomic requests do not look again.
    ///
    /// Example: --pressure uneven --zonelist none
    #[arg(long, value_enum, default_value_t = Pressure::Even)]
    pub pressure: Pressure,
    /// Lets NMIs make no requests.
    ///
    /// Where readers wait for a rebuild (seqlock to seqlock-recheck), the request of an NMI that has interrupted one
    /// waits for ever: hazard H2-NMI of the lab. Without such requests the four that turn interrupts off pass.
    ///
    /// Example: --zonelist seqlock-irqsave --no-nmi-requests
    #[arg(long)]
    pub no_nmi_requests: bool,
    /// What the machine lacks: dimms, or srat (the table of nodes, and with it the DIMMs).
    ///
    /// Without DIMMs nothing can be pulled, so the run ends "not exercised".
    ///
    /// Example: --without dimms
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    pub without: Vec<Part>,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Lets QEMU wait for a debugger and prints the gdb command.
    ///
    /// Example: --gdb
    #[arg(long, help_heading = "Output and debugging")]
    pub gdb: bool,
    /// Prints a QEMU command that boots this machine by hand, and ends.
    ///
    /// Example: --print-qemu
    #[arg(long, help_heading = "Output and debugging")]
    pub print_qemu: bool,
    /// Makes one verdict fail on purpose.
    #[arg(long, value_enum, hide = true)]
    pub plant: Option<Plant>,
    /// Boots this file instead of the kernel.
    #[arg(long, hide = true, value_name = "FILE")]
    pub kernel_image: Option<PathBuf>,
    /// Arguments for QEMU.
    #[arg(last = true, value_name = "EXTRA")]
    pub extra: Vec<OsString>,
}

/// The tests.
#[derive(Args, Clone, Debug)]
pub struct TestArgs {
    /// Runs only the tests whose name contains this.
    #[arg(value_name = "PATTERN", value_parser = parse_pattern)]
    pub pattern: Option<String>,
    /// Adds 8 CPUs with 4 nodes, 16 CPUs, no SRAT, no DIMMs, and 8 GiB.
    ///
    /// Example: test --full
    #[arg(long)]
    pub full: bool,
    /// Makes the storm of allocations longer: rounds of each CPU's task, 200 to 100,000,000.
    ///
    /// 10,000 rounds on 8 CPUs take about a minute on two cores.
    ///
    /// Example: test storm/ --cpus 8 --storm 100000
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(200..=100_000_000))]
    pub storm: Option<u32>,
    /// Runs the self-tests on one machine with this many CPUs, 1 to 64, and nothing else.
    ///
    /// Example: test --cpus 16
    #[arg(long, value_name = "N", value_parser = parse_cpus, conflicts_with = "full")]
    pub cpus: Option<u16>,
    /// Runs the self-tests on one machine with this many nodes, 1 to 8, and nothing else.
    ///
    /// Example: test --nodes 1
    #[arg(long, value_name = "N", value_parser = parse_nodes, conflicts_with = "full")]
    pub nodes: Option<u8>,
    /// Runs the self-tests on one machine with this much memory, 32M or more, and nothing else.
    ///
    /// Example: test --memory 48M
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, conflicts_with = "full")]
    pub memory: Option<Mib>,
    /// Runs the self-tests on one machine that lacks this, and nothing else.
    ///
    /// Example: test --without srat
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        value_delimiter = ',',
        conflicts_with = "full"
    )]
    pub without: Vec<Part>,
    /// Runs the self-tests on one machine with this zonelist protocol, and nothing else.
    ///
    /// Tests about what a protocol does not do are skipped.
    ///
    /// Example: test --zonelist snapshot zonelist
    #[arg(long, value_enum, conflicts_with = "full")]
    pub zonelist: Option<Zonelist>,
    /// How QEMU runs the guest.
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub accel: Accel,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The shell.
#[derive(Args, Clone, Debug)]
pub struct ShellArgs {
    /// Number of CPUs, 1 to 64.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = parse_cpus)]
    pub cpus: u16,
    /// Number of NUMA nodes, 1 to 8.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = parse_nodes)]
    pub nodes: u8,
    /// Memory beside the DIMMs, 32M or more.
    #[arg(long, value_name = "SIZE", default_value = "3G", value_parser = parse_memory)]
    pub memory: Mib,
    /// How QEMU runs the guest.
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub accel: Accel,
    /// The protocol by which readers and rebuilds of the zonelists meet.
    #[arg(long, value_enum, default_value_t = Zonelist::Seed)]
    pub zonelist: Zonelist,
    /// What the machine lacks: dimms, or srat (the table of nodes, and with it the DIMMs).
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    pub without: Vec<Part>,
    /// Writes the session to a file.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Lets the kernel log details.
    #[arg(short, long)]
    pub verbose: bool,
    /// Arguments for QEMU.
    #[arg(last = true, value_name = "EXTRA")]
    pub extra: Vec<OsString>,
}

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
        value_parser = price::parse_zonelists,
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

/// The laboratory.
#[derive(Args, Clone, Debug)]
pub struct LabArgs {
    /// Only this protocol.
    ///
    /// Example: lab --variant seqlock
    #[arg(long, value_enum, value_name = "NAME")]
    pub variant: Option<Zonelist>,
    /// Only this hazard.
    ///
    /// Example: lab --hazard H2
    #[arg(long, value_enum, value_name = "NAME", ignore_case = true)]
    pub hazard: Option<HazardName>,
    /// Prints what ran, in a column a CPU; `values` adds the data, `mail` keeps to 72 plain columns.
    ///
    /// Example: lab --variant seqlock --hazard H2 --show
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "steps")]
    pub show: Option<Show>,
    /// Has the protocol make a mistake on purpose; `--list` names them.
    ///
    /// Example: lab --variant seed --hazard H2 --mistake everybody-looks --show
    #[arg(long, value_enum, value_name = "NAME")]
    pub mistake: Option<Mistake>,
    /// Runs every protocol with each mistake that matters to it, and checks which cells change.
    ///
    /// Example: lab --planted
    #[arg(long, conflicts_with_all = ["hazard", "mistake"])]
    pub planted: bool,
    /// Explains protocols, hazards and mistakes, a line each, and runs nothing.
    ///
    /// Example: lab --list
    #[arg(long, conflicts_with_all = ["variant", "hazard", "mistake", "planted", "show"])]
    pub list: bool,
    /// Number of CPUs, 2 or more.
    ///
    /// Example: lab --cpus 4
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=MAX_CPUS as i64))]
    pub cpus: u16,
    /// How QEMU runs the guest.
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub accel: Accel,
    #[command(flatten)]
    pub output: OutputArgs,
}

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
        value_parser = clap::builder::PossibleValuesParser::new(tidemark_wire::TOPICS),
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
    /// The story, at most [`crate::terminal::console::BUDGET_LINES`] lines of it.
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
}

fn parse_cpus(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(n) if n > MAX_CPUS => Err(format!("the kernel runs at most {MAX_CPUS} CPUs")),
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("a number from 1 to {MAX_CPUS} is wanted")),
    }
}

fn parse_nodes(text: &str) -> Result<u8, String> {
    match text.parse::<u8>() {
        Ok(n) if (1..=MAX_NODES).contains(&n) => Ok(n),
        _ => Err(format!("a number from 1 to {MAX_NODES} is wanted")),
    }
}

fn parse_memory(text: &str) -> Result<Mib, String> {
    let memory = size::parse(text)?;
    if memory < MIN_MEMORY {
        return Err(format!("the kernel needs {MIN_MEMORY} or more"));
    }
    Ok(memory)
}

fn parse_shard(text: &str) -> Result<Shard, String> {
    let parts = text.split_once('/');
    let number = |text: &str| text.parse::<usize>().ok();
    match parts.and_then(|(index, of)| Some((number(index)?, number(of)?))) {
        Some((index, of)) if (1..=of).contains(&index) => Ok(Shard { index, of }),
        _ => Err("a part like 1/2 is wanted".to_owned()),
    }
}

fn parse_pattern(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 48 || text.contains(char::is_whitespace) {
        return Err("1 to 48 characters without white space are wanted".to_owned());
    }
    Ok(text.to_owned())
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
