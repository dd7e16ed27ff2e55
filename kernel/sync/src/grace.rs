//! Grace periods. A writer that has published something waits until no CPU can still be reading
//! what was there before. A read-side section is a pinned stretch, an interrupt or an NMI. Nothing
//! inside one sleeps or is preempted, so a CPU seen outside has left every section that it was in.

use crate::atomic::{AtomicU64, Ordering};

/// The set of CPUs that have not yet been seen outside of their read-side sections. It serves one
/// grace period at a time.
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
    /// Returns a grace period that waits for no CPU.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            waiting: AtomicU64::new(0),
        }
    }

    /// Returns a grace period that waits for no CPU.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            waiting: AtomicU64::new(0),
        }
    }

    /// Begins to wait for the CPUs in the mask `cpus` (bit n is CPU n, 0 to 63). The caller has
    /// published the replacement before, and asks each of the CPUs to acknowledge afterwards.
    pub fn begin(&self, cpus: u64) {
        // Release pairs with the acquire in `acknowledge`: what a CPU reads after it has
        // acknowledged is not older than what the caller published.
        self.waiting.store(cpus, Ordering::Release);
    }

    /// Records that CPU `cpu` (0 to 63) is outside of every read-side section now. It is called on
    /// that CPU, in any context.
    ///
    /// # Panics
    ///
    /// Panics, in builds with overflow checks, if `cpu` is above 63.
    pub fn acknowledge(&self, cpu: usize) {
        // Release pairs with the acquire in `is_over`: what the section read, it read before its
        // memory is reused. Acquire pairs with the release in `begin`.
        self.waiting.fetch_and(!(1 << cpu), Ordering::AcqRel);
    }

    /// Returns whether every CPU that was waited for, and is in the mask `online`, has
    /// acknowledged.
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

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::atomic::AtomicU32;
    use loom::{cell::UnsafeCell, model, sync::Arc, thread};

    struct Shared {
        grace: Grace,
        published: AtomicU32,
        content: UnsafeCell<u32>,
    }

    impl Shared {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                grace: Grace::new(),
                published: AtomicU32::new(0),
                content: UnsafeCell::new(0),
            })
        }
    }

    #[test]
    fn the_memory_that_a_grace_period_frees_is_read_no_more() {
        model(|| {
            let shared = Shared::new();
            shared.grace.begin(1);
            let readers = Arc::clone(&shared);
            let reader = thread::spawn(move || {
                // The read-side section, and its end.
                readers.content.with(|_| ());
                readers.grace.acknowledge(0);
            });
            if shared.grace.is_over(!0) {
                shared.content.with_mut(|_| ());
            }
            reader.join().unwrap();
        });
    }

    #[test]
    fn what_was_published_is_read_behind_an_acknowledgement() {
        model(|| {
            let shared = Shared::new();
            let (writers, asked) = (Arc::clone(&shared), Arc::new(AtomicU32::new(0)));
            let asks = Arc::clone(&asked);
            let writer = thread::spawn(move || {
                writers.published.store(1, Ordering::Relaxed);
                writers.grace.begin(1);
                // Stands for the interrupt that asks a CPU to acknowledge; it orders nothing here.
                asks.store(1, Ordering::Relaxed);
            });
            if asked.load(Ordering::Relaxed) == 1 {
                shared.grace.acknowledge(0);
                let seen = shared.published.load(Ordering::Relaxed);
                assert_eq!(
                    seen, 1,
                    "read what was there before, behind the grace period"
                );
            }
            writer.join().unwrap();
        });
    }

    #[test]
    fn of_two_acknowledgements_none_is_lost() {
        model(|| {
            let shared = Shared::new();
            shared.grace.begin(0b11);
            let others = Arc::clone(&shared);
            let other = thread::spawn(move || others.grace.acknowledge(1));
            shared.grace.acknowledge(0);
            other.join().unwrap();
            assert!(shared.grace.is_over(!0), "waited for, for ever");
        });
    }
}
