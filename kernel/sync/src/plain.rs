//! The spinlock that leaves interrupts as they are.

use crate::{LocalIrq, Rank};
use core::{fmt, marker::PhantomData};
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// A spinlock that leaves interrupts as they are, so its holder may be interrupted. It exists for
/// protocols that are about just that. The holder is pinned. Task context may take it, and any
/// context with interrupts off already.
///
/// Taking it obeys the lock order, but holding it does not restrict what is taken meanwhile. A
/// handler that interrupts the holder may take a lock of any rank, and no order between the two can
/// forbid that.
pub struct SpinLock<L: LocalIrq> {
    rank: Rank,
    inner: SpinMutex<()>,
    _local: PhantomData<fn() -> L>,
}

impl<L: LocalIrq> SpinLock<L> {
    /// Returns an open lock; `rank` is its place in the global lock order.
    pub const fn new(rank: Rank) -> Self {
        Self {
            rank,
            inner: SpinMutex::new(()),
            _local: PhantomData,
        }
    }

    /// Waits for the lock. The caller is pinned, or has interrupts off.
    ///
    /// # Panics
    ///
    /// Panics if this CPU holds a lock of this or a later rank.
    pub fn lock(&self) -> SpinGuard<'_> {
        assert!(
            L::held().may_take(self.rank),
            "lock order: {:?} wanted while this or a later one is held",
            self.rank
        );
        SpinGuard(self.inner.lock())
    }

    /// Returns whether the lock is held at this moment.
    pub fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }
}

impl<L: LocalIrq> fmt::Debug for SpinLock<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpinLock")
            .field("rank", &self.rank)
            .field("locked", &self.is_locked())
            .finish_non_exhaustive()
    }
}

/// Keeps the lock held while it lives.
#[must_use = "the lock is free again as soon as this is dropped"]
#[derive(Debug)]
pub struct SpinGuard<'a>(#[expect(dead_code, reason = "held for its drop")] SpinMutexGuard<'a, ()>);
