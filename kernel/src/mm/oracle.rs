//! The allocator's oracle, asked with the whole machine at rest.

use super::frames;
use crate::arch::{CpuId, context::Task, time};
use crate::thread::{self, quiesce};
use core::fmt;
use tidemark_frames::{Census, Inconsistency};

/// How long compactions and offlines under way are waited for.
const BUSY_NS: u64 = 10_000_000_000;
/// Between two attempts.
const AGAIN_NS: u64 = 1_000_000;

/// Why the oracle does not vouch for the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsound {
    /// Something contradicts something else.
    Books(Inconsistency),
    /// This CPU did not come to rest in time.
    Busy(CpuId),
}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Books(inconsistency) => write!(f, "the books are wrong: {inconsistency:?}"),
            Self::Busy(cpu) => write!(f, "cpu{} does not come to rest", cpu.0),
        }
    }
}

/// Brings the machine to rest and recounts everything. A task that is preempted in the middle of a
/// compaction or an offline is let go on, for ten seconds at most. Task context, interrupts on, no
/// spinlock and no pin held.
///
/// # Errors
///
/// See [`Unsound`].
pub fn recount(task: &Task) -> Result<Census, Unsound> {
    let until = time::now_ns().saturating_add(BUSY_NS);
    loop {
        let found = quiesce::at_rest(task, || frames().validate_at_rest());
        match found.map_err(|busy| Unsound::Busy(busy.cpu))? {
            Ok(census) => return Ok(census),
            Err(Inconsistency::NotAtRest) if time::now_ns() < until => {
                thread::sleep_ns(task, AGAIN_NS);
            }
            Err(inconsistency) => return Err(Unsound::Books(inconsistency)),
        }
    }
}
