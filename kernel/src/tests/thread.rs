//! Self-tests of threads, interrupts and the switch between them; run in the guest.
//!
//! Nothing here waits by sleeping: every wait has a condition and a deadline.

mod grace;
mod order;
mod registers;
mod rest;
mod wake;

use core::sync::atomic::{AtomicUsize, Ordering::*};

use super::support::ensure;
use crate::{
    arch::{CpuId, context::Task, percpu, time},
    selftest::{Group, Outcome, Report, Test},
    thread::{Entry, Placement, Priority, WaitQueue, spawn},
};

/// The group.
pub const GROUP: Group = Group {
    name: "thread",
    tests: &[
        test(
            "two_threads_take_turns_across_cpus",
            wake::two_threads_take_turns,
        ),
        test("a_wait_ends_at_its_deadline_and_not_before", wake::deadline),
        test("a_sleep_is_never_short", wake::sleep_is_never_short),
        test(
            "a_hard_interrupt_wakes_a_thread",
            wake::hard_interrupt_wakes,
        ),
        test("an_nmi_wakes_a_thread_through_its_cpu", wake::nmi_wakes),
        test("a_mutex_admits_one_thread", wake::mutex_admits_one),
        test(
            "threads_come_and_go_in_the_same_slots",
            wake::slots_are_reused,
        ),
        test(
            "frames_signed_in_interrupts_reach_a_task",
            wake::queue_from_interrupts,
        ),
        test(
            "equal_threads_share_a_cpu_without_yielding",
            order::equal_threads_share,
        ),
        test("an_urgent_thread_preempts_at_once", order::urgent_preempts),
        test(
            "pins_and_sections_hold_off_preemption_until_they_end",
            order::pin_holds_off,
        ),
        test(
            "registers_survive_1000_timer_interrupts",
            registers::survive_timer,
        ),
        test(
            "floating_point_control_belongs_to_the_thread",
            registers::float_control,
        ),
        test(
            "an_interrupted_backward_memmove_leaves_handlers_forwards",
            registers::backward_memmove,
        ),
        test(
            "nothing_moves_while_the_machine_is_at_rest",
            rest::nothing_moves,
        ),
        test(
            "a_pinned_thread_keeps_the_machine_from_rest",
            rest::pinned_thread_refuses,
        ),
        test(
            "a_grace_period_ends_while_cpus_are_idle",
            grace::idle_cpus_acknowledge,
        ),
        test(
            "a_grace_period_waits_for_the_last_unpin",
            grace::waits_for_the_last_unpin,
        ),
    ],
};

const fn test(name: &'static str, run: fn(&Task, &mut Report) -> Outcome) -> Test {
    Test { name, run }
}

/// How long a test waits for anything; far more than it takes.
const PATIENCE_NS: u64 = 20_000_000_000;

fn patience() -> u64 {
    time::now_ns() + PATIENCE_NS
}

/// Threads of the running test that have finished.
static FINISHED: AtomicUsize = AtomicUsize::new(0);
static FINISHED_QUEUE: WaitQueue = WaitQueue::new();

/// Threads that a test started and waits for.
struct Crew {
    size: usize,
}

impl Crew {
    fn new() -> Self {
        FINISHED.store(0, SeqCst);
        Self { size: 0 }
    }

    /// Starts a thread that ends with [`finished`]; false if there is no slot for it.
    fn start(&mut self, cpu: CpuId, priority: Priority, entry: Entry, arg: usize) -> bool {
        let started = spawn("selftest", Placement::Cpu(cpu), priority, entry, arg).is_ok();
        self.size += usize::from(started);
        started
    }

    /// Waits until all have finished; false if they did not in time.
    fn wait(&self, task: &Task) -> bool {
        FINISHED_QUEUE
            .wait_until(task, patience(), || FINISHED.load(SeqCst) >= self.size)
            .is_ok()
    }
}

/// The last thing that a crew's thread does.
fn finished(task: &Task) {
    FINISHED.fetch_add(1, SeqCst);
    FINISHED_QUEUE.wake_all(task);
}

/// The `index`th online CPU, round and round.
fn nth_cpu(index: usize) -> CpuId {
    let online = percpu::online_count().max(1);
    percpu::online().nth(index % online).unwrap_or(CpuId(0))
}
