//! Self-tests of the console and of the backtraces; run in the guest.

mod typed;

use super::support::tests;
use crate::arch::context::{HardIrq, Nmi, Task};
use crate::arch::entry::TrapFrame;
use crate::arch::{ipi, nmi, percpu, pin, time, without_interrupts};
use crate::console::{self, Deferred, lost_total, must_only_store, port::COM1};
use crate::selftest::{Group, Outcome, Report};
use crate::{info, panic};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use typed::typed_bytes_are_taken_under_the_port_lock_and_wake_after_it;

/// The group.
pub const GROUP: Group = Group {
    name: "console",
    tests: tests![
        a_deferred_section_only_stores,
        a_print_under_the_port_lock_is_written_later,
        a_full_ring_counts_what_it_refuses,
        every_context_of_every_cpu_prints_at_once,
        typed_bytes_are_taken_under_the_port_lock_and_wake_after_it,
        a_backtrace_names_its_functions,
    ],
};

/// How long anything here may take, on a slow machine too.
const PATIENCE_NS: u64 = 5_000_000_000;

fn passed(holds: bool) -> Outcome {
    if holds { Outcome::Pass } else { Outcome::Fail }
}

fn a_deferred_section_only_stores(_task: &Task, report: &mut Report) -> Outcome {
    let pinned = pin();
    let before = must_only_store();
    let outer = Deferred::enter();
    let inner = Deferred::enter();
    info!("console test: stored in a deferred section");
    let in_both = must_only_store();
    drop(inner);
    let in_outer = must_only_store();
    drop(outer);
    let after = must_only_store();
    drop(pinned);
    let written = time::spin_until(PATIENCE_NS, console::all_written);
    report.note(format_args!(
        "only stores: before {before}, in both sections {in_both}, in the outer one {in_outer}, after {after}; written afterwards {written}"
    ));
    passed(!before && in_both && in_outer && !after && written)
}

fn a_print_under_the_port_lock_is_written_later(_task: &Task, report: &mut Report) -> Outcome {
    let only_stores = {
        let _port = COM1.lock();
        info!("console test: stored under the port's lock");
        must_only_store()
    };
    let written = time::spin_until(PATIENCE_NS, console::all_written);
    report.note(format_args!(
        "only stores {only_stores}, written afterwards {written}"
    ));
    passed(only_stores && written)
}

/// Lines more than a ring has room for, in [`a_full_ring_counts_what_it_refuses`].
const TOO_MANY: u64 = 7;

fn a_full_ring_counts_what_it_refuses(_task: &Task, report: &mut Report) -> Outcome {
    let pinned = pin();
    let empty = time::spin_until(PATIENCE_NS, console::all_written);
    // Nobody else stores on this CPU, and an owner elsewhere takes one line at most: then it waits
    // for the port.
    let (room, lost) = without_interrupts(|| {
        let _port = COM1.lock();
        let (room, before) = (console::room() as u64, lost_total());
        for line in 0..room + TOO_MANY {
            info!("console test: line {line} of {room} and {TOO_MANY}");
        }
        (room, lost_total() - before)
    });
    drop(pinned);
    let written = time::spin_until(PATIENCE_NS, console::all_written);
    report.note(format_args!(
        "room for {room}, {TOO_MANY} more printed, {lost} lost; written afterwards {written}"
    ));
    passed(empty && (TOO_MANY - 1..=TOO_MANY).contains(&lost) && written)
}

/// Lines that one interrupt and one NMI print each, and how often each CPU is sent them.
const ROUNDS: u32 = 5;

static STORM: AtomicBool = AtomicBool::new(false);
static PRINTED_BY_NMI: AtomicU32 = AtomicU32::new(0);
static PRINTED_BY_CALL: AtomicU32 = AtomicU32::new(0);

fn on_nmi(_nmi: &Nmi, _frame: &TrapFrame) {
    if STORM.load(Ordering::Relaxed) {
        let number = PRINTED_BY_NMI.fetch_add(1, Ordering::Relaxed);
        info!("console test: NMI {number}");
    }
}

fn on_call(_irq: &HardIrq, round: usize) {
    // The NMI to itself lands somewhere in the print that follows, or right behind it.
    nmi::send(percpu::cpu_id());
    PRINTED_BY_CALL.fetch_add(1, Ordering::Relaxed);
    info!("console test: interrupt of round {round}");
}

fn every_context_of_every_cpu_prints_at_once(task: &Task, report: &mut Report) -> Outcome {
    static HOOK: spin::Once<bool> = spin::Once::new();
    if !*HOOK.call_once(|| nmi::add_hook(on_nmi).is_ok()) {
        return Outcome::Skip("no NMI hook is free");
    }
    let lost = lost_total();
    let cpus = percpu::online_count() as u32;
    PRINTED_BY_NMI.store(0, Ordering::Relaxed);
    PRINTED_BY_CALL.store(0, Ordering::Relaxed);
    STORM.store(true, Ordering::Relaxed);
    for round in 0..ROUNDS {
        ipi::call_on(
            percpu::online_mask(),
            ipi::CallKind::Call,
            on_call,
            round as usize,
            task,
        );
        info!("console test: task, round {round}");
    }
    let done = time::spin_until(PATIENCE_NS, || {
        PRINTED_BY_NMI.load(Ordering::Relaxed) == ROUNDS * cpus
    });
    STORM.store(false, Ordering::Relaxed);
    let (nmis, calls) = (
        PRINTED_BY_NMI.load(Ordering::Relaxed),
        PRINTED_BY_CALL.load(Ordering::Relaxed),
    );
    let written = time::spin_until(PATIENCE_NS, console::all_written);
    report.note(format_args!(
        "{calls} interrupts and {nmis} NMIs on {cpus} CPUs printed; all written {written}, lost {}",
        lost_total() - lost
    ));
    passed(done && written && calls == ROUNDS * cpus && lost_total() == lost)
}

#[inline(never)]
fn a_backtrace_names_its_functions(_task: &Task, report: &mut Report) -> Outcome {
    let mut named_this = false;
    let mut frames = 0;
    panic::for_each_caller(|place| {
        frames += 1;
        named_this |= place.is_some_and(|place| place.contains("a_backtrace_names_its_functions"));
    });
    report.note(format_args!(
        "{frames} frames, this function among them: {named_this}"
    ));
    passed(named_this && frames >= 3)
}
