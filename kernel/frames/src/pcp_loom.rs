//! A drain between CPUs: what its initiator did before is seen by every section behind it, and what
//! the section did is seen by the initiator when the drain is acknowledged.

use super::*;
use crate::room::Room;
use loom::{model, sync::Arc, thread};
use std::panic::{AssertUnwindSafe, catch_unwind};

struct Shared {
    drains: Drains,
    owner: Owner,
    room: Room,
    /// Frames in the CPU's cache.
    cached: AtomicU32,
    /// Stands for the interrupt, which orders nothing here: only the numbers do.
    sent: AtomicU32,
}

/// The CPU: takes the interrupt if it has come, and then frees a frame, as `drain_local` and
/// `free_to_cache` do.
fn cpu(shared: &Shared) {
    if shared.sent.load(Ordering::Relaxed) == 0 {
        return;
    }
    let wanted = shared.drains.last();
    if is_newer(wanted, shared.owner.drained.load(Ordering::Relaxed)) {
        shared.cached.store(0, Ordering::Relaxed);
        shared.owner.acknowledge(wanted);
        if shared.room.is_for(0) {
            shared.cached.store(2, Ordering::Relaxed);
        }
    }
}

fn drained() {
    model(|| {
        let shared = Arc::new(Shared {
            drains: Drains::new(),
            owner: Owner::default(),
            room: Room::new(),
            cached: AtomicU32::new(1),
            sent: AtomicU32::new(0),
        });
        shared.room.set_limit(2);
        let (other, third) = (Arc::clone(&shared), Arc::clone(&shared));
        let cpu = thread::spawn(move || cpu(&other));
        // The initiator's wait, as a thread of its own. loom 0.7 remembers one last access of each
        // atomic, and would not try this load behind the CPU's store, but for this being last.
        let wait = thread::spawn(move || {
            if third.owner.has_drained(1) {
                let cached = third.cached.load(Ordering::Relaxed);
                assert_eq!(cached, 0, "cached, although the drain is acknowledged");
            }
        });
        shared.room.shut_for_offline();
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
