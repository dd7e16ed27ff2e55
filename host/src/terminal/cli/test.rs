//! Defines the command line of `test`.

use clap::Args;
use tidemark_wire::STORM;

use super::output::OutputArgs;
use super::parsing::{ZonelistName, parse_cpus, parse_memory, parse_nodes, parse_pattern};
use super::values::{Accel, Part};
use crate::terminal::release::Zonelist;
use crate::terminal::size::Mib;

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
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(STORM.range::<i64>()))]
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
    #[arg(long, conflicts_with = "full", value_parser = ZonelistName)]
    pub zonelist: Option<Zonelist>,
    /// How QEMU runs the guest.
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub accel: Accel,
    #[command(flatten)]
    pub output: OutputArgs,
}
