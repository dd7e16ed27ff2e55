//! The spinlock of kernel code. It is ranked, and held with interrupts off.

use crate::{IrqOff, LocalIrq, Rank};
use core::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// A spinlock that is held with interrupts off on its CPU. Task and hard-interrupt context may take
/// it; NMI code takes no lock.
pub struct IrqSpinLock<T, L: LocalIrq> {
    rank: Rank,
    inner: SpinMutex<T>,
    _local: PhantomData<fn() -> L>,
}

impl<T, L: LocalIrq> IrqSpinLock<T, L> {
    /// Wraps `value`; `rank` is its place in the global lock order.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            rank,
            inner: SpinMutex::new(value),
            _local: PhantomData,
        }
    }

    /// Turns interrupts off and waits for the lock.
    ///
    /// # Panics
    ///
    /// Panics if this CPU holds a lock of this or a later rank.
    #[inline]
    pub fn lock(&self) -> IrqSpinGuard<'_, T, L> {
        let irq = IrqOff::new();
        L::held().enter(self.rank);
        let held = Held::<L>::of(self.rank);
        IrqSpinGuard {
            inner: self.inner.lock(),
            _held: held,
            irq,
        }
    }

    /// Takes the lock if it is free, whichever other locks are held. Interrupts go off only if it
    /// takes the lock.
    ///
    /// # Panics
    ///
    /// Panics if this CPU holds another lock of this rank.
    #[inline]
    pub fn try_lock(&self) -> Option<IrqSpinGuard<'_, T, L>> {
        let irq = IrqOff::new();
        let inner = self.inner.try_lock()?;
        Some(IrqSpinGuard {
            inner,
            _held: {
                L::held().note(self.rank);
                Held::of(self.rank)
            },
            irq,
        })
    }

    /// Returns whether the lock is held at this moment.
    pub fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }
}

impl<T, L: LocalIrq> fmt::Debug for IrqSpinLock<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrqSpinLock")
            .field("rank", &self.rank)
            .field("locked", &self.is_locked())
            .finish_non_exhaustive()
    }
}

/// Removes a rank from the CPU's held ranks when it is dropped.
struct Held<L: LocalIrq> {
    rank: Rank,
    _local: PhantomData<(*const (), L)>,
}

impl<L: LocalIrq> Held<L> {
    fn of(rank: Rank) -> Self {
        Self {
            rank,
            _local: PhantomData,
        }
    }
}

impl<L: LocalIrq> Drop for Held<L> {
    fn drop(&mut self) {
        L::held().leave(self.rank);
    }
}

/// Access to what an [`IrqSpinLock`] protects. Its fields drop in the order of their declaration:
/// the lock is free and its rank forgotten before interrupts can come back on.
#[must_use = "the lock is free again as soon as this is dropped"]
pub struct IrqSpinGuard<'a, T, L: LocalIrq> {
    inner: SpinMutexGuard<'a, T>,
    _held: Held<L>,
    irq: IrqOff<L>,
}

impl<T, L: LocalIrq> IrqSpinGuard<'_, T, L> {
    /// Lends the proof that interrupts are off.
    pub fn irq_off(&self) -> &IrqOff<L> {
        &self.irq
    }
}

impl<T, L: LocalIrq> Deref for IrqSpinGuard<'_, T, L> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T, L: LocalIrq> DerefMut for IrqSpinGuard<'_, T, L> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HeldRanks;
    use std::{boxed::Box, cell::Cell, thread_local};

    thread_local! {
        static OFF: Cell<u32> = const { Cell::new(0) };
        static HELD: &'static HeldRanks = Box::leak(Box::new(HeldRanks::new()));
    }

    struct Host;

    impl LocalIrq for Host {
        fn push_off() {
            OFF.set(OFF.get() + 1);
        }

        fn pop_off() {
            // The lock and its rank are gone before interrupts can come back on.
            let expected_held = OFF.get() > 1;
            assert_eq!(!HELD.with(|held| held.is_empty()), expected_held);
            OFF.set(OFF.get() - 1);
        }

        fn cpu() -> usize {
            0
        }

        fn held() -> &'static HeldRanks {
            HELD.with(|held| *held)
        }
    }

    #[test]
    fn a_guard_keeps_interrupts_off_and_gives_everything_back() {
        let outer = IrqSpinLock::<_, Host>::new(Rank::Hotplug, 1);
        let inner = IrqSpinLock::<_, Host>::new(Rank::Leaf, 2);
        {
            let mut first = outer.lock();
            *first += 1;
            let second = inner.lock();
            assert_eq!((OFF.get(), *second), (2, 2));
            assert!(outer.is_locked() && outer.try_lock().is_none());
            drop(second);
            assert!(!inner.is_locked());
        }
        assert_eq!((OFF.get(), *outer.lock()), (0, 2));
        assert_eq!(OFF.get(), 0);
    }

    #[test]
    fn a_try_waits_for_nobody_and_may_go_upwards() {
        let outer = IrqSpinLock::<_, Host>::new(Rank::Console, ());
        let inner = IrqSpinLock::<_, Host>::new(Rank::Tty, ());
        let low = inner.lock();
        let high = outer.try_lock();
        assert!(high.is_some());
        drop(high);
        drop(low);
        assert!(Host::held().is_empty());
    }

    #[test]
    #[should_panic(expected = "lock order: Console")]
    fn waiting_upwards_panics() {
        let outer = IrqSpinLock::<_, Host>::new(Rank::Console, ());
        let inner = IrqSpinLock::<_, Host>::new(Rank::Tty, ());
        let _low = inner.lock();
        let _high = outer.lock();
    }
}
