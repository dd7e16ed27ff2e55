//! The in-kernel self-tests: one module a group, each test a property of the running machine.

mod arch;
mod boot;
mod contexts;
mod frames;
mod hotplug;
mod page_cache;
mod policy;
mod slowpath;
pub(crate) mod support;
mod zonelist;

use crate::{
    arch::context::Task,
    console, mm,
    selftest::{self, Group, Report, Summary},
    thread,
};

/// The groups, in the order in which they run: what others rest upon comes first.
const GROUPS: &[Group] = &[
    boot::GROUP,
    arch::GROUP,
    thread::selftests::GROUP,
    console::selftests::GROUP,
    frames::GROUP,
    contexts::GROUP,
    policy::GROUP,
    zonelist::GROUP,
    slowpath::GROUP,
    page_cache::GROUP,
    hotplug::GROUP,
];

/// Why a test about several CPUs is skipped.
const ONE_CPU: &str = "only one CPU";
/// Why a test about memory that leaves is skipped.
const NO_DIMM: &str = "no DIMM";

/// Runs the self-tests whose `group/test` contains `pattern`, prints KTAP, and returns the counts.
pub fn run(task: &Task, pattern: &str) -> Summary {
    selftest::run_all(task, GROUPS, pattern, validate)
}

/// What must hold after every test: the allocator's books are right, with the whole machine at rest.
fn validate(task: &Task, report: &mut Report) -> Result<(), ()> {
    let found = thread::quiesce::at_rest(task, || mm::frames().validate_at_rest());
    match found {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(inconsistency)) => {
            report.note(format_args!("the books are wrong: {inconsistency:?}"));
            Err(())
        }
        Err(busy) => {
            report.note(format_args!("cpu{} does not come to rest", busy.cpu.0));
            Err(())
        }
    }
}
