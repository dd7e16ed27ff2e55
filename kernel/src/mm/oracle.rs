//! The allocator's oracle, asked with the whole machine at rest.

use super::{frames, page_cache};
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
    /// Somebody has been at work on a page of the cache all the time.
    CacheBusy,
}

/// What a recount found.
#[derive(Clone, Copy, Debug)]
pub struct Recount {
    /// Whose the frames are.
    pub census: Census,
    /// Pages that the page cache has in memory, each in a frame that is its own.
    pub cached: u64,
}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Books(inconsistency) => write!(f, "the books are wrong: {inconsistency:?}"),
            Self::Busy(cpu) => write!(f, "cpu{} does not come to rest", cpu.0),
            Self::CacheBusy => f.write_str("a page of the cache does not come to rest"),
        }
    }
}

/// Brings the machine to rest and recounts everything. A task that is preempted in the middle of a
/// compaction or an offline, or with a page of the cache in its hands, is let go on, for ten
/// seconds at most. Task context, interrupts on, no spinlock and no pin held.
///
/// # Errors
///
/// See [`Unsound`].
pub fn recount(task: &Task) -> Result<Recount, Unsound> {
    let until = time::now_ns().saturating_add(BUSY_NS);
    loop {
        let count = || (frames().validate_at_rest(), page_cache::count_at_rest());
        let found = quiesce::at_rest(task, count).map_err(|busy| Unsound::Busy(busy.cpu))?;
        let unsound = match found {
            (Ok(census), Some(cached)) => return Ok(Recount { census, cached }),
            (Ok(_), None) => Unsound::CacheBusy,
            (Err(Inconsistency::NotAtRest), _) => Unsound::Books(Inconsistency::NotAtRest),
            (Err(inconsistency), _) => return Err(Unsound::Books(inconsistency)),
        };
        if time::now_ns() >= until {
            return Err(unsound);
        }
        thread::sleep_ns(task, AGAIN_NS);
    }
}
