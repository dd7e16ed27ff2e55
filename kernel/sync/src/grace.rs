//! Grace periods: who has published something waits until nobody can still be looking at what was
//! there before. A read-side section is a pinned stretch, an interrupt or an NMI; nothing inside
//! one sleeps or is preempted, so a CPU that is seen outside has left every section that it was in.

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

    /// Returns whether every CPU that was waited for, and is in `online`, has acknowledged.
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
                // The section, and its end.
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
                // Stands for the interrupt, which orders nothing here.
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
