//! Defines the command line of `shell`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use tidemark_frames::Variant;

use super::parsing::{ZonelistName, parse_cpus, parse_memory, parse_nodes};
use super::values::{Accel, Part};
use crate::terminal::release::Zonelist;
use crate::terminal::size::Mib;

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
    #[arg(long, default_value = Variant::default().name(), value_parser = ZonelistName)]
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
