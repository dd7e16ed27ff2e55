//! Waiting for a condition, and waking those who wait.

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

/// The deadline passed before the condition held.
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

/// Threads that wait for a condition.
///
/// # No wake-up is lost
///
/// The waiter joins the queue and then tests its condition; the waker makes the condition true and
/// then looks at the queue. With a fence between the two steps on each side, at least one of them
/// sees the other's first step:
///
/// * the waker looks after the waiter joined: it unparks the waiter. If the waiter has not parked
///   yet, the unpark leaves a permit, and the park that follows returns at once (both under the
///   scheduler lock of the waiter's CPU);
/// * the waiter tests after the waker's store: it sees the condition true and does not park.
///
/// A waiter that was taken off the queue by a `wake_one` that it did not need passes it on, so the
/// one behind it does not sleep beside a true condition.
#[derive(Debug)]
pub struct WaitQueue {
    waiters: IrqSpinLock<Fifo, Irqs>,
    /// Length of `waiters`: written under its lock, read without it by a waker that may skip it.
    count: AtomicU32,
}

impl WaitQueue {
    /// Returns a queue on which nobody waits.
    pub const fn new() -> Self {
        Self {
            waiters: IrqSpinLock::new(Rank::WaitQueue, Fifo::new()),
            count: AtomicU32::new(0),
        }
    }

    /// Sleeps until `cond` returns true or the clock reaches `deadline_ns` (since boot; none
    /// waits for ever). `cond` is called by the waiting thread, with no lock held, at least once,
    /// and once more after the deadline.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] if the deadline passed and `cond` was still false.
    pub fn wait_until(
        &self,
        _task: &Task,
        deadline_ns: Option<u64>,
        mut cond: impl FnMut() -> bool,
    ) -> Result<(), TimedOut> {
        if cond() {
            return Ok(());
        }
        let me = sched::blockable();
        loop {
            self.join(me);
            // Pairs with the fence in `wake`: see the type's documentation.
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
            // A wake-up that took us off the queue is used up by this test: whoever finds the
            // condition true here is the one it was meant for.
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

    /// Wakes the thread that has waited longest, if any. Make its condition true first.
    pub fn wake_one(&self, _ctx: &impl MayWake) {
        self.wake(1);
    }

    /// Wakes every thread that waits. Make their conditions true first.
    pub fn wake_all(&self, _ctx: &impl MayWake) {
        self.wake(u32::MAX);
    }

    /// As [`Self::wake_one`] or [`Self::wake_all`], for callers that are known not to be NMIs.
    pub(super) fn wake(&self, most: u32) {
        // Pairs with the fence in `wait_until`: see the type's documentation.
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

    /// Leaves the queue; false if a wake-up has taken `me` off it.
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
        // Release: pairs with the Acquire in `take`; the waiter sees what the signal announces.
        self.set.store(true, Release);
        self.queue.wake_one(ctx);
    }

    /// Takes the signal if it is there. Any context.
    pub fn take(&self) -> bool {
        self.set.swap(false, AcqRel)
    }

    /// Sleeps until the event is signalled, and takes the signal.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] if that did not happen by `deadline_ns` (since boot).
    pub fn wait(&self, task: &Task, deadline_ns: Option<u64>) -> Result<(), TimedOut> {
        self.queue.wait_until(task, deadline_ns, || self.take())
    }
}

/// A wake-up that an NMI may raise: it sets a flag and asks for a self-interrupt, whose handler
/// wakes all waiters of the queue.
#[derive(Debug)]
pub struct DeferredWake {
    queue: &'static WaitQueue,
    /// Set by the NMI, cleared by the handler before it wakes: a flag set in between makes another
    /// round. Release and Acquire: what the NMI did before is visible to the woken.
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

/// Every CPU's handler looks at all of them: whoever clears a flag does that wake.
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

    /// Makes the handler know this object: once, before it is raised. Any context but NMI.
    ///
    /// # Panics
    ///
    /// If there are 32 already.
    pub fn register(&'static self) {
        let me = core::ptr::from_ref(self).cast_mut();
        let placed = DEFERRED.iter().any(|place| {
            // Release: pairs with the handler's Acquire.
            place
                .compare_exchange(core::ptr::null_mut(), me, Release, Relaxed)
                .is_ok()
        });
        assert!(placed, "more than 32 deferred wake-ups");
    }

    /// Wakes the queue's waiters once the NMI is over. Make their condition true first.
    pub fn raise(&self, nmi: &Nmi) {
        self.raised.store(true, Release);
        if let Some(&work) = WORK.get() {
            ipi::raise_from_nmi(nmi, work);
        }
    }
}
