//! Brings the whole machine to rest for a moment.
//!
//! Each CPU has a thread of the top priority, called its rester. On request, the rester takes its
//! CPU: no other thread runs there, and since pinned sections are not preempted, none is open
//! there.
//!
//! It happens in two steps, because a pinned thread of one CPU may be waiting for another CPU to
//! answer an interrupt. First every rester takes its CPU and keeps interrupts on. When all have
//! done so, no thread is left that could be waiting, and they turn interrupts off. The resters halt
//! meanwhile, so that on an overcommitted host the CPU that works has the host to itself.

use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use super::{Mutex, Placement, Priority, WaitQueue, sched, spawn};
use crate::arch::{
    CpuId, MAX_CPUS, context::Task, cpu_id, interrupts, ipi, percpu, rest, time, without_interrupts,
};

/// How long [`at_rest`] waits for the other CPUs.
pub const DEADLINE_NS: u64 = 10_000_000_000;

/// The error that the machine did not come to rest in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAtRest {
    /// A CPU that kept it from resting.
    pub cpu: CpuId,
}

/// The present request: its number times 4, plus one of the steps below. It is written by the
/// holder of [`TURN`]. Release pairs with the resters' Acquire loads.
static REQUEST: AtomicU64 = AtomicU64::new(0);
const RELEASE: u64 = 0;
const TAKE_CPU: u64 = 1;
const INTERRUPTS_OFF: u64 = 2;
const STEP: u64 = 3;

/// The last request that each CPU's rester has fulfilled. Only that rester writes it. Release pairs
/// with the requester's Acquire: what the CPU did before is visible to it.
static FULFILLED: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// The CPUs that have a rester, as a mask. Each CPU sets its own bit once.
static RESTERS: AtomicU64 = AtomicU64::new(0);

/// The CPU that requests the rest; its own rester has nothing to do. It is written before
/// `REQUEST`, which publishes it.
static REQUESTER: AtomicU32 = AtomicU32::new(0);

static NMIS_HELD: AtomicBool = AtomicBool::new(false);

/// The lock that admits one request at a time.
static TURN: Mutex<()> = Mutex::new(());
/// The queue in which resters wait for a request.
static ASKED: WaitQueue = WaitQueue::new();
/// The queue in which the requester waits for the resters.
static ANSWERED: WaitQueue = WaitQueue::new();

/// Returns whether the machine is at rest or about to be. The kernel's own NMI handlers then do
/// nothing. A handler that found this false has ended before its CPU is at rest. Any context may
/// call it.
pub fn nmis_held() -> bool {
    // SeqCst pairs with the store in `at_rest_by`, before the CPUs are asked to rest.
    NMIS_HELD.load(SeqCst)
}

/// Runs `f` while every other CPU rests, as [`at_rest_by`] does, with a deadline in
/// [`DEADLINE_NS`].
///
/// # Errors
///
/// Returns [`NotAtRest`], which names a CPU that did not come to rest in time.
pub fn at_rest<R>(task: &Task, f: impl FnOnce() -> R) -> Result<R, NotAtRest> {
    at_rest_by(task, time::now_ns().saturating_add(DEADLINE_NS), f)
}

/// Runs `f` on the running CPU, with interrupts off, while every other CPU rests: no thread runs
/// there, and no handler or pinned section is open anywhere. It does not wait for CPUs that are not
/// online. `f` must be short, and neither sleep nor wait for another CPU.
///
/// # Errors
///
/// Returns [`NotAtRest`], which names a CPU that did not come to rest by `deadline_ns` (since
/// boot).
pub fn at_rest_by<R>(task: &Task, deadline_ns: u64, f: impl FnOnce() -> R) -> Result<R, NotAtRest> {
    sched::blockable();
    let _turn = TURN.lock(task);
    let number = (REQUEST.load(Relaxed) / (STEP + 1) + 1) * (STEP + 1);
    let request = Request { number };
    REQUESTER.store(cpu_id().0 as u32, Relaxed);
    NMIS_HELD.store(true, SeqCst);
    REQUEST.store(number + TAKE_CPU, Release);
    ASKED.wake_all(task);
    let gathered = ANSWERED.wait_until(task, deadline_ns, || request.missing(TAKE_CPU).is_none());
    if gathered.is_err()
        && let Some(cpu) = request.missing(TAKE_CPU)
    {
        return Err(NotAtRest { cpu });
    }
    // The request ends inside this section. A preemption after the section would prolong the rest
    // of all CPUs.
    without_interrupts(move || {
        REQUEST.store(number + INTERRUPTS_OFF, Release);
        request.others().for_each(ipi::reschedule);
        while let Some(cpu) = request.missing(INTERRUPTS_OFF) {
            if time::now_ns() >= deadline_ns {
                return Err(NotAtRest { cpu });
            }
            core::hint::spin_loop();
        }
        let result = f();
        drop(request);
        Ok(result)
    })
}

/// A request under way. Dropping it releases the resters.
struct Request {
    number: u64,
}

impl Request {
    /// Returns the CPUs that have to rest. The requester's own CPU is not among them, because the
    /// requester runs there.
    fn others(&self) -> impl Iterator<Item = CpuId> {
        let here = percpu::mask_of(cpu_id());
        percpu::cpus_in(RESTERS.load(Acquire) & percpu::online_mask() & !here)
    }

    /// Returns a CPU that has not fulfilled `step`, if there is one.
    fn missing(&self, step: u64) -> Option<CpuId> {
        self.others()
            .find(|cpu| FULFILLED[cpu.0].load(Acquire) != self.number + step)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        REQUEST.store(self.number + RELEASE, Release);
        NMIS_HELD.store(false, SeqCst);
        self.others().for_each(rest::wake);
    }
}

/// Gives the running CPU its rester.
pub(super) fn init_cpu(cpu: CpuId) {
    let spawned = spawn("rest", Placement::Cpu(cpu), Priority::Top, rester, cpu.0);
    assert!(spawned.is_ok(), "no thread for the rest of cpu{}", cpu.0);
    RESTERS.fetch_or(percpu::mask_of(cpu), Release);
}

fn rester(task: &Task, cpu: usize) {
    let mut served = 0;
    loop {
        let mut asked = 0;
        ASKED.wait_forever(task, || {
            asked = REQUEST.load(Acquire);
            asked & STEP != RELEASE && asked & !STEP != served
        });
        served = asked & !STEP;
        if REQUESTER.load(Relaxed) == cpu as u32 {
            continue;
        }
        FULFILLED[cpu].store(served + TAKE_CPU, Release);
        ANSWERED.wake_one(task);
        if halt_while(served + TAKE_CPU) == served + INTERRUPTS_OFF {
            without_interrupts(|| {
                let off = served + INTERRUPTS_OFF;
                rest::halt_until(
                    || FULFILLED[cpu].store(off, Release),
                    || REQUEST.load(Acquire) != off,
                );
            });
        }
    }
}

/// Halts, with interrupts on, while the request is `request`; returns the request that replaced it.
/// The requester sends an interrupt after each change, and the tick comes as well.
fn halt_while(request: u64) -> u64 {
    loop {
        interrupts::disable();
        let now = REQUEST.load(Acquire);
        if now != request {
            interrupts::enable();
            return now;
        }
        interrupts::enable_and_halt();
    }
}
