//! Waiting for a condition, and waking the threads that wait.

use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};

use super::{
    links::{Fifo, Slot},
    sched,
    table::WAIT_LINKS,
};
use crate::arch::{
    Irqs,
    context::{HardIrq, Nmi, Task},
    ipi::{self, WorkId},
    irq::IrqError,
    time,
};
use tidemark_sync::{IrqSpinLock, Rank};

/// The error that the deadline passed before the condition held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut;

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::arch::context::Task {}
    impl Sealed for crate::arch::context::HardIrq {}
}

/// The contexts that may wake a thread: all but NMI, which raises a [`DeferredWake`].
pub trait MayWake: sealed::Sealed {}
impl MayWake for Task {}
impl MayWake for HardIrq {}

/// A queue of threads that wait for a condition.
///
/// # No wake-up is lost
///
/// The waiter joins the queue and then tests its condition. The waker makes the condition true and
/// then looks at the queue. Each side has a fence between its two steps. So at least one of them
/// sees the other's first step:
///
/// * The waker looks after the waiter joined: it unparks the waiter. If the waiter has not parked
///   yet, the unpark leaves a permit, and the park that follows returns at once. Both happen under
///   the scheduler lock of the waiter's CPU.
/// * The waiter tests after the waker's store: it sees the condition true and does not park.
///
/// A `wake_one` may take a waiter off the queue that did not need it. That waiter passes it on, so
/// that the one behind it does not sleep although its condition is true.
#[derive(Debug)]
pub struct WaitQueue {
    waiters: IrqSpinLock<Fifo, Irqs>,
    /// Length of `waiters`. It is written under the lock of `waiters`. A waker reads it without the
    /// lock, and may then skip the queue.
    count: AtomicU32,
}

impl WaitQueue {
    /// Returns a queue without waiters.
    pub const fn new() -> Self {
        Self {
            waiters: IrqSpinLock::new(Rank::WaitQueue, Fifo::new()),
            count: AtomicU32::new(0),
        }
    }

    /// Sleeps until `cond` returns true or the clock reaches `deadline_ns` (since boot). The
    /// waiting thread calls `cond`, with no lock held, at least once, and once more after the
    /// deadline.
    ///
    /// # Errors
    ///
    /// Returns [`TimedOut`] if the deadline passed and `cond` was still false.
    pub fn wait_until(
        &self,
        _task: &Task,
        deadline_ns: u64,
        cond: impl FnMut() -> bool,
    ) -> Result<(), TimedOut> {
        self.wait(Some(deadline_ns), cond)
    }

    /// Sleeps until `cond` returns true. The waiting thread calls `cond` at least once, with no
    /// lock held.
    pub fn wait_forever(&self, _task: &Task, cond: impl FnMut() -> bool) {
        let waited = self.wait(None, cond);
        debug_assert!(waited.is_ok(), "a wait without a deadline timed out");
    }

    fn wait(
        &self,
        deadline_ns: Option<u64>,
        mut cond: impl FnMut() -> bool,
    ) -> Result<(), TimedOut> {
        if cond() {
            return Ok(());
        }
        let me = sched::blockable();
        loop {
            self.join(me);
            // Pairs with the fence in `wake`, as the type's documentation explains.
            fence(SeqCst);
            let done = cond();
            let late = deadline_ns.is_some_and(|deadline| time::now_ns() >= deadline);
            if !done && !late {
                sched::park(deadline_ns);
            }
            let taken = !self.leave(me);
            if done {
                if taken {
                    self.wake(1);
                }
                return Ok(());
            }
            // This test uses up a wake-up that took us off the queue: a waiter that finds its
            // condition true here is the one that the wake-up was meant for.
            if cond() {
                return Ok(());
            }
            if late {
                if taken {
                    self.wake(1);
                }
                return Err(TimedOut);
            }
        }
    }

    /// Wakes the thread that has waited longest, if any. The caller has made its condition true
    /// before.
    pub fn wake_one(&self, _ctx: &impl MayWake) {
        self.wake(1);
    }

    /// Wakes every thread that waits. The caller has made their conditions true before.
    pub fn wake_all(&self, _ctx: &impl MayWake) {
        self.wake(u32::MAX);
    }

    /// Wakes up to `most` waiters, for callers that are known not to be NMIs.
    pub(super) fn wake(&self, most: u32) {
        // Pairs with the fence in `wait`, as the type's documentation explains.
        fence(SeqCst);
        if self.count.load(Relaxed) == 0 {
            return;
        }
        let mut waiters = self.waiters.lock();
        // A woken thread that joins again waits for this lock, so the loop ends.
        for _ in 0..most {
            let Some(slot) = waiters.pop(&WAIT_LINKS) else {
                break;
            };
            self.count
                .store(self.count.load(Relaxed).wrapping_sub(1), Relaxed);
            sched::unpark(slot);
        }
    }

    fn join(&self, me: Slot) {
        let mut waiters = self.waiters.lock();
        waiters.push(&WAIT_LINKS, me);
        self.count
            .store(self.count.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Leaves the queue. Returns false if a wake-up has already taken `me` off it.
    fn leave(&self, me: Slot) -> bool {
        let mut waiters = self.waiters.lock();
        let there = waiters.remove(&WAIT_LINKS, me);
        if there {
            self.count
                .store(self.count.load(Relaxed).wrapping_sub(1), Relaxed);
        }
        there
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

/// A signal that stays until one waiter takes it.
#[derive(Debug, Default)]
pub struct Event {
    set: AtomicBool,
    queue: WaitQueue,
}

impl Event {
    /// Returns an event that is not signalled.
    pub const fn new() -> Self {
        Self {
            set: AtomicBool::new(false),
            queue: WaitQueue::new(),
        }
    }

    /// Signals the event and wakes one waiter. Signals do not add up.
    pub fn signal(&self, ctx: &impl MayWake) {
        // Release pairs with the Acquire in `take`: the waiter sees what the signal announces.
        self.set.store(true, Release);
        self.queue.wake_one(ctx);
    }

    /// Takes the signal and returns whether there was one. Any context may call it.
    pub fn take(&self) -> bool {
        self.set.swap(false, AcqRel)
    }

    /// Sleeps until the event is signalled, and takes the signal.
    ///
    /// # Errors
    ///
    /// Returns [`TimedOut`] if that did not happen by `deadline_ns` (since boot).
    pub fn wait_until(&self, task: &Task, deadline_ns: u64) -> Result<(), TimedOut> {
        self.queue.wait_until(task, deadline_ns, || self.take())
    }

    /// Sleeps until the event is signalled, and takes the signal.
    pub fn wait_forever(&self, task: &Task) {
        self.queue.wait_forever(task, || self.take());
    }
}

/// A wake-up that an NMI may raise. It sets a flag and asks for a self-interrupt, whose handler
/// wakes all waiters of the queue.
#[derive(Debug)]
pub struct DeferredWake {
    queue: &'static WaitQueue,
    /// Whether the wake-up was raised. The NMI sets it, and the handler clears it before it wakes,
    /// so a flag set in between gives another round. Release and Acquire make what the NMI did
    /// before visible to the woken threads.
    raised: AtomicBool,
}

/// The objects that the handler looks at. Each place is written once.
static DEFERRED: [AtomicPtr<DeferredWake>; 32] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; 32];
/// The handler's work bit; set during boot.
static WORK: spin::Once<WorkId> = spin::Once::new();

/// Registers the handler of deferred wake-ups.
pub(super) fn set_hooks() -> Result<(), IrqError> {
    let work = ipi::register_work(wake_deferred)?;
    WORK.call_once(|| work);
    Ok(())
}

/// Wakes for every object whose flag is set. The handler of every CPU looks at all objects; the one
/// that clears a flag does that wake.
fn wake_deferred(irq: &HardIrq) {
    for place in &DEFERRED {
        // SAFETY: only `register` writes it, with a static object.
        let Some(deferred) = (unsafe { place.load(Acquire).as_ref() }) else {
            break;
        };
        if deferred.raised.swap(false, AcqRel) {
            deferred.queue.wake_all(irq);
        }
    }
}

impl DeferredWake {
    /// Returns a deferred wake-up of `queue`.
    pub const fn new(queue: &'static WaitQueue) -> Self {
        Self {
            queue,
            raised: AtomicBool::new(false),
        }
    }

    /// Makes the object known to the handler. It is called once, before it is raised. Any context
    /// but NMI may call it.
    ///
    /// # Panics
    ///
    /// Panics if there are 32 already.
    pub fn register(&'static self) {
        let me = core::ptr::from_ref(self).cast_mut();
        let placed = DEFERRED.iter().any(|place| {
            // Release pairs with the handler's Acquire.
            place
                .compare_exchange(core::ptr::null_mut(), me, Release, Relaxed)
                .is_ok()
        });
        assert!(placed, "more than 32 deferred wake-ups");
    }

    /// Wakes the queue's waiters once the NMI is over. The caller has made their condition true
    /// before.
    pub fn raise(&self, nmi: &Nmi) {
        self.raised.store(true, Release);
        if let Some(&work) = WORK.get() {
            ipi::raise_from_nmi(nmi, work);
        }
    }
}
