//! Defines the command line of the demonstration.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use tidemark_frames::Variant;
use tidemark_wire::{CYCLES, Plant, Pressure};

use super::output::OutputArgs;
use super::parsing::{
    ZonelistName, one_of, one_of_explained, parse_cpus, parse_memory, parse_nodes,
};
use super::values::{Accel, Part};
use crate::terminal::release::Zonelist;
use crate::terminal::size::Mib;

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
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(CYCLES.range::<i64>()))]
    pub cycles: u32,
    /// Repeats the host's actions and the workload's choices, not the interleaving.
    ///
    /// CPUs, interrupts and NMIs still meet as they happen to: two runs with one seed ask for the
    /// same things, and may see different races.
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
    /// The protocols none to gfp-seqlock are the steps of the field's argument. Some of them hang
    /// or fail here, which is what they are kept for. The protocol seed is the seqcount whose
    /// writer disables interrupts under a spinlock; snapshot publishes whole lists by one store.
    /// The name linux-6.1.192 stands for the protocol of that release; lab --list has the table.
    ///
    /// Example: --zonelist snapshot
    #[arg(long, default_value = Variant::default().name(), value_parser = ZonelistName)]
    pub zonelist: Zonelist,
    /// How scarce memory is while lists are rebuilt.
    ///
    /// With even, each zone has something left for requests that enter the slow path: a walk that
    /// misses one zone finds another. With uneven, one zone has something left. A walk that misses
    /// it fails, which is the price of a protocol whose atomic requests do not look again.
    ///
    /// Example: --pressure uneven --zonelist none
    #[arg(long, default_value = Pressure::Even.name(), value_parser = one_of_explained(&Pressure::ALL, Pressure::name, Pressure::says))]
    pub pressure: Pressure,
    /// Lets NMIs make no requests.
    ///
    /// Where readers wait for a rebuild (seqlock to seqlock-recheck), the request of an NMI that
    /// has interrupted one waits for ever: hazard H2-NMI of the lab. Without such requests the five
    /// that turn interrupts off pass.
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
    #[arg(long, hide = true, value_parser = one_of(&Plant::ALL, Plant::name))]
    pub plant: Option<Plant>,
    /// Boots this file instead of the kernel.
    #[arg(long, hide = true, value_name = "FILE")]
    pub kernel_image: Option<PathBuf>,
    /// Arguments for QEMU.
    #[arg(last = true, value_name = "EXTRA")]
    pub extra: Vec<OsString>,
}
