//! The response to a failed reclaim: it chooses a victim among the tasks with memory, and prints a
//! report that explains why.

mod pool;
mod report;

pub use pool::{Choice, OomPool, Registry};
pub use report::TaskLine;

use super::report::Requester;
use super::{frames, page_cache, reclaim};
use crate::arch::time::now_ns;
use crate::console::{Level, printk};
use crate::thread;
use crate::warn;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use tidemark_frames::{AllocReport, Gfp, OomOutcome};
use tidemark_sync::{ContextKind, RateLimit, Say, Task};

static REGISTRY: Registry = Registry::new();
static KILLS: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Registers, for good, a thread's memory that may be taken from it. Returns whether there was
/// room.
#[must_use]
pub fn register(pool: &'static OomPool) -> bool {
    REGISTRY.register(pool)
}

/// Returns the number of victims killed so far.
pub fn kills() -> u64 {
    KILLS.load(Ordering::Relaxed)
}

/// Returns how often the allocator gave up on reclaim so far, with a victim or without.
pub fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Chooses a victim, or waits for the last one to die, and reports.
pub(super) fn handle(report: &AllocReport, task: &Task) -> OomOutcome {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let now_ns = now_ns();
    match REGISTRY.choose(now_ns) {
        // The requester is the victim: it can only die if its request fails.
        Choice::Dying(pool) if pool.is_mine() => OomOutcome::NoVictim,
        Choice::Dying(_) => {
            // There is one victim at a time: its memory comes free once it has run.
            thread::sleep_ns(task, reclaim::RELAX_NS);
            OomOutcome::VictimKilled
        }
        Choice::Victim(pool) => {
            let victim = pool.line();
            tell(report, &victim);
            pool.kill(now_ns);
            KILLS.fetch_add(1, Ordering::Relaxed);
            // If the victim is the requester itself, it has its share of the reserves now, or
            // fails.
            OomOutcome::VictimKilled
        }
        Choice::Nobody => {
            if report.gfp.contains(Gfp::NOFAIL) {
                tell_nobody(report, now_ns);
            }
            OomOutcome::NoVictim
        }
    }
}

/// Prints the report: the requester, the zones, the page cache, the tasks and the victim.
fn tell(request: &AllocReport, victim: &TaskLine) {
    warn!("out of memory: {}", Asker(request));
    let zones = || {
        let frames = frames();
        frames
            .zones()
            .map(|zone| (zone, frames.free_blocks(zone.id)))
    };
    let body = fmt::from_fn(|f| {
        report::write_zones(f, zones())?;
        let (resident, pages) = (page_cache::resident(), page_cache::pages());
        writeln!(f, "page cache: {resident} of {pages} pages are in memory")?;
        report::write_tasks(f, REGISTRY.iter().map(OomPool::line))
    });
    printk(Level::Info, format_args!("{body}"));
    let victim = fmt::from_fn(|f| report::write_victim(f, victim));
    warn!("{victim}");
}

/// Reports, now and then, a request that cannot fail and is retried while no task can be killed for
/// it.
fn tell_nobody(request: &AllocReport, now_ns: u64) {
    static LIMIT: RateLimit = RateLimit::new(1, 5_000);
    if let Say::Now { suppressed } = LIMIT.ask(now_ns) {
        warn!(
            "out of memory, nobody to kill, {suppressed} more times: {}",
            Asker(request)
        );
    }
}

/// Names the task that made the request, and the request.
struct Asker<'a>(&'a AllocReport);

impl fmt::Display for Asker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = thread::current() {
            write!(
                f,
                "thread {} on cpu{}: ",
                id.number(),
                crate::arch::cpu_id().0
            )?;
        }
        write!(f, "{}", Requester(self.0, ContextKind::Task))
    }
}
