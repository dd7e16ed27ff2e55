//! The demonstration. DIMMs are removed and put back, while interrupt handlers of every CPU
//! allocate atomically and tasks allocate, read back and free.

pub(crate) mod balloon;
mod counts;
mod cycles;
mod plant;
mod probe;
pub(crate) mod random;
mod signature;
pub(crate) mod sources;
mod tasks;
mod window;

use crate::arch::{context::Task, percpu};
use crate::console::{self, Level, printk};
use crate::mm::{self, oracle::Recount, page_cache};
use crate::thread::{self, Placement, Priority, ThreadId};
use crate::{hotplug, info, link, options, warn};
use tidemark_frames::OwnerKind;
use tidemark_wire::{Source, ToHost, Totals};

/// Least number of slow-path entries that each interrupt source of every CPU makes in a whole run.
const SLOW_PATH_ENTRIES: u64 = 1000;
/// Number of rebuilds in a cycle with two DIMMs, each the only memory of its zone: two leave, two
/// come back.
const REBUILDS_A_CYCLE: u64 = 4;

/// The threads of the demonstration.
struct Threads(heapless::Vec<ThreadId, { 2 * crate::arch::MAX_CPUS + 3 }>);

impl Threads {
    fn start(
        &mut self,
        name: &'static str,
        place: Placement,
        priority: Priority,
        entry: thread::Entry,
        arg: usize,
    ) {
        match thread::spawn(name, place, priority, entry, arg) {
            // There is a place for each: two a CPU, and three.
            Ok(id) => drop(self.0.push(id)),
            Err(error) => warn!("demo: no thread {name}: {error:?}"),
        }
    }

    fn join_all(self, task: &Task) {
        for id in self.0 {
            if let Err(error) = thread::join(task, id) {
                warn!("demo: a thread did not end: {error:?}");
            }
        }
    }
}

/// Runs the demonstration. Returns whether it passed, which becomes the kernel's exit value.
pub fn run(task: &Task) -> Verdict {
    let options = options::get();
    let before = recount(task);
    if let Err(error) = sources::hook_in() {
        warn!("demo: the handlers could not be hooked in: {error:?}");
        return Verdict::Failed;
    }
    let mut threads = Threads(heapless::Vec::new());
    balloon::init();
    sources::arm();
    for cpu in percpu::online() {
        let (place, number) = (Placement::Cpu(cpu), cpu.0);
        threads.start("check", place, Priority::High, sources::checker, number);
        threads.start("work", place, Priority::Normal, tasks::worker, number);
    }
    threads.start(
        "balloon",
        Placement::Any,
        Priority::High,
        balloon::thread,
        0,
    );
    threads.start("probe", Placement::Any, Priority::High, probe::thread, 0);
    threads.start("storm", Placement::Any, Priority::Normal, window::storm, 0);
    let hooked = crate::points::set_hook(window::at);
    let rebuilds = u64::from(options.cycles) * REBUILDS_A_CYCLE;
    window::open(SLOW_PATH_ENTRIES / rebuilds + 50);

    plant::at_start(task);
    let (tally, ended) = cycles::run(task, options.cycles, options.seed);
    plant::at_end();

    window::close();
    tasks::finish();
    probe::finish();
    balloon::finish();
    sources::disarm(task);
    threads.join_all(task);
    drop(hooked);
    plant::before_check(task);
    page_cache::verify_all(task);
    let after = recount(task);

    let (rebuilds, cache) = (mm::frames().rebuild_stats(), page_cache::counters());
    let probes = probe::tally();
    let mut totals = Totals {
        cycles: tally.cycles,
        rebuilds: rebuilds.count,
        irqs_off: mm::frames().variant().writes_with_interrupts_off(),
        probes: probes.asked,
        probes_held: probes.held,
        probes_retries: probes.retries,
        probes_failed: probes.failed,
        irq_off_max_ns: rebuilds.irq_off_max_ns,
        irq_off_median_ns: rebuilds.irq_off_median_ns,
        rebuilds_with_interrupts_on: window::interrupts_on(),
        frames_lost: lost(&before, &after),
        pages_corrupted: signature::corrupted() + cache.corrupted,
        pages_checked: signature::checked() + cache.hits,
        pulls: tally.pulls,
        pulls_confirmed: tally.confirmed,
        plugs: tally.plugs,
        migrated: hotplug::migrated_frames(),
        reclaimed: cache.reclaimed,
        log_lost: console::lost_total(),
        validate_ok: before.is_some() && after.is_some(),
        passed: false,
    };
    totals.passed = ended.is_ok() && passed(&totals);
    report(task, &totals);
    if totals.passed {
        Verdict::Passed
    } else {
        Verdict::Failed
    }
}

/// The result of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that the kernel can judge holds.
    Passed,
    /// Some condition does not hold, and the log has said which.
    Failed,
}

/// Returns whether the conditions hold that the kernel can judge by itself. The host judges the
/// others, such as what the protocol promises.
fn passed(totals: &Totals) -> bool {
    let unexplained = |source: Source| {
        let counts = counts::of(source);
        counts.failures
            - counts.failures_fresh_walk_serves
            - counts.failures_under_announced_pressure
    };
    totals.frames_lost == 0
        && totals.pages_corrupted == 0
        && totals.pulls == totals.pulls_confirmed
        && totals.rebuilds_with_interrupts_on == 0
        && totals.validate_ok
        && Source::ALL
            .into_iter()
            .all(|source| unexplained(source) == 0)
}

/// Recounts everything with the machine at rest; returns nothing if the oracle found an
/// inconsistency.
fn recount(task: &Task) -> Option<Recount> {
    mm::frames().drain_all(task);
    let counted = mm::oracle::recount(task);
    if let Err(unsound) = counted {
        warn!("validate: {unsound}");
    }
    counted.ok()
}

/// Returns the number of frames that are lost: not free, and without an owner that still needs
/// them. These are the frames that the demonstration's own users have left behind, and what the
/// kernel holds beyond what it held before.
fn lost(before: &Option<Recount>, after: &Option<Recount>) -> u64 {
    let (Some(before), Some(after)) = (before, after) else {
        return 0;
    };
    let (before, cached, after) = (&before.census, after.cached, &after.census);
    let grown = |kind: OwnerKind| after.owned(kind).saturating_sub(before.owned(kind));
    [
        OwnerKind::None,
        OwnerKind::Interrupt,
        OwnerKind::Balloon,
        OwnerKind::Task,
        OwnerKind::Kernel,
    ]
    .into_iter()
    .map(grown)
    .sum::<u64>()
        + after.owned(OwnerKind::PageCache).abs_diff(cached)
}

fn report(task: &Task, totals: &Totals) {
    // The host prints the table; without a host, the log is the only output.
    let level = if link::present() {
        Level::Debug
    } else {
        Level::Info
    };
    for source in Source::ALL {
        let counts = counts::of(source);
        link::send(task, &ToHost::Counts { source, counts });
        printk(
            level,
            format_args!(
                "{:<13} {:>8} requests, {} failed ({} over a rebuild, {} of them avoidable), {} slow, {} odd, {} overlapped, {} retries",
                source.name(),
                counts.requests,
                counts.failures,
                counts.failures_overlapping_rebuild,
                counts.failures_fresh_walk_serves,
                counts.slow_path,
                counts.odd,
                counts.overlapped,
                counts.retries
            ),
        );
    }
    if window::not_squeezed() != 0 {
        warn!(
            "demo: {} rebuilds went on without the squeeze",
            window::not_squeezed()
        );
    }
    info!(
        "{}: {} rebuilds, {} of {} pulls confirmed, {} frames lost, {} of {} pages corrupted, validate {}",
        if totals.passed { "passed" } else { "FAILED" },
        totals.rebuilds,
        totals.pulls_confirmed,
        totals.pulls,
        totals.frames_lost,
        totals.pages_corrupted,
        totals.pages_checked,
        if totals.validate_ok { "ok" } else { "FAILED" },
    );
    link::send(task, &ToHost::Totals(*totals));
}
