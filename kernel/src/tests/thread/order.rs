//! Which thread runs, and when.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use super::{Crew, PATIENCE_NS, ensure, finished, nth_cpu};
use crate::{
    arch::{context::Task, cpu_id, preempt, time},
    selftest::{Outcome, Report},
    thread::Priority,
};

static STOP: AtomicBool = AtomicBool::new(false);
static ROUNDS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Two threads that never give way spin on one CPU until each has seen the other move often.
pub(super) fn equal_threads_share(task: &Task, report: &mut Report) -> Outcome {
    fn spinner(task: &Task, me: usize) {
        let give_up_ns = time::now_ns() + PATIENCE_NS;
        let mut changes = 0;
        let mut last = 0;
        while changes < 5 && time::now_ns() < give_up_ns {
            ROUNDS[me].fetch_add(1, SeqCst);
            let other = ROUNDS[1 - me].load(SeqCst);
            if other != last {
                (last, changes) = (other, changes + 1);
            }
        }
        // The other one needs to see us move as often.
        while !STOP.load(SeqCst) && time::now_ns() < give_up_ns {
            ROUNDS[me].fetch_add(1, SeqCst);
        }
        if changes == 5 {
            finished(task);
        }
    }
    STOP.store(false, SeqCst);
    let mut crew = Crew::new();
    let cpu = nth_cpu(1);
    for me in 0..2 {
        let started = crew.start(cpu, Priority::Normal, spinner, me);
        ensure!(report, started, "no slot for spinner {me}");
    }
    // On a machine with one CPU the test's own thread takes turns with them as well.
    let give_up_ns = time::now_ns() + PATIENCE_NS;
    let moved = |from: &[u64; 2]| (0..2).all(|at| ROUNDS[at].load(SeqCst) > from[at]);
    let mut seen = 0;
    while seen < 10 && time::now_ns() < give_up_ns {
        let from = [ROUNDS[0].load(SeqCst), ROUNDS[1].load(SeqCst)];
        while !moved(&from) && time::now_ns() < give_up_ns {
            core::hint::spin_loop();
        }
        seen += 1;
    }
    STOP.store(true, SeqCst);
    ensure!(
        report,
        crew.wait(task),
        "a spinner never ran beside the other"
    );
    Outcome::Pass
}

static URGENT_RAN: AtomicBool = AtomicBool::new(false);

fn urgent(task: &Task, _: usize) {
    URGENT_RAN.store(true, SeqCst);
    finished(task);
}

/// Starting a more urgent thread on the own CPU runs it before the next statement.
pub(super) fn urgent_preempts(task: &Task, report: &mut Report) -> Outcome {
    for priority in [Priority::High, Priority::Low] {
        URGENT_RAN.store(false, SeqCst);
        let mut crew = Crew::new();
        let pin = crate::arch::pin();
        let here = cpu_id();
        drop(pin);
        ensure!(
            report,
            crew.start(here, priority, urgent, 0),
            "no slot for the urgent thread"
        );
        let ran = URGENT_RAN.load(SeqCst);
        ensure!(
            report,
            ran == (priority == Priority::High),
            "{priority:?}: ran at once: {ran}"
        );
        ensure!(report, crew.wait(task), "{priority:?} never ran");
    }
    Outcome::Pass
}

/// While a pin or a gated section of the allocator is open a more urgent thread waits, ticks or
/// not; it runs when the last of them ends.
pub(super) fn pin_holds_off(task: &Task, report: &mut Report) -> Outcome {
    URGENT_RAN.store(false, SeqCst);
    let mut crew = Crew::new();
    let outer = crate::arch::pin();
    let inner = crate::arch::pin();
    let started = crew.start(cpu_id(), Priority::High, urgent, 0);
    time::spin_ns(10_000_000);
    let while_pinned = URGENT_RAN.load(SeqCst);
    drop(inner);
    let half_pinned = URGENT_RAN.load(SeqCst);
    let asked = preempt::need_resched();
    preempt::enter_gate();
    drop(outer);
    time::spin_ns(10_000_000);
    let in_gate = URGENT_RAN.load(SeqCst);
    let is_owed = preempt::leave_gate();
    // The end of a section does this if anything is owed. A drain may have come, too.
    let request = tidemark_frames::Request::nowait(tidemark_frames::Order::ZERO);
    drop(crate::mm::frames().alloc(task, &request));
    drop(crate::arch::pin());
    let after = URGENT_RAN.load(SeqCst);
    ensure!(report, started, "no slot for the urgent thread");
    ensure!(report, !while_pinned, "the pin did not hold");
    ensure!(report, !half_pinned, "the inner of two pins ended both");
    ensure!(report, asked, "no switch was asked for");
    ensure!(report, !in_gate, "the gate did not hold");
    ensure!(report, is_owed, "the gate's end does not owe the switch");
    ensure!(report, after, "the end of the pin did not give way");
    ensure!(report, crew.wait(task), "the urgent thread never finished");
    Outcome::Pass
}
