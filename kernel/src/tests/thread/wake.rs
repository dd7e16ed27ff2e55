//! Waiting and waking.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};

use super::{Crew, PATIENCE_NS, ensure, finished, nth_cpu, patience};
use crate::{
    arch::{
        MAX_CPUS,
        context::{HardIrq, Nmi, Task},
        cpu_id,
        entry::TrapFrame,
        ipi::{self, CallKind},
        nmi, percpu, time,
    },
    selftest::{Outcome, Report},
    thread::{
        DeferredWake, Event, Mutex, Placement, Priority, Ring, WaitQueue, join, sleep_ns, spawn,
        yield_now,
    },
};

const TURNS: usize = 1000;
static TURN: AtomicUsize = AtomicUsize::new(0);
static TURN_CHANGED: WaitQueue = WaitQueue::new();

fn player(task: &Task, parity: usize) {
    for round in 0..TURNS {
        let mine = 2 * round + parity;
        if TURN_CHANGED
            .wait_until(task, patience(), || TURN.load(SeqCst) == mine)
            .is_err()
        {
            return;
        }
        TURN.store(mine + 1, SeqCst);
        TURN_CHANGED.wake_one(task);
    }
    finished(task);
}

/// Two threads hand a turn to and fro: a lost wake-up stops the game.
pub(super) fn two_threads_take_turns(task: &Task, report: &mut Report) -> Outcome {
    for (a, b) in [(0, 1), (0, 0)] {
        TURN.store(0, SeqCst);
        let mut crew = Crew::new();
        let begin_ns = time::now_ns();
        let started = crew.start(nth_cpu(a), Priority::Normal, player, 0)
            && crew.start(nth_cpu(b), Priority::Normal, player, 1);
        ensure!(report, started, "no slots for two threads");
        ensure!(
            report,
            crew.wait(task),
            "the game stopped at turn {} of {}",
            TURN.load(SeqCst),
            2 * TURNS
        );
        report.note(format_args!(
            "cpu{} and cpu{}: {} ns a turn",
            nth_cpu(a).0,
            nth_cpu(b).0,
            (time::now_ns() - begin_ns) / (2 * TURNS as u64)
        ));
    }
    Outcome::Pass
}

/// A wait whose condition never holds ends after its deadline, and says so.
pub(super) fn deadline(task: &Task, report: &mut Report) -> Outcome {
    static NEVER: WaitQueue = WaitQueue::new();
    let mut worst_ns = 0;
    for _ in 0..10 {
        let deadline_ns = time::now_ns() + 3_000_000;
        let waited = NEVER.wait_until(task, deadline_ns, || false);
        let now_ns = time::now_ns();
        ensure!(report, waited.is_err(), "a false condition was met");
        ensure!(
            report,
            now_ns >= deadline_ns,
            "{} ns early",
            deadline_ns - now_ns
        );
        worst_ns = worst_ns.max(now_ns - deadline_ns);
    }
    report.note(format_args!("at most {worst_ns} ns late"));
    Outcome::Pass
}

/// Sleeps of several lengths, which also overtake each other on one CPU's timer list.
pub(super) fn sleep_is_never_short(task: &Task, report: &mut Report) -> Outcome {
    static SHORT: AtomicUsize = AtomicUsize::new(0);
    static LATEST_NS: AtomicU64 = AtomicU64::new(0);
    fn sleeper(task: &Task, number: usize) {
        for round in 0..5 {
            let want_ns = 1_000_000 * (1 + (number * 7 + round * 3) as u64 % 5);
            let begin_ns = time::now_ns();
            sleep_ns(task, want_ns);
            let slept_ns = time::now_ns() - begin_ns;
            if slept_ns < want_ns {
                SHORT.fetch_add(1, SeqCst);
            }
            LATEST_NS.fetch_max(slept_ns.saturating_sub(want_ns), SeqCst);
        }
        finished(task);
    }
    let mut crew = Crew::new();
    for number in 0..8 {
        let started = crew.start(nth_cpu(number / 4), Priority::Normal, sleeper, number);
        ensure!(report, started, "no slot for sleeper {number}");
    }
    ensure!(report, crew.wait(task), "a sleeper did not wake");
    ensure!(
        report,
        SHORT.load(SeqCst) == 0,
        "{} sleeps were short",
        SHORT.load(SeqCst)
    );
    report.note(format_args!("at most {} ns late", LATEST_NS.load(SeqCst)));
    Outcome::Pass
}

/// A call on each CPU signals an event on which the test waits.
pub(super) fn hard_interrupt_wakes(task: &Task, report: &mut Report) -> Outcome {
    static CALLED: Event = Event::new();
    fn signal(irq: &HardIrq, _: usize) {
        CALLED.signal(irq);
    }
    for cpu in percpu::online() {
        ipi::call_on(percpu::mask_of(cpu), CallKind::Call, signal, 0, task);
        ensure!(
            report,
            CALLED.wait_until(task, patience()).is_ok(),
            "no wake-up from cpu{}",
            cpu.0
        );
    }
    Outcome::Pass
}

static NMI_SEEN: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
static NMI_PUSHES: AtomicBool = AtomicBool::new(false);
static NMI_QUEUE: WaitQueue = WaitQueue::new();
static NMI_WAKE: DeferredWake = DeferredWake::new(&NMI_QUEUE);
static HOOKED: AtomicBool = AtomicBool::new(false);

fn on_nmi(nmi: &Nmi, _: &TrapFrame) {
    let cpu = cpu_id();
    if NMI_PUSHES.load(SeqCst) {
        sign(cpu.0);
    }
    NMI_SEEN[cpu.0].store(true, SeqCst);
    NMI_WAKE.raise(nmi);
}

/// Registers this module's NMI handler, once.
fn hook_nmi() -> bool {
    if HOOKED.swap(true, SeqCst) {
        return true;
    }
    NMI_WAKE.register();
    nmi::add_hook(on_nmi).is_ok()
}

/// An NMI on each CPU raises a deferred wake-up of the test's thread.
pub(super) fn nmi_wakes(task: &Task, report: &mut Report) -> Outcome {
    ensure!(report, hook_nmi(), "no room for an NMI handler");
    for cpu in percpu::online() {
        let seen = &NMI_SEEN[cpu.0];
        seen.store(false, SeqCst);
        nmi::send(cpu);
        let woken = NMI_QUEUE.wait_until(task, patience(), || seen.load(SeqCst));
        ensure!(
            report,
            woken.is_ok(),
            "no wake-up from an NMI on cpu{}",
            cpu.0
        );
    }
    Outcome::Pass
}

/// Threads on every CPU add to a number in two steps with a switch in between.
pub(super) fn mutex_admits_one(task: &Task, report: &mut Report) -> Outcome {
    const ROUNDS: u64 = 100;
    static TOTAL: Mutex<u64> = Mutex::new(0);
    fn adder(task: &Task, _: usize) {
        for round in 0..ROUNDS {
            let mut total = TOTAL.lock(task);
            let before = *total;
            if round % 4 == 0 {
                yield_now(task);
            }
            *total = before + 1;
        }
        finished(task);
    }
    *TOTAL.lock(task) = 0;
    let mut crew = Crew::new();
    for number in 0..2 * percpu::online_count().clamp(2, 8) {
        let started = crew.start(nth_cpu(number), Priority::Normal, adder, 0);
        ensure!(report, started, "no slot for adder {number}");
    }
    ensure!(report, crew.wait(task), "a thread never got the lock");
    let total = *TOTAL.lock(task);
    let expected = crew.size as u64 * ROUNDS;
    ensure!(report, total == expected, "{total} instead of {expected}");
    Outcome::Pass
}

/// More threads than there are slots, some at a time; each id is waited for, also twice.
pub(super) fn slots_are_reused(task: &Task, report: &mut Report) -> Outcome {
    static RUN: AtomicUsize = AtomicUsize::new(0);
    fn body(_: &Task, arg: usize) {
        RUN.fetch_add(arg, SeqCst);
    }
    RUN.store(0, SeqCst);
    const ROUNDS: usize = 100;
    for round in 0..ROUNDS {
        let ids = [0, 1, 2, 3].map(|at| {
            let placement = match at {
                0 => Placement::Any,
                _ => Placement::Cpu(nth_cpu(round + at)),
            };
            spawn("short", placement, Priority::Normal, body, 1)
        });
        for id in ids {
            let Ok(id) = id else {
                report.note(format_args!("round {round}: no slot"));
                return Outcome::Fail;
            };
            let joined = join(task, id).and_then(|()| join(task, id));
            ensure!(report, joined.is_ok() && !id.is_alive(), "{id:?} lives on");
        }
    }
    let run = RUN.load(SeqCst);
    ensure!(report, run == 4 * ROUNDS, "{run} of {} ran", 4 * ROUNDS);
    Outcome::Pass
}

static SIGNED: Ring<usize, 16> = Ring::new();
static PUSHED: AtomicUsize = AtomicUsize::new(0);
static REFUSED: AtomicUsize = AtomicUsize::new(0);
static ARRIVED: WaitQueue = WaitQueue::new();

fn sign(cpu: usize) {
    match SIGNED.push(cpu) {
        Ok(()) => PUSHED.fetch_add(1, SeqCst),
        Err(_) => REFUSED.fetch_add(1, SeqCst),
    };
}

/// Calls and NMIs on every CPU push into one queue while a task empties it: what was accepted
/// arrives, and nothing else.
pub(super) fn queue_from_interrupts(task: &Task, report: &mut Report) -> Outcome {
    fn push(irq: &HardIrq, _: usize) {
        sign(cpu_id().0);
        ARRIVED.wake_one(irq);
    }
    ensure!(report, hook_nmi(), "no room for an NMI handler");
    let everyone = percpu::online_mask();
    let mut taken = 0;
    PUSHED.store(0, SeqCst);
    REFUSED.store(0, SeqCst);
    NMI_PUSHES.store(true, SeqCst);
    for _ in 0..50 {
        for cpu in percpu::online() {
            nmi::send(cpu);
        }
        ipi::call_on(everyone, CallKind::Call, push, 0, task);
        let some = ARRIVED.wait_until(task, patience(), || !SIGNED.is_empty());
        ensure!(report, some.is_ok(), "nothing arrived in {PATIENCE_NS} ns");
        while let Some(cpu) = SIGNED.pop() {
            ensure!(
                report,
                everyone >> cpu & 1 != 0,
                "a value that nobody pushed: {cpu}"
            );
            taken += 1;
        }
    }
    NMI_PUSHES.store(false, SeqCst);
    // An NMI that was sent may still be on its way: the last ones are waited for by their count.
    let all = ARRIVED.wait_until(task, time::now_ns() + 50_000_000, || {
        while SIGNED.pop().is_some() {
            taken += 1;
        }
        false
    });
    let pushed = PUSHED.load(SeqCst);
    ensure!(
        report,
        all.is_err() && taken == pushed,
        "{pushed} pushed, {taken} taken"
    );
    report.note(format_args!(
        "{pushed} pushed, {} refused",
        REFUSED.load(SeqCst)
    ));
    Outcome::Pass
}
