//! The in-kernel self-tests: one module a group, each test a property of the running machine.

mod arch;
mod boot;
mod compaction;
mod console;
mod contexts;
mod cpuset;
mod frames;
mod hotplug;
mod leftovers;
mod page_cache;
mod policy;
mod slowpath;
#[cfg(feature = "lab")]
mod steps;
mod storm;
pub(crate) mod support;
mod thread;
mod watchdog;
mod zonelist;

use crate::{
    arch::context::Task,
    mm::{self, free_errors},
    selftest::{self, Group, Report, Summary},
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tidemark_frames::OwnerKind;

/// The groups, in the order in which they run: what others rest upon comes first.
const GROUPS: &[Group] = &[
    boot::GROUP,
    arch::GROUP,
    thread::GROUP,
    console::GROUP,
    watchdog::GROUP,
    frames::GROUP,
    contexts::GROUP,
    #[cfg(feature = "lab")]
    steps::GROUP,
    storm::GROUP,
    policy::GROUP,
    cpuset::GROUP,
    zonelist::GROUP,
    slowpath::GROUP,
    page_cache::GROUP,
    compaction::GROUP,
    hotplug::GROUP,
    leftovers::GROUP,
];

/// Why a test about several CPUs is skipped.
pub(crate) const ONE_CPU: &str = "only one CPU";
/// Why a test about memory that leaves is skipped.
const NO_DIMM: &str = "no DIMM";
/// Why a test that needs the host is skipped.
const NO_LINK: &str = "no host link";

/// Runs the self-tests whose `group/test` contains `pattern`, prints KTAP, and returns the counts.
pub fn run(task: &Task, pattern: &str) -> Summary {
    selftest::run_all(task, GROUPS, pattern, validate)
}

/// Refused frees and corrupt pages that tests have provoked. Written by the tests, one after
/// another.
static FREE_ERRORS_EXPECTED: AtomicU64 = AtomicU64::new(0);
static CORRUPTIONS_EXPECTED: AtomicU64 = AtomicU64::new(0);

/// Checks what must hold after every test. With the whole machine at rest, the allocator's records
/// are consistent. Only the bad frees and corrupt pages that the test provoked were found.
fn validate(task: &Task, report: &mut Report) -> Result<(), ()> {
    let counted = mm::oracle::recount(task);
    let books = match counted {
        Ok(found) if found.census.owned(OwnerKind::PageCache) == found.cached => Ok(()),
        Ok(found) => {
            report.note(format_args!(
                "the page cache owns {} frames, and has {} pages in them",
                found.census.owned(OwnerKind::PageCache),
                found.cached
            ));
            Err(())
        }
        Err(unsound) => {
            report.note(format_args!("{unsound}"));
            Err(())
        }
    };
    let mut nothing_else = Ok(());
    for (what, expected, found) in [
        ("bad frees", &FREE_ERRORS_EXPECTED, free_errors::total()),
        (
            "corrupt pages",
            &CORRUPTIONS_EXPECTED,
            mm::page_cache::counters().corrupted,
        ),
    ] {
        // The next test begins anew.
        let expected = expected.swap(found, Relaxed);
        if found != expected {
            report.note(format_args!("{found} {what}, {expected} were provoked"));
            nothing_else = Err(());
        }
    }
    books.and(nothing_else)
}
