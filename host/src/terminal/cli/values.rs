//! The values that options take, but for those that are names of the kernel's.

use clap::ValueEnum;

/// The halves of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Half {
    /// Guest instructions under QEMU.
    Guest,
    /// Time and instructions on this machine, beside other allocators.
    Host,
}

/// How QEMU executes guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    Tcg,
    Kvm,
    /// One CPU whose time is the number of its instructions.
    #[value(skip)]
    Counted,
}

/// What a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    Srat,
    Dimms,
}

/// What a page of the laboratory shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// The steps, a column a CPU.
    Steps,
    /// The steps with times, lists, entries, counters and zones, as the trace has them.
    Values,
    /// The steps in at most 72 plain columns.
    Mail,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1 to `of`.
    pub index: usize,
    pub of: usize,
}
