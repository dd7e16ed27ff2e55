//! A drain between CPUs. Every gated section behind it sees what its initiator did before it. And
//! the initiator sees what the drained section did, when the drain is acknowledged.

use super::*;
use crate::{base::resizing::ResizingLock, zone::cache_limit::CacheLimit};
use loom::{model, sync::Arc, thread};
use std::panic::{AssertUnwindSafe, catch_unwind};

struct Shared {
    drains: Drains,
    drain_state: DrainState,
    cache_limit: CacheLimit,
    /// Frames in the CPU's cache.
    cached: AtomicU32,
    /// Stands for the interrupt. It orders nothing here; only the numbers do.
    sent: AtomicU32,
}

/// Plays the CPU: takes the interrupt if it has come, and then frees a frame, as `drain_local` and
/// a free into the cache do.
fn cpu(shared: &Shared) {
    if shared.sent.load(Ordering::Relaxed) == 0 {
        return;
    }
    let wanted = shared.drains.last();
    if is_newer(wanted, shared.drain_state.drained.load(Ordering::Relaxed)) {
        shared.cached.store(0, Ordering::Relaxed);
        shared.drain_state.acknowledge(wanted);
        if shared.cache_limit.is_for(0) {
            shared.cached.store(2, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn new() -> Arc<Self> {
        let shared = Self {
            drains: Drains::new(),
            drain_state: DrainState::default(),
            cache_limit: CacheLimit::new(),
            cached: AtomicU32::new(1),
            sent: AtomicU32::new(0),
        };
        let lock = ResizingLock::new();
        shared.cache_limit.set_limit(2, &lock.lock_at_boot());
        Arc::new(shared)
    }

    /// Waits for the first drain, and looks at the cache after it.
    fn wait(&self) {
        if self.drain_state.has_drained(1) {
            let cached = self.cached.load(Ordering::Relaxed);
            assert_eq!(cached, 0, "cached, although the drain is acknowledged");
        }
    }
}

fn drained() {
    model(|| {
        let shared = Shared::new();
        let (other, third) = (Arc::clone(&shared), Arc::clone(&shared));
        let cpu = thread::spawn(move || cpu(&other));
        // The initiator's wait is a thread of its own. loom 0.7 remembers one last access of each
        // atomic. It tries this load behind the CPU's store only because the load comes last.
        let wait = thread::spawn(move || third.wait());
        shared.cache_limit.shut_for_offline();
        assert_eq!(shared.drains.ask(), 1);
        shared.sent.store(1, Ordering::Relaxed);
        cpu.join().unwrap();
        wait.join().unwrap();
    });
}

#[test]
fn a_drain_that_is_acknowledged_has_happened_and_nothing_comes_after_it() {
    drained();
    for mistake in [Mutant::RelaxedDrained, Mutant::RelaxedDrainAsked] {
        let caught = catch_unwind(AssertUnwindSafe(|| mutant::with(mistake, drained)));
        assert!(caught.is_err(), "{mistake:?} passes");
    }
}

/// Plays two initiators. One shuts the caches and asks for a drain. The other one asks for a later
/// drain, and drains its own CPU without an interrupt, as `drain_here` does.
fn acknowledged_by_a_later_one() {
    model(|| {
        let shared = Shared::new();
        let (other, third) = (Arc::clone(&shared), Arc::clone(&shared));
        let second = thread::spawn(move || {
            let own = other.drains.ask();
            if own == 2 {
                other.cached.store(0, Ordering::Relaxed);
                other.drain_state.acknowledge(own);
                // This is a free on this CPU.
                if other.cache_limit.is_for(0) {
                    other.cached.store(2, Ordering::Relaxed);
                }
            }
        });
        let wait = thread::spawn(move || third.wait());
        shared.cache_limit.shut_for_offline();
        shared.drains.ask();
        second.join().unwrap();
        wait.join().unwrap();
    });
}

#[test]
fn a_later_drain_acknowledges_an_earlier_one_only_if_it_sees_what_that_shut() {
    acknowledged_by_a_later_one();
    let mistake = Mutant::DrainAskedWithoutAcquire;
    let caught = catch_unwind(AssertUnwindSafe(|| {
        mutant::with(mistake, acknowledged_by_a_later_one);
    }));
    assert!(caught.is_err(), "{mistake:?} passes");
}
