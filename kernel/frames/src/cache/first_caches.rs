//! The cache that serves each class of requests first.

use crate::base::request::Class;
use core::array;
use tidemark_sync::atomic::{AtomicU32, Ordering};

/// For each class of requests, the number of the cache to try first. The CPU itself sets it; every
/// rebuild resets it to `UNKNOWN`.
#[derive(Debug)]
pub(crate) struct FirstCaches(pub(crate) [AtomicU32; Class::TABLE]);

impl FirstCaches {
    /// A number that no cache has.
    pub(crate) const UNKNOWN: u32 = u32::MAX;

    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| AtomicU32::new(Self::UNKNOWN)))
    }

    pub(crate) fn forget(&self) {
        for first in &self.0 {
            first.store(Self::UNKNOWN, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn cache(&self, class: Class) -> usize {
        self.0[class.index()].load(Ordering::Relaxed) as usize
    }
}
