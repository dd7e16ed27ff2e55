//! The spinlock of this module, until `tidemark-sync` has its ranked one.

use crate::arch::irqs::Irqs;
use core::ops::{Deref, DerefMut};
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// A spinlock held with interrupts off.
#[derive(Debug)]
pub(super) struct IrqSpinLock<T>(SpinMutex<T>);

impl<T> IrqSpinLock<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }

    pub(super) fn lock(&self) -> Guard<'_, T> {
        Irqs::push_off();
        Guard {
            inner: self.0.lock(),
            _off: Off,
        }
    }
}

/// Opens the lock first, then undoes the interrupts-off: fields drop in order.
pub(super) struct Guard<'a, T> {
    inner: SpinMutexGuard<'a, T>,
    _off: Off,
}

struct Off;

impl Drop for Off {
    fn drop(&mut self) {
        Irqs::pop_off();
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
