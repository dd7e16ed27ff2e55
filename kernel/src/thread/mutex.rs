//! A lock whose waiters sleep.

use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use super::{WaitQueue, sched};
use crate::arch::context::Task;

/// The value of `owner` while no thread holds the lock.
const FREE: u32 = 0;

/// A mutual exclusion lock for tasks. Waiters sleep; the holder may sleep and may be preempted.
#[derive(Debug)]
pub struct Mutex<T> {
    /// [`FREE`], or the holder's slot plus one.
    owner: AtomicU32,
    waiters: WaitQueue,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out access to the value to one thread at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// Returns an open lock around `value`.
    pub const fn new(value: T) -> Self {
        Self {
            owner: AtomicU32::new(FREE),
            waiters: WaitQueue::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock; sleeps while another thread holds it.
    ///
    /// # Panics
    ///
    /// Panics if the caller holds it already.
    pub fn lock<'a>(&'a self, task: &'a Task) -> MutexGuard<'a, T> {
        if let Some(guard) = self.try_lock(task) {
            return guard;
        }
        let me = u32::from(sched::blockable()) + 1;
        assert!(
            self.owner.load(Relaxed) != me,
            "a thread takes a mutex that it holds"
        );
        self.waiters.wait_forever(task, || self.take(me));
        self.guard()
    }

    /// Takes the lock if no thread holds it.
    pub fn try_lock<'a>(&'a self, _task: &'a Task) -> Option<MutexGuard<'a, T>> {
        let me = u32::from(sched::current_or_boot()) + 1;
        self.take(me).then(|| self.guard())
    }

    fn take(&self, me: u32) -> bool {
        // Acquire pairs with the Release in the guard's drop: we see the value as the last holder
        // left it.
        self.owner
            .compare_exchange(FREE, me, Acquire, Relaxed)
            .is_ok()
    }

    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            mutex: self,
            not_send: PhantomData,
        }
    }
}

/// The right to use the value. The lock is held until this is dropped.
#[derive(Debug)]
#[must_use = "the lock opens when the guard is dropped"]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// Makes the type not `Send`: the owner is a thread, and another one must not release the lock
    /// for it.
    not_send: PhantomData<*mut ()>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard's thread holds the lock.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard's thread holds the lock, and the guard is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `take`.
        self.mutex.owner.store(FREE, Release);
        self.mutex.waiters.wake(1);
    }
}
