//! The spinlock of kernel code: interrupts off, ranked.

use crate::{IrqOff, LocalIrq, Rank};
use core::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// A spinlock that is held with interrupts off on its CPU. Task and hard-interrupt context; an NMI
/// takes no lock.
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
        let held = Held::<L>::new(self.rank);
        IrqSpinGuard {
            inner: self.inner.lock(),
            _held: held,
            irq,
        }
    }

    /// Takes the lock if it is free; interrupts are off only if it was.
    #[inline]
    pub fn try_lock(&self) -> Option<IrqSpinGuard<'_, T, L>> {
        let irq = IrqOff::new();
        let inner = self.inner.try_lock()?;
        Some(IrqSpinGuard {
            inner,
            _held: Held::new(self.rank),
            irq,
        })
    }

    /// Whether somebody holds the lock at this moment.
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

/// Notes the rank as held for as long as it lives.
struct Held<L: LocalIrq> {
    rank: Rank,
    _local: PhantomData<(*const (), L)>,
}

impl<L: LocalIrq> Held<L> {
    fn new(rank: Rank) -> Self {
        L::held().enter(rank);
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

/// Access to what an [`IrqSpinLock`] protects. Fields drop in this order: the lock is free and its
/// rank forgotten before interrupts can come back on.
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
