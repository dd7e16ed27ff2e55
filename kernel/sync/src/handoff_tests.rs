//! Tests the sequential rules. With `--cfg loom` it also tests that nothing queued is stranded,
//! whichever CPU loses the race for the ownership.

use super::*;

#[cfg(not(loom))]
#[test]
fn whoever_finds_it_taken_makes_the_owner_look_again() {
    let handoff = Handoff::new();
    assert_eq!(handoff.offer(), Offer::Owner);
    assert_eq!(handoff.offer(), Offer::Left);
    assert_eq!(handoff.offer(), Offer::Left);
    assert_eq!(handoff.finish(), Finish::DrainAgain);
    assert_eq!(handoff.finish(), Finish::Done);
    assert_eq!(handoff.offer(), Offer::Owner);
    assert_eq!(handoff.offer(), Offer::Left);
    handoff.abandon();
    assert_eq!(handoff.offer(), Offer::Owner);
}

#[cfg(loom)]
mod modelled {
    use super::*;
    use crate::atomic::AtomicU64;
    use loom::sync::Arc;
    use loom::thread;

    struct Queues {
        handoff: Handoff,
        queued: [AtomicU64; 2],
        drained: [AtomicU64; 2],
    }

    impl Queues {
        fn drain(&self) {
            for (queued, drained) in self.queued.iter().zip(&self.drained) {
                drained.store(queued.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }

        fn put_and_drain(
            &self,
            who: usize,
            offer: fn(&Handoff) -> Offer,
            finish: fn(&Handoff) -> Finish,
        ) {
            self.queued[who].store(1, Ordering::Relaxed);
            if offer(&self.handoff) == Offer::Owner {
                loop {
                    self.drain();
                    if finish(&self.handoff) == Finish::Done {
                        break;
                    }
                }
            }
        }
    }

    /// Lets two CPUs queue and offer; afterwards both records must have been drained.
    fn nothing_stranded(offer: fn(&Handoff) -> Offer, finish: fn(&Handoff) -> Finish) {
        loom::model(move || {
            let queues = Arc::new(Queues {
                handoff: Handoff::new(),
                queued: [AtomicU64::new(0), AtomicU64::new(0)],
                drained: [AtomicU64::new(0), AtomicU64::new(0)],
            });
            let other = {
                let queues = queues.clone();
                thread::spawn(move || queues.put_and_drain(1, offer, finish))
            };
            queues.put_and_drain(0, offer, finish);
            other.join().unwrap();
            for drained in &queues.drained {
                assert_eq!(drained.load(Ordering::Relaxed), 1, "stranded");
            }
        });
    }

    #[test]
    fn nothing_is_stranded() {
        nothing_stranded(Handoff::offer, Handoff::finish);
    }

    /// Two CPUs each leave a record with an owner that is at work.
    #[test]
    fn what_the_second_one_leaves_is_seen_as_well() {
        let mut model = loom::model::Builder::new();
        // The bound keeps three threads within reach: a higher one takes a minute.
        model.preemption_bound = Some(3);
        model.check(|| {
            let queues = Arc::new(Queues {
                handoff: Handoff::new(),
                queued: [AtomicU64::new(0), AtomicU64::new(0)],
                drained: [AtomicU64::new(0), AtomicU64::new(0)],
            });
            assert_eq!(queues.handoff.offer(), Offer::Owner);
            let others = [0, 1].map(|who| {
                let queues = queues.clone();
                let put = move || queues.put_and_drain(who, Handoff::offer, Handoff::finish);
                thread::spawn(put)
            });
            loop {
                queues.drain();
                if queues.handoff.finish() == Finish::Done {
                    break;
                }
            }
            for other in others {
                other.join().unwrap();
            }
            for drained in &queues.drained {
                assert_eq!(drained.load(Ordering::Relaxed), 1, "stranded");
            }
        });
    }

    /// Lets the owners of two CPUs drain by turns; `end` is how an owner ends.
    fn one_after_the_other(end: fn(&Handoff)) {
        loom::model(move || {
            let shared = Arc::new((Handoff::new(), loom::cell::UnsafeCell::new(0)));
            let own = move |shared: &(Handoff, loom::cell::UnsafeCell<u32>)| {
                if shared.0.offer() == Offer::Owner {
                    // Only the owner knows how far it has come; loom reports a race.
                    shared.1.with_mut(|_| ());
                    end(&shared.0);
                }
            };
            let others = Arc::clone(&shared);
            let other = thread::spawn(move || own(&others));
            own(&shared);
            other.join().unwrap();
        });
    }

    #[test]
    fn the_next_owner_sees_how_far_the_last_one_came() {
        one_after_the_other(|handoff| {
            // With a record left behind, the ownership ends all the same in this model.
            let _ = handoff.finish();
        });
    }

    #[test]
    fn who_owns_after_one_that_abandoned_sees_how_far_that_came() {
        one_after_the_other(Handoff::abandon);
    }

    /// One CPU queues and finds the queues owned, then the owner abandons them. The next owner sees
    /// what was queued.
    #[test]
    fn who_owns_after_one_that_abandoned_sees_what_was_left_with_that() {
        loom::model(|| {
            let queues = Arc::new((Handoff::new(), AtomicU64::new(0)));
            assert_eq!(queues.0.offer(), Offer::Owner);
            let others = Arc::clone(&queues);
            let leaves = thread::spawn(move || {
                others.1.store(1, Ordering::Relaxed);
                others.0.offer()
            });
            queues.0.abandon();
            let mut seen = 0;
            if queues.0.offer() == Offer::Owner {
                loop {
                    seen = queues.1.load(Ordering::Relaxed);
                    if queues.0.finish() == Finish::Done {
                        break;
                    }
                }
            }
            if leaves.join().unwrap() == Offer::Left {
                assert_eq!(seen, 1, "left with one owner, and not seen by the next");
            }
        });
    }

    #[test]
    #[should_panic(expected = "stranded")]
    fn loom_catches_an_owner_that_does_not_look_again() {
        nothing_stranded(Handoff::offer, |handoff| {
            handoff.state.swap(FREE, Ordering::Release);
            Finish::Done
        });
    }

    #[test]
    #[should_panic(expected = "stranded")]
    fn loom_catches_an_offer_that_does_not_release() {
        nothing_stranded(
            |handoff| {
                let mut seen = handoff.state.load(Ordering::Relaxed);
                loop {
                    let next = if seen == FREE { OWNED } else { AGAIN };
                    match handoff.state.compare_exchange(
                        seen,
                        next,
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    ) {
                        Ok(FREE) => return Offer::Owner,
                        Ok(_) => return Offer::Left,
                        Err(now) => seen = now,
                    }
                }
            },
            Handoff::finish,
        );
    }
}
