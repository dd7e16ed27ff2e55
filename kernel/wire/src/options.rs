//! What the kernel's options may say.

use core::fmt;
use core::ops::RangeInclusive;
use tidemark_facts::named;

/// Name of the fw_cfg item that holds the kernel's options, separated by white space.
pub const CMDLINE_ITEM: &str = "opt/org.tidemark/cmdline";

/// Cycles of the demonstration, or removals of a measurement of the price.
pub const CYCLES: Bounds = Bounds(1, 10_000);
/// Rounds of each CPU's task in each of the self-tests' storms.
pub const STORM: Bounds = Bounds(200, 100_000_000);
/// Longest pattern that chooses self-tests, in bytes.
pub const PATTERN_BYTES: usize = 48;
/// Least memory that the kernel runs with, in MiB.
pub const LEAST_MEMORY_MIB: u64 = 32;

/// The least and the most that a number may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds(pub u32, pub u32);

impl Bounds {
    /// The numbers, in the type that the caller compares with.
    pub fn range<T: From<u32>>(self) -> RangeInclusive<T> {
        self.0.into()..=self.1.into()
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.0, self.1)
    }
}

named! {
    /// How scarce the demonstration makes memory while lists are rebuilt.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Pressure {
        /// Those zones lie between their MIN and LOW watermarks.
        Even = "even",
            "Each zone that atomic requests may use has memory for those that enter the slow path",
        Uneven = "uneven", "One zone has, and the others have nothing to give",
    }
}

named! {
    /// A fault that the kernel commits on purpose, so that each verdict can be seen to fail.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Plant {
        LostFrame = "lost-frame", "a frame that nobody gives back",
        CorruptPage = "corrupt-page", "a page whose content changes behind its owner's back",
        AtomicFailure = "atomic-failure", "an atomic request that fails outside announced pressure",
        OddFailures = "odd-failures",
            "atomic requests that fail if they began while the count was odd",
        NoCheck = "no-check", "readers that do not look whether the lists have changed",
        CorruptMigrated = "corrupt-migrated", "a migrated page whose content changes on the way",
        MissedEject = "missed-eject", "an eject that is never written",
        IrqOn = "irq-on", "a rebuild with interrupts on",
        Panic = "panic", "a panic",
        Hang = "hang", "a CPU that spins with interrupts off",
        TripleFault = "triple-fault", "a triple fault",
        StrayWrite = "stray-write", "a self-test's write into a block that it has handed on",
        DeafWatchdog = "deaf-watchdog", "a watchdog that asks nobody",
    }
}

named! {
    /// What the kernel can show as a table: a command of its shell, and a value of the option
    /// `dump`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Topic {
        Zoneinfo = "zoneinfo", "zones: free and managed pages, marks, reserves, CPUs' caches",
        Buddyinfo = "buddyinfo",
            "free blocks of order 0 to 10 by zone; exact while nobody allocates",
        Zonelists = "zonelists", "the order in which requests of each node try the zones",
        Meminfo = "meminfo", "memory of the machine and of each node",
        Interrupts = "interrupts", "interrupts by CPU",
        Threads = "threads", "the kernel's threads",
        Dimms = "dimms", "DIMM slots, with their memory sections of 128 MiB",
    }
}
