//! The command line of `lab`, and of `lab price`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidemark_frames::Mistake;
use tidemark_wire::{CYCLES, Hazard, Plant};

use super::output::OutputArgs;
use super::parsing::{MAX_CPUS, ZonelistName, one_of, parse_cpus};
use super::values::{Accel, Show};
use crate::terminal::release::Zonelist;

/// `lab`, alone or with a command of its own.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LabLine {
    #[command(subcommand)]
    pub command: Option<LabCommand>,
    #[command(flatten)]
    pub args: LabArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub enum LabCommand {
    /// Measures how many of the requests that race a rebuild fail although a fresh walk serves
    /// them.
    ///
    /// One zone alone has memory, and 4 MiB of the movable memory before it leave and come back.
    /// Each protocol runs in a guest of its own, once with readers as they come and once with
    /// readers that stay inside their walk while lists are rewritten.
    Price(PriceArgs),
    /// Shows hazards on Linux itself: H10, H8 and H1 on Debian's own kernels.
    ///
    /// A module of ours holds one request in its direct reclaim while memory comes online or goes
    /// offline. The first call fetches kernels and headers (70 to 140 MB each) into target/linux,
    /// without root; nothing is installed. docs/linux.md explains what follows.
    Linux(LinuxArgs),
}

/// The laboratory.
#[derive(Args, Clone, Debug)]
pub struct LabArgs {
    /// Only this protocol, or that of a release of Linux.
    ///
    /// Example: lab --variant linux-6.1.192
    #[arg(long, value_name = "NAME", value_parser = ZonelistName)]
    pub variant: Option<Zonelist>,
    /// Only this hazard.
    ///
    /// Example: lab --hazard H2
    #[arg(long, value_name = "NAME", ignore_case = true, value_parser = one_of(&Hazard::ALL, Hazard::name))]
    pub hazard: Option<Hazard>,
    /// Prints what ran, in a column a CPU; `values` adds the data, `mail` keeps to 72 plain
    /// columns.
    ///
    /// Example: lab --variant seqlock --hazard H2 --show
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "steps")]
    pub show: Option<Show>,
    /// Has the protocol make a mistake on purpose; `--list` names them.
    ///
    /// Example: lab --variant seed --hazard H2 --mistake everybody-looks --show
    #[arg(long, value_name = "NAME", value_parser = one_of(&Mistake::ALL, Mistake::name))]
    pub mistake: Option<Mistake>,
    /// Runs every protocol with each mistake that matters to it, and checks which cells change.
    ///
    /// Example: lab --planted
    #[arg(long, conflicts_with_all = ["hazard", "mistake"])]
    pub planted: bool,
    /// Prints the recorded verdicts of `lab linux` beside the matrix.
    ///
    /// Example: lab --linux
    #[arg(long, conflicts_with_all = ["planted", "list"])]
    pub linux: bool,
    /// Explains protocols, releases, hazards and mistakes, a line each, and runs nothing.
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

/// Linux itself.
#[derive(Args, Clone, Debug)]
pub struct LinuxArgs {
    /// Only these kernels, as `uname -r` names them; `--list` tells what can be had.
    ///
    /// Without it: the newest of each series (6.1, 6.12) of this machine's Debian.
    /// Example: lab linux --kernel 6.1.0-56-amd64
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub kernel: Vec<String>,
    /// Only this hazard.
    ///
    /// Example: lab linux --hazard H10
    #[arg(long, value_name = "NAME", ignore_case = true, value_parser = one_of(&[Hazard::H10, Hazard::H8, Hazard::H1], Hazard::name))]
    pub hazard: Option<Hazard>,
    /// Prints what the kernel logged: the lists, the request's walks, its page.
    ///
    /// Example: lab linux --hazard H10 --show
    #[arg(long)]
    pub show: bool,
    /// How often each hazard is played, 1 to 100.
    ///
    /// Example: lab linux --times 10
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub times: u32,
    /// Holds nobody: counts how often H10 happens by itself under load.
    ///
    /// Example: lab linux --natural --minutes 5
    #[arg(long, conflicts_with_all = ["hazard", "show", "times", "log"])]
    pub natural: bool,
    /// How long the load of `--natural` runs, 1 to 600 minutes.
    #[arg(long, value_name = "N", default_value_t = 3, requires = "natural", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub minutes: u32,
    /// Lists the kernels that Debian's archive has, and runs nothing.
    #[arg(long, conflicts_with_all = ["kernel", "hazard", "show", "natural", "clean"])]
    pub list: bool,
    /// Removes what was fetched and built.
    #[arg(long, conflicts_with_all = ["kernel", "hazard", "show", "natural"])]
    pub clean: bool,
    /// Writes the result to a file; docs/output.md describes it.
    #[arg(long, value_name = "FILE", help_heading = "Output and debugging")]
    pub json: Option<PathBuf>,
    /// Writes what the module told to a file, from which the verdicts follow.
    #[arg(long, value_name = "FILE", help_heading = "Output and debugging")]
    pub log: Option<PathBuf>,
    /// Has the module read the allocator's data at a wrong place, which it must refuse.
    #[arg(long, hide = true, value_parser = ["layout"])]
    pub plant: Option<String>,
}

/// The price.
#[derive(Args, Clone, Debug)]
pub struct PriceArgs {
    /// Only these protocols.
    ///
    /// Example: lab price --variant none,seed
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = ZonelistName)]
    pub variant: Vec<Zonelist>,
    /// How often memory leaves, and comes back, in each half: 1 to 10,000.
    ///
    /// Example: lab price --removals 1000
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(CYCLES.range::<i64>()))]
    pub removals: u32,
    /// Number of CPUs, 1 to 64.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = parse_cpus)]
    pub cpus: u16,
    /// How QEMU runs the guest.
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub accel: Accel,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Makes the verdict fail on purpose.
    #[arg(long, hide = true, value_parser = one_of(&Plant::ALL, Plant::name))]
    pub plant: Option<Plant>,
}
