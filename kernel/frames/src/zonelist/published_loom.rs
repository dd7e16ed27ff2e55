//! `snapshot` between CPUs: the lists that are published, and when the former ones are written
//! again.

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
    /// Two entries on each side. A rebuild writes one value to both.
    sides: [[AtomicU32; 2]; 2],
    grace: Grace,
    /// Number of the last interrupt that was sent to the reader's CPU.
    asked: AtomicU32,
}

/// The reader's CPU. It takes a pending interrupt between any two of its steps.
struct Reader<'a> {
    shared: &'a Shared,
    /// Number of the last interrupt that it has taken.
    taken: u32,
    pins: u32,
    /// Whether the unpin must acknowledge.
    owes: bool,
}

impl Reader<'_> {
    fn take_interrupt(&mut self) {
        // Acquire stands for the order between the sending and the taking of an interrupt.
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

    /// Walks once; returns the values that it has read, which are 0 before the first publication.
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

/// Builds lists of `value` and publishes them. There is one writer, which needs no lock, and
/// `current` tells it the lists in force. It does not load their number: loom 0.7 remembers one
/// last access of each atomic, and would not try the reader's load then.
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

/// Runs a reader, and a writer that publishes twice, so that the second one writes over the first
/// lists. If the grace period has not ended by then, the writer does not write: a wait for the
/// reader would have no end under loom.
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
                // The counter is of the standard library, so that loom does not see it.
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
    // Otherwise the model would be too narrow to show anything.
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
