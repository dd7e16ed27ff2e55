//! Grace periods: who has published something waits until nobody can still be looking at what was
//! there before. A read-side section is a pinned stretch, an interrupt or an NMI; nothing inside one
//! sleeps or is preempted, so a CPU that is seen outside has left every section that it was in.

use crate::atomic::{AtomicU64, Ordering};

/// The CPUs that have not yet been seen outside their read-side sections, for one grace period at a
/// time.
#[derive(Debug)]
pub struct Grace {
    waiting: AtomicU64,
}

impl Default for Grace {
    fn default() -> Self {
        Self::new()
    }
}

impl Grace {
    /// Returns one that nobody waits for.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            waiting: AtomicU64::new(0),
        }
    }

    /// Returns one that nobody waits for.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            waiting: AtomicU64::new(0),
        }
    }

    /// Begins to wait for the CPUs of a mask. What is being replaced was replaced before; each of
    /// the CPUs is asked afterwards.
    pub fn begin(&self, cpus: u64) {
        // Release pairs with the acquire in `acknowledge`: what a CPU reads after it has
        // acknowledged is not older than what the caller published.
        self.waiting.store(cpus, Ordering::Release);
    }

    /// Says that `cpu` is outside of every read-side section now. On that CPU, in any context.
    pub fn acknowledge(&self, cpu: usize) {
        // Release pairs with the acquire in `is_over`: what the section read, it read before its
        // memory is reused. Acquire: see `begin`.
        self.waiting.fetch_and(!(1 << cpu), Ordering::AcqRel);
    }

    /// Whether every CPU that was waited for, and is in `online`, has acknowledged.
    pub fn is_over(&self, online: u64) -> bool {
        self.waiting.load(Ordering::Acquire) & online == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_the_last_cpu_that_is_online_has_acknowledged() {
        let grace = Grace::new();
        assert!(grace.is_over(!0));
        grace.begin(0b1011);
        grace.acknowledge(0);
        grace.acknowledge(2);
        assert!(!grace.is_over(!0));
        grace.acknowledge(1);
        assert!(!grace.is_over(!0));
        assert!(grace.is_over(0b0111), "a CPU that stopped is waited for");
        grace.acknowledge(3);
        assert!(grace.is_over(!0));
    }
}
