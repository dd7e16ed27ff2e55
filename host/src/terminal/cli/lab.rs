//! The command line of `lab`, and of `lab price`.

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
