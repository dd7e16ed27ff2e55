//! The hot-plug lock.

use crate::base::platform::Platform;
use tidemark_sync::{
    Task,
    atomic::{AtomicBool, Ordering},
};

/// The lock that hot-plug and set-up hold. Sizes, watermarks, lists and spans change only then.
#[derive(Debug)]
pub(crate) struct ResizingLock(AtomicBool);

impl ResizingLock {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Waits for the lock, by [`Platform::relax`], and takes it.
    pub(crate) fn lock<P: Platform>(&self, platform: &P, task: &Task) -> Resizing<'_> {
        // Acquire pairs with the release in `Resizing::drop`: what the last holder wrote is
        // visible.
        while self.0.swap(true, Ordering::Acquire) {
            platform.relax(task);
        }
        Resizing(&self.0)
    }

    /// Takes the lock at boot, where nothing holds it.
    pub(crate) fn lock_at_boot(&self) -> Resizing<'_> {
        let was_held = self.0.swap(true, Ordering::Acquire);
        debug_assert!(!was_held, "hot-plug before the end of set-up");
        Resizing(&self.0)
    }

    /// Returns whether the lock is held.
    pub(crate) fn is_held(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The hot-plug lock while it is held; dropping it releases the lock. A function that changes
/// sizes, watermarks, lists or spans takes a reference to it.
pub(crate) struct Resizing<'a>(&'a AtomicBool);

/// Returns a hot-plug lock of its own, for tests that change by hand what the real one guards.
#[cfg(test)]
pub(crate) fn resizing() -> &'static Resizing<'static> {
    Box::leak(Box::new(Resizing(Box::leak(Box::new(AtomicBool::new(
        true,
    ))))))
}

impl Drop for Resizing<'_> {
    fn drop(&mut self) {
        // Release pairs with the acquire in `lock`.
        self.0.store(false, Ordering::Release);
    }
}
