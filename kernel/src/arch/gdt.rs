//! Segments, the task state segment and the interrupt stacks of one CPU.

/// The descriptor tables of one CPU.
#[derive(Debug)]
pub struct CpuTables {}

impl CpuTables {
    /// Returns empty tables.
    pub const fn new() -> Self {
        Self {}
    }
}
