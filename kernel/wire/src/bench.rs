//! The messages of the guest's benchmark.

use serde::{Deserialize, Serialize};

/// A row of the guest's benchmark. All but the metadata count guest instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BenchRow {
    /// GFP_ATOMIC, order 0: a pair in a task with interrupts on.
    AtomicIrqsOn,
    /// GFP_ATOMIC, order 0: a pair in a task with interrupts off.
    AtomicIrqsOff,
    /// GFP_ATOMIC, order 0: a pair in a hard interrupt handler.
    AtomicHardIrq,
    /// GFP_KERNEL, order 0: a pair in a task.
    Kernel,
    /// GFP_ATOMIC, order 3: a pair in a task.
    Order3,
    /// GFP_ATOMIC, order 9: a pair in a task.
    Order9,
    /// GFP_ATOMIC, order 10: a pair in a task.
    Order10,
    /// 10,000 single frames allocated one by one and freed at random, the per-CPU caches drained
    /// before and after; per frame.
    Random,
    /// The most expensive free of that run.
    WorstFree,
    /// A mix of orders 0 to 9 in memory that is 60 to 80 % full; per operation.
    Mix,
    /// The most expensive operation of that mix.
    WorstOfMix,
    /// The cost that each zone below its watermark adds to a walk of the zonelist.
    ZoneSkipped,
    /// GFP_ATOMIC that fails, on two nodes without free frames.
    FailingAtomic,
    /// Bytes of the allocator's metadata for each frame, frame table included.
    Metadata,
    /// A rebuild of the zonelists. It is measured by itself, like the next row.
    Rebuild,
    /// The part of a rebuild with interrupts off.
    RebuildIrqOff,
}

impl BenchRow {
    /// The rows about a rebuild. They have a table of their own.
    pub const OF_REBUILD: [BenchRow; 2] = [BenchRow::Rebuild, BenchRow::RebuildIrqOff];

    /// All other rows, in the order of the table.
    pub const ALL: [BenchRow; 14] = [
        BenchRow::AtomicIrqsOn,
        BenchRow::AtomicIrqsOff,
        BenchRow::AtomicHardIrq,
        BenchRow::Kernel,
        BenchRow::Order3,
        BenchRow::Order9,
        BenchRow::Order10,
        BenchRow::Random,
        BenchRow::WorstFree,
        BenchRow::Mix,
        BenchRow::WorstOfMix,
        BenchRow::ZoneSkipped,
        BenchRow::FailingAtomic,
        BenchRow::Metadata,
    ];
}

/// The measurement of a row, in thousandths of its unit: guest instructions, or bytes for the
/// metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchResult {
    /// The row.
    pub row: BenchRow,
    /// Median of the repetitions.
    pub median_milli: u64,
    /// Minimum of the repetitions.
    pub min_milli: u64,
    /// Maximum of the repetitions.
    pub max_milli: u64,
    /// Number of repetitions.
    pub repetitions: u32,
}
