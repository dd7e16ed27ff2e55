//! Grace periods.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

use super::{Crew, ensure, finished, nth_cpu, patience};
use crate::{
    arch::{context::Task, cpu_id, percpu, time},
    selftest::{Outcome, Report},
    thread::{Priority, WaitQueue, grace, yield_now},
};

static STOP: AtomicBool = AtomicBool::new(false);
static INSIDE: AtomicU32 = AtomicU32::new(0);
static INSIDE_QUEUE: WaitQueue = WaitQueue::new();

/// Stays in two nested sections until told, and leaves the outer one last.
fn reader(task: &Task, _: usize) {
    let outer = crate::arch::pin();
    let inner = crate::arch::pin();
    INSIDE.fetch_add(1, SeqCst);
    INSIDE_QUEUE.wake_all(task);
    while !STOP.load(SeqCst) {
        drop(crate::arch::pin());
    }
    drop(inner);
    let early = grace::is_over();
    drop(outer);
    INSIDE.store(if early { u32::MAX } else { 0 }, SeqCst);
    finished(task);
}

/// Nobody is inside anything: the idle CPUs say so, as often as they are asked.
pub(super) fn idle_cpus_acknowledge(task: &Task, report: &mut Report) -> Outcome {
    let begin_ns = time::now_ns();
    for round in 0..50 {
        grace::begin(task);
        let give_up_ns = patience();
        while !grace::is_over() {
            ensure!(
                report,
                time::now_ns() < give_up_ns,
                "round {round} does not end"
            );
            yield_now(task);
        }
        grace::wait(task);
    }
    report.note(format_args!(
        "{} ns for one on {} CPUs",
        (time::now_ns() - begin_ns) / 50,
        percpu::online_count()
    ));
    Outcome::Pass
}

/// One CPU is inside: the period begins, and ends when that CPU has left its last section.
pub(super) fn waits_for_the_last_unpin(task: &Task, report: &mut Report) -> Outcome {
    if percpu::online_count() < 2 {
        return Outcome::Skip("needs two CPUs");
    }
    STOP.store(false, SeqCst);
    INSIDE.store(0, SeqCst);
    let other = nth_cpu(usize::from(nth_cpu(0) == cpu_id()));
    let mut crew = Crew::new();
    let started = crew.start(other, Priority::Normal, reader, 0);
    ensure!(report, started, "no slot for the reader");
    let inside = INSIDE_QUEUE.wait_until(task, patience(), || INSIDE.load(SeqCst) == 1);
    grace::begin(task);
    let mut early = false;
    // Everybody has been asked when `begin` returns; what could end it too early has happened.
    for _ in 0..100 {
        early |= grace::is_over();
        yield_now(task);
    }
    STOP.store(true, SeqCst);
    let ended = crew.wait(task);
    ensure!(report, inside.is_ok() && ended, "the reader did not end");
    ensure!(report, !early, "it ended while a CPU was inside");
    ensure!(
        report,
        INSIDE.load(SeqCst) == 0,
        "it ended with the inner section"
    );
    grace::wait(task);
    Outcome::Pass
}
