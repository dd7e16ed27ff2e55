//! The values that options take.

use clap::ValueEnum;

/// The hazards that the laboratory reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HazardName {
    #[value(name = "H1")]
    H1,
    #[value(name = "H2")]
    H2,
    #[value(name = "H2-NMI")]
    H2Nmi,
    #[value(name = "H3")]
    H3,
    #[value(name = "H5-begin")]
    H5Begin,
    #[value(name = "H5-end")]
    H5End,
    #[value(name = "H7")]
    H7,
    #[value(name = "H7-hot")]
    H7Hot,
    #[value(name = "H8")]
    H8,
}

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

/// The zonelist protocols that the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Zonelist {
    None,
    Seqlock,
    SeqlockIrqoff,
    SeqlockIrqsave,
    SeqlockAnnotated,
    SeqlockRecheck,
    GfpSeqlock,
    Seed,
    Snapshot,
}

/// How scarce the demonstration makes memory while lists are rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pressure {
    /// Each zone that atomic requests may use has memory for those that enter the slow path.
    Even,
    /// One zone has, and the others have nothing to give.
    Uneven,
}

/// What a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    Srat,
    Dimms,
}

/// A fault that the kernel commits on purpose, so that a verdict turns red.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plant {
    LostFrame,
    CorruptPage,
    AtomicFailure,
    OddFailures,
    NoCheck,
    CorruptMigrated,
    MissedEject,
    IrqOn,
    Panic,
    Hang,
    TripleFault,
    StrayWrite,
    DeafWatchdog,
}

/// The name of an option's value, as the command line and the kernel's options spell it.
pub fn name_of(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|v| v.get_name().to_owned())
        .unwrap_or_default()
}

/// A mistake that a zonelist protocol makes on purpose, in the laboratory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mistake {
    EverybodyLooks,
    NoCheckBeforeOom,
    NoCheckAtNopage,
    NoCheckAtRetry,
    ChangedWithoutOdd,
    BeginWaits,
    CheckWaits,
    InterruptsOn,
    NotDeferred,
    DeferredLate,
    AnnotatedInside,
    CountStands,
    NoGrace,
    PublishedEarly,
    StartRemembered,
    TornRemembered,
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
