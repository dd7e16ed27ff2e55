//! `snapshot` between CPUs: what is published, and when what was published before is written again.

use super::{Generation, Published};
use crate::base::mutant::{self, Mutant};
use loom::{model, sync::Arc, thread};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::AtomicUsize,
};
use tidemark_sync::{
    atomic::{AtomicU32, Ordering},
    grace::Grace,
};

/// The reader's CPU.
const CPU: usize = 0;

struct Shared {
    published: Published,
    /// Two entries a side; a rebuild writes one value to both.
    sides: [[AtomicU32; 2]; 2],
    grace: Grace,
    /// The interrupts that asked the reader's CPU so far.
    asked: AtomicU32,
}

/// The reader's CPU takes the interrupt: between any two of its steps, if it is pending.
struct Reader<'a> {
    shared: &'a Shared,
    /// The interrupts that it has taken.
    taken: u32,
    pins: u32,
    /// The unpin has to acknowledge.
    owes: bool,
}

impl Reader<'_> {
    fn take_interrupt(&mut self) {
        // Acquire stands for what the sending and the taking of an interrupt order.
        let asked = self.shared.asked.load(Ordering::Acquire);
        if asked != self.taken {
            self.taken = asked;
            if self.pins == 0 || mutant::is(Mutant::AcknowledgedInside) {
                self.shared.grace.acknowledge(CPU);
            } else {
                self.owes = true;
            }
        }
    }

    /// One walk; returns what it read, or nothing before the first publication.
    fn walk(&mut self) -> [u32; 2] {
        self.take_interrupt();
        self.pins += 1;
        let current = self.shared.published.current();
        let side = &self.shared.sides[current.side().0];
        let first = side[0].load(Ordering::Relaxed);
        self.take_interrupt();
        let second = side[1].load(Ordering::Relaxed);
        self.pins -= 1;
        if self.owes {
            self.owes = false;
            self.shared.grace.acknowledge(CPU);
        }
        [first, second]
    }
}

/// Builds lists of `value` and publishes them; there is one writer, which needs no lock. It knows
/// what is in force: loom 0.7 remembers one last access of each atomic, and a thread's own load
/// before its store would hide the reader's from it.
fn rebuild(shared: &Shared, current: Generation, value: u32) -> Generation {
    let spare = current.next().side();
    for entry in &shared.sides[spare.0] {
        entry.store(value, Ordering::Relaxed);
    }
    shared.published.publish(current);
    shared.grace.begin(1 << CPU);
    // Release stands for the sending of the interrupt.
    shared.asked.store(value, Ordering::Release);
    current.next()
}

/// One reader, and a writer that publishes twice, so that the second one writes where the first
/// lists were. Of loom's schedules, those in which the grace period does not end in time do not
/// write: to wait for the reader by turns would have no end.
fn explore(chosen: Mutant) {
    model(move || {
        mutant::with(chosen, || {
            let shared = Arc::new(Shared {
                published: Published::new(),
                sides: [0, 1].map(|_| [0, 1].map(|_| AtomicU32::new(0))),
                grace: Grace::new(),
                asked: AtomicU32::new(0),
            });
            let writers = Arc::clone(&shared);
            let writer = thread::spawn(move || {
                mutant::with(chosen, || {
                    let current = rebuild(&writers, Generation(0), 1);
                    let writes = writers.grace.is_over(!0) || mutant::is(Mutant::ReuseWithoutGrace);
                    if writes {
                        rebuild(&writers, current, 2);
                    }
                    writes
                })
            });
            let mut reader = Reader {
                shared: &shared,
                taken: 0,
                pins: 0,
                owes: false,
            };
            let seen = reader.walk();
            assert_eq!(seen[0], seen[1], "half a list");
            reader.take_interrupt();
            if writer.join().unwrap() && chosen == Mutant::None {
                // Relaxed and from the standard library: loom does not see it.
                SEEN_BESIDE_TWO[seen[0] as usize]
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
    });
}

/// Walks that saw the first, second and third lists in runs of two rebuilds.
static SEEN_BESIDE_TWO: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

fn finds(chosen: Mutant) -> bool {
    catch_unwind(AssertUnwindSafe(|| explore(chosen))).is_err()
}

#[test]
fn a_walk_sees_whole_lists_while_they_are_replaced_twice() {
    explore(Mutant::None);
    // Else the model is too narrow to show anything.
    let seen = [0, 1, 2]
        .map(|lists: usize| SEEN_BESIDE_TWO[lists].load(std::sync::atomic::Ordering::Relaxed));
    assert!(seen.iter().all(|&walks| walks > 0), "{seen:?}");
}

#[test]
fn a_publication_that_does_not_release_is_found() {
    assert!(finds(Mutant::RelaxedPublish));
}

#[test]
fn a_reuse_before_the_grace_period_is_found() {
    assert!(finds(Mutant::ReuseWithoutGrace));
}

#[test]
fn an_interrupt_that_acknowledges_for_a_section_it_interrupted_is_found() {
    assert!(finds(Mutant::AcknowledgedInside));
}
