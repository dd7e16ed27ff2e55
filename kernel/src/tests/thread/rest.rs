//! The machine at rest.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use super::{Crew, ensure, finished, nth_cpu, patience};
use crate::{
    arch::{MAX_CPUS, context::Task, cpu_id, percpu, time, vectors},
    selftest::{Outcome, Report},
    thread::{Priority, WaitQueue, quiesce, yield_now},
};

static STOP: AtomicBool = AtomicBool::new(false);
static COUNTS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

fn counter(task: &Task, index: usize) {
    while !STOP.load(SeqCst) {
        let _pin = crate::arch::pin();
        COUNTS[index].fetch_add(1, SeqCst);
        COUNTS[index].fetch_add(1, SeqCst);
    }
    finished(task);
}

fn snapshot() -> [(u64, u32); MAX_CPUS] {
    core::array::from_fn(|at| {
        let ticks =
            percpu::get(crate::arch::CpuId(at)).map_or(0, |block| block.taken(vectors::TIMER));
        (COUNTS[at].load(SeqCst), ticks)
    })
}

/// Threads count on every CPU, two steps to a pinned section; at rest no count moves, none is
/// odd, no timer ticks; afterwards all move on.
pub(super) fn nothing_moves(task: &Task, report: &mut Report) -> Outcome {
    STOP.store(false, SeqCst);
    let mut crew = Crew::new();
    let cpus = percpu::online_count();
    for (index, count) in COUNTS.iter().enumerate().take(cpus) {
        count.store(0, SeqCst);
        let started = crew.start(nth_cpu(index), Priority::Normal, counter, index);
        ensure!(report, started, "no slot for counter {index}");
    }
    let mut slowest_ns = 0;
    for round in 0..5 {
        let before: [u64; MAX_CPUS] = core::array::from_fn(|at| COUNTS[at].load(SeqCst));
        let give_up_ns = patience();
        while (0..cpus).any(|at| COUNTS[at].load(SeqCst) == before[at]) {
            ensure!(
                report,
                time::now_ns() < give_up_ns,
                "round {round}: a counter stands still"
            );
            yield_now(task);
        }
        let begin_ns = time::now_ns();
        let rest = quiesce::at_rest(task, || {
            let reached_ns = time::now_ns();
            let first = snapshot();
            time::spin_ns(3_000_000);
            (reached_ns, first, snapshot(), quiesce::nmis_held())
        });
        let (reached_ns, first, second, held) = match rest {
            Ok(seen) => seen,
            Err(error) => {
                report.note(format_args!("cpu{} did not come to rest", error.cpu.0));
                STOP.store(true, SeqCst);
                return Outcome::Fail;
            }
        };
        slowest_ns = slowest_ns.max(reached_ns - begin_ns);
        ensure!(report, first == second, "round {round}: something moved");
        ensure!(
            report,
            first.iter().all(|(count, _)| count % 2 == 0),
            "round {round}: a pinned section was open"
        );
        ensure!(
            report,
            held && !quiesce::nmis_held(),
            "NMIs were not held back, or still are"
        );
    }
    STOP.store(true, SeqCst);
    ensure!(report, crew.wait(task), "a counter did not end");
    const IDLE_RESTS: u64 = 10;
    let begin_ns = time::now_ns();
    for _ in 0..IDLE_RESTS {
        let rest = quiesce::at_rest(task, || ());
        ensure!(report, rest.is_ok(), "no rest while idle: {rest:?}");
    }
    report.note(format_args!(
        "at rest within {slowest_ns} ns while busy; {} ns for a rest while idle",
        (time::now_ns() - begin_ns) / IDLE_RESTS
    ));
    Outcome::Pass
}

/// A thread that stays pinned makes the attempt fail, by its CPU's name; the others go on.
pub(super) fn pinned_thread_refuses(task: &Task, report: &mut Report) -> Outcome {
    static PINNED: AtomicBool = AtomicBool::new(false);
    static PINNED_QUEUE: WaitQueue = WaitQueue::new();
    fn holder(task: &Task, _: usize) {
        let pin = crate::arch::pin();
        PINNED.store(true, SeqCst);
        PINNED_QUEUE.wake_all(task);
        while !STOP.load(SeqCst) {
            core::hint::spin_loop();
        }
        drop(pin);
        finished(task);
    }
    if percpu::online_count() < 2 {
        return Outcome::Skip("needs two CPUs");
    }
    STOP.store(false, SeqCst);
    PINNED.store(false, SeqCst);
    let other = nth_cpu(usize::from(nth_cpu(0) == cpu_id()));
    let mut crew = Crew::new();
    ensure!(
        report,
        crew.start(other, Priority::Normal, holder, 0),
        "no slot for the holder"
    );
    let pinned = PINNED_QUEUE.wait_until(task, patience(), || PINNED.load(SeqCst));
    let refused = quiesce::at_rest_by(task, time::now_ns() + 20_000_000, || ());
    STOP.store(true, SeqCst);
    ensure!(
        report,
        pinned.is_ok() && crew.wait(task),
        "the holder did not end"
    );
    ensure!(
        report,
        refused == Err(quiesce::NotAtRest { cpu: other }),
        "{refused:?} while cpu{} was pinned",
        other.0
    );
    let now = quiesce::at_rest(task, || ());
    ensure!(report, now.is_ok(), "no rest after the pin ended: {now:?}");
    Outcome::Pass
}
