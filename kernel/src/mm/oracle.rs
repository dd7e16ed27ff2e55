//! Asks the allocator's oracle, with the whole machine at rest.

use super::{frames, page_cache};
use crate::arch::{CpuId, context::Task, time};
use crate::thread::{self, quiesce};
use core::fmt;
use tidemark_frames::{Census, Inconsistency};

/// How long the oracle waits for compactions and offlines under way.
const BUSY_NS: u64 = 10_000_000_000;
/// Pause between two attempts.
const AGAIN_NS: u64 = 1_000_000;

/// Why the oracle does not vouch for the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsound {
    /// Two of the allocator's records contradict each other.
    Books(Inconsistency),
    /// This CPU did not come to rest in time.
    Busy(CpuId),
    /// A page of the cache was in some task's hands all the time.
    CacheBusy,
}

/// The result of a recount.
#[derive(Clone, Copy, Debug)]
pub struct Recount {
    /// The owners of the frames.
    pub census: Census,
    /// Pages that the page cache has in memory, each in a frame that names it as the owner.
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

/// Brings the machine to rest and recounts everything. A task may be preempted in the middle of a
/// compaction or an offline, or while it holds a page of the cache. The oracle then lets it go on,
/// for ten seconds at most. Only task context may call it, with interrupts on and no spinlock or
/// pin held.
///
/// # Errors
///
/// Returns the reason, an [`Unsound`], if the records contradict each other or the machine does not
/// come to rest.
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
