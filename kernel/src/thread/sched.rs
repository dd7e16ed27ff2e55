//! The scheduler of each CPU: which thread runs next, and the ways in which a thread leaves the
//! CPU.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::{
    grace,
    links::Slot,
    quiesce,
    runqueue::{Priority, RunQueue},
    stack,
    switch::{self, FLOAT_CONTROL, Saved},
    table::{
        DEADLINES, Entry, JoinError, MAX_THREADS, Placement, RUN_LINKS, SpawnError, State,
        ThreadId, current_slot, set_current, thread,
    },
    timer::TimerList,
    wait,
};
use crate::arch::{
    CpuId, Irqs, MAX_CPUS,
    context::{HardIrq, Task},
    cpu_id, entry,
    interrupts::{self, IrqState},
    ipi, percpu, preempt, time, timer,
};

use tidemark_sync::{IrqSpinLock, Rank};

/// Ticks that a thread may run before one of the same priority gets its turn.
const QUANTUM_TICKS: u32 = 4;

/// One CPU's scheduler.
#[derive(Debug)]
struct Scheduler {
    ready: RunQueue,
    timers: TimerList,
    /// The thread that runs. It is the idle one if no other does.
    current: Slot,
    /// When the CPU switched to `current`, in nanoseconds since boot.
    since_ns: u64,
    /// Whether the CPU has entered the scheduler.
    entered: bool,
}

/// The schedulers. Any CPU takes the lock of any of them; only the CPU itself changes `current` and
/// takes from `ready`.
static SCHEDULERS: [IrqSpinLock<Scheduler, Irqs>; MAX_CPUS] = [const {
    IrqSpinLock::new(
        Rank::RunQueue,
        Scheduler {
            ready: RunQueue::new(),
            timers: TimerList::new(),
            current: 0,
            since_ns: 0,
            entered: false,
        },
    )
}; MAX_CPUS];

/// Number of spawned threads on each CPU. It is a hint for [`Placement::Any`], which any CPU
/// changes.
static POPULATION: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

/// The reason why a thread leaves the CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// It gives way to others.
    Yielding,
    /// Another one is to run, because it is more urgent or because this one's turn is over.
    Preempted,
    /// It waits for [`unpark`], or for the deadline (since boot).
    Blocked { deadline_ns: Option<u64> },
    /// It has ended.
    Dead,
}

impl Scheduler {
    /// Returns whether a ready thread should run instead of the current one. `turn_over` tells
    /// whether the current one's turn is over.
    fn should_switch(&self, idle: Slot, turn_over: bool) -> bool {
        if self.current == idle {
            return !self.ready.is_empty();
        }
        let priority = thread(self.current).priority();
        self.ready.has_above(priority) || turn_over && self.ready.has_at_least(priority)
    }

    /// Makes the blocked thread in `slot` ready, and returns true. A thread that is not blocked
    /// gets a permit instead.
    fn make_ready(&mut self, slot: Slot) -> bool {
        let thread = thread(slot);
        if thread.state() != State::Blocked {
            thread.permit.store(true, Relaxed);
            return false;
        }
        thread.set_state(State::Ready);
        self.ready.push(&RUN_LINKS, slot, thread.priority());
        true
    }
}

/// Returns the slot of a CPU's idle thread, which is the CPU's number.
fn idle_of(cpu: CpuId) -> Slot {
    cpu.0 as Slot
}

fn scheduler(cpu: CpuId) -> &'static IrqSpinLock<Scheduler, Irqs> {
    &SCHEDULERS[cpu.0]
}

/// Sets the hooks through which interrupts reach the scheduler.
pub(super) fn set_hooks() -> Result<(), crate::arch::irq::IrqError> {
    entry::set_preempt_hook(preempt);
    preempt::set_yield_hook(preempt);
    grace::set_hooks();
    timer::add_hook(on_tick)?;
    wait::set_hooks()
}

/// Turns the flow that the running CPU has executed since its start into its idle thread. From here
/// on threads may be placed on this CPU. [`super::init`] ran before. Interrupts may be on or off;
/// the flow ends in [`idle`].
///
/// # Panics
///
/// Panics if `cpu` is not the running CPU.
pub fn init_cpu(cpu: CpuId) {
    assert_eq!(cpu, cpu_id(), "a CPU enters the scheduler for another");
    let slot = idle_of(cpu);
    let idle = thread(slot);
    let mut name = *b"idle/00";
    name[5] += (cpu.0 / 10) as u8;
    name[6] += (cpu.0 % 10) as u8;
    idle.describe(
        core::str::from_utf8(&name).unwrap_or("idle"),
        cpu,
        Priority::Low,
    );
    Irqs::push_off();
    idle.set_state(State::Running);
    set_current(slot);
    {
        let mut scheduler = scheduler(cpu).lock();
        scheduler.current = slot;
        scheduler.since_ns = time::now_ns();
        scheduler.entered = true;
    }
    Irqs::pop_off();
    quiesce::init_cpu(cpu);
}

/// Runs the idle thread: it lets ready threads run, and otherwise halts until an interrupt. It ends
/// the boot flow of every CPU.
///
/// # Panics
///
/// Panics if the caller is not its CPU's idle thread.
pub fn idle() -> ! {
    assert_eq!(
        current_slot(),
        Some(idle_of(cpu_id())),
        "a thread other than the idle one idles"
    );
    interrupts::enable();
    loop {
        leave(Leave::Yielding);
        // A wake-up from here on finds interrupts off, so its interrupt (the tick's or the
        // reschedule IPI's) stays pending. It ends the halt, because turning interrupts on takes
        // effect only after the next instruction, which is the halt.
        interrupts::disable();
        if preempt::need_resched() {
            interrupts::enable();
        } else {
            interrupts::enable_and_halt();
        }
    }
}

/// Creates a thread that executes `entry` with `arg` and ends when that returns. The name is cut at
/// 16 bytes. Task and hard-IRQ context may call it.
///
/// # Errors
///
/// Returns a [`SpawnError`] if there is no free slot with a stack, or no such CPU.
pub fn spawn(
    name: &str,
    placement: Placement,
    priority: Priority,
    entry: Entry,
    arg: usize,
) -> Result<ThreadId, SpawnError> {
    let cpu = match placement {
        Placement::Cpu(cpu) => cpu,
        Placement::Any => least_populated(),
    };
    if cpu.0 >= MAX_CPUS || !scheduler(cpu).lock().entered {
        return Err(SpawnError::CpuOffline(cpu));
    }
    let slot = (MAX_CPUS..MAX_CPUS + stack::count())
        .map(|slot| slot as Slot)
        .find(|&slot| thread(slot).claim())
        .ok_or(SpawnError::NoSlot)?;
    POPULATION[cpu.0].fetch_add(1, Relaxed);
    let new = thread(slot);
    new.describe(name, cpu, priority);
    new.entry.set(entry);
    new.arg.store(arg, Relaxed);
    let saved = Saved {
        float_control: FLOAT_CONTROL,
        rip: switch::trampoline as *const () as u64,
        ..Saved::default()
    };
    // SAFETY: `claim` gave us the slot and with it the stack; no thread uses it yet.
    new.rsp
        .store(unsafe { stack::prepare(slot, saved) }, Relaxed);
    let id = ThreadId::new(slot);
    new.set_state(State::Blocked);
    unpark(slot);
    Ok(id)
}

fn least_populated() -> CpuId {
    percpu::online()
        .filter(|&cpu| scheduler(cpu).lock().entered)
        .min_by_key(|cpu| POPULATION[cpu.0].load(Relaxed))
        .unwrap_or(CpuId(0))
}

/// Lets the other ready threads of the same or a higher priority run first.
pub fn yield_now(_task: &Task) {
    leave(Leave::Yielding);
}

/// Sleeps for `ns` nanoseconds, or a little longer because the tick wakes it.
pub fn sleep_ns(task: &Task, ns: u64) {
    sleep_until(task, time::now_ns().saturating_add(ns));
}

/// Sleeps until the clock (nanoseconds since boot) reaches `deadline_ns`.
pub fn sleep_until(_task: &Task, deadline_ns: u64) {
    blockable();
    while time::now_ns() < deadline_ns {
        park(Some(deadline_ns));
    }
}

/// Waits until the thread has ended. Returns at once if it has already.
///
/// # Errors
///
/// Returns [`JoinError::Itself`] for the caller's own id.
pub fn join(task: &Task, id: ThreadId) -> Result<(), JoinError> {
    if current_slot() == Some(id.slot()) && id.is_alive() {
        return Err(JoinError::Itself);
    }
    thread(id.slot())
        .ended
        .wait_forever(task, || !id.is_alive());
    Ok(())
}

/// Ends the running thread. Nothing on its stack is dropped.
pub fn exit(_task: &Task) -> ! {
    blockable();
    leave(Leave::Dead);
    unreachable!("a thread ran after its end");
}

/// Returns the slot of the running thread, which is about to sleep.
///
/// # Panics
///
/// Panics if the caller may not sleep: interrupts are off, a pin is open, or it is an idle thread
/// or the boot flow.
pub(super) fn blockable() -> Slot {
    let Some(slot) = current_slot() else {
        panic!("sleeping before the CPU has entered the scheduler");
    };
    assert!(slot as usize >= MAX_CPUS, "an idle thread sleeps");
    assert_eq!(Irqs::depth(), 0, "sleeping with interrupts off");
    assert_eq!(preempt::pin_depth(), 0, "sleeping while pinned");
    slot
}

/// Returns the slot of the running thread. During boot, that is the slot of the CPU's future idle
/// thread.
pub(super) fn current_or_boot() -> Slot {
    current_slot().unwrap_or_else(|| idle_of(cpu_id()))
}

/// Sleeps until [`unpark`] or the deadline; may also return without either.
pub(super) fn park(deadline_ns: Option<u64>) {
    leave(Leave::Blocked { deadline_ns });
}

/// Ends the sleep of the thread in `slot`, or makes its next [`park`] return at once. Task and
/// hard-IRQ context may call it. The thread cannot end meanwhile, which would give its slot to a
/// thread on another CPU. The caller ensures that, because it holds the lock of the queue that the
/// thread has yet to leave.
pub(super) fn unpark(slot: Slot) {
    let home = thread(slot).home();
    let mut scheduler = scheduler(home).lock();
    if scheduler.make_ready(slot) && scheduler.should_switch(idle_of(home), false) {
        // Interrupts are off, so the caller stays on its CPU until the request is made.
        if home == cpu_id() {
            preempt::set_need_resched();
        } else {
            ipi::reschedule(home);
        }
    }
}

/// Begins a new thread, on its own stack, with interrupts off.
pub(super) extern "C" fn start(from: Slot) -> ! {
    IrqState::NEW_THREAD.restore();
    finish(from);
    let me = thread(current_or_boot());
    let entry = me.entry.get().expect("`spawn` set it");
    let arg = me.arg.load(Relaxed);
    Irqs::pop_off();
    // SAFETY: this is the thread's own flow, which is a task for as long as `entry` runs.
    let task = unsafe { Task::mint() };
    entry(&task, arg);
    exit(&task)
}

/// Gives way while a switch is asked for. It is called at the end of an interrupt, with interrupts
/// off, or at a task's preemption point, with interrupts on.
fn preempt() {
    while preempt::need_resched() {
        leave(Leave::Preempted);
    }
}

/// Leaves the CPU to the next ready thread, and returns when this one's turn comes again.
fn leave(why: Leave) {
    Irqs::push_off();
    assert_eq!(
        Irqs::depth(),
        1,
        "a switch inside an interrupts-off section"
    );
    assert_eq!(preempt::pin_depth(), 0, "a switch while pinned");
    preempt::clear_need_resched();
    let cpu = cpu_id();
    let idle = idle_of(cpu);
    let me = current_or_boot();
    let mut deadline = None;
    let next = {
        let mut scheduler = scheduler(cpu).lock();
        match why {
            Leave::Yielding | Leave::Preempted => {
                let thread = thread(me);
                thread.set_state(State::Ready);
                if me == idle {
                } else if why == Leave::Preempted && thread.quantum.load(Relaxed) > 0 {
                    let priority = thread.priority();
                    scheduler.ready.push_front(&RUN_LINKS, me, priority);
                } else {
                    thread.quantum.store(0, Relaxed);
                    scheduler.ready.push(&RUN_LINKS, me, thread.priority());
                }
            }
            Leave::Blocked { deadline_ns } => {
                assert!(me != idle, "the idle thread sleeps");
                if thread(me).permit.swap(false, Relaxed) {
                    drop(scheduler);
                    Irqs::pop_off();
                    return;
                }
                thread(me).set_state(State::Blocked);
                thread(me).quantum.store(0, Relaxed);
                deadline = deadline_ns;
                if let Some(at_ns) = deadline_ns {
                    scheduler.timers.arm(&DEADLINES, me, at_ns);
                }
            }
            Leave::Dead => thread(me).set_state(State::Dead),
        }
        let next = scheduler.ready.pop(&RUN_LINKS).unwrap_or(idle);
        thread(next).set_state(State::Running);
        if thread(next).quantum.load(Relaxed) == 0 {
            thread(next).quantum.store(QUANTUM_TICKS, Relaxed);
        }
        if next != me {
            let now_ns = time::now_ns();
            let ran_ns = now_ns.saturating_sub(scheduler.since_ns);
            thread(me).cpu_time_ns.fetch_add(ran_ns, Relaxed);
            scheduler.since_ns = now_ns;
            scheduler.current = next;
            set_current(next);
        }
        next
    };
    if next != me {
        // The lock is released again, so a wake-up on another CPU can queue this thread. But only
        // this CPU takes from the queue, and only after the switch has saved the thread.
        let state = IrqState::save();
        // SAFETY: `me` is this thread's own slot. `next` was saved by a switch on this CPU or
        // prepared by `spawn`, and is on no queue.
        let from =
            unsafe { switch::switch(thread(me).rsp.as_ptr(), thread(next).rsp.load(Relaxed), me) };
        state.restore();
        finish(from);
    }
    if deadline.is_some() {
        scheduler(cpu).lock().timers.disarm(&DEADLINES, me);
    }
    Irqs::pop_off();
}

/// Ends a switch, on the new thread's stack. If the thread `from` has ended, its stack is free now.
fn finish(from: Slot) {
    let gone = thread(from);
    if gone.state() == State::Dead {
        POPULATION[gone.home().0].fetch_sub(1, Relaxed);
        gone.retire();
        gone.ended.wake(u32::MAX);
    }
}

/// Handles the tick: it wakes the threads whose deadline has come, and ends turns.
fn on_tick(_irq: &HardIrq) {
    let cpu = cpu_id();
    let now_ns = time::now_ns();
    let mut scheduler = scheduler(cpu).lock();
    if !scheduler.entered {
        return;
    }
    while let Some(slot) = scheduler.timers.expire(&DEADLINES, now_ns) {
        scheduler.make_ready(slot);
    }
    let quantum = &thread(scheduler.current).quantum;
    let left = quantum.load(Relaxed).saturating_sub(1);
    quantum.store(left, Relaxed);
    if scheduler.should_switch(idle_of(cpu), left == 0) {
        preempt::set_need_resched();
    }
}

const _: () = assert!(MAX_THREADS < Slot::MAX as usize);
