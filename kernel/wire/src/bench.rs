//! What the guest's benchmark says.

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
    /// Order 9.
    Order9,
    /// Order 10.
    Order10,
    /// 10,000 single frames one by one, freed at random, the caches drained before and after; a
    /// frame.
    Random,
    /// The dearest free of that run.
    WorstFree,
    /// A mix of orders 0 to 9 in memory that is 60 to 80 % full; an operation.
    Mix,
    /// The dearest operation of that mix.
    WorstOfMix,
    /// What each zone below its mark adds to a walk of the fallback list.
    ZoneSkipped,
    /// GFP_ATOMIC that fails, on two nodes that have nothing.
    FailingAtomic,
    /// Bytes of the allocator's books, frame table included, a frame.
    Metadata,
    /// A rebuild of the zonelists. Measured by itself, as the next one.
    Rebuild,
    /// Its part with interrupts off.
    RebuildIrqOff,
}

impl BenchRow {
    /// The rows about a rebuild, which have a table of their own.
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

/// What was measured for a row, in thousandths of its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchResult {
    /// The row.
    pub row: BenchRow,
    /// Median of the repetitions.
    pub median_milli: u64,
    /// Least of them.
    pub min_milli: u64,
    /// Most of them.
    pub max_milli: u64,
    /// Their number.
    pub repetitions: u32,
}
