//! Sequential rules, and with `--cfg loom` that nothing queued is stranded, whoever loses the race for the ownership.

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

    /// Two CPUs queue and offer; afterwards both records must have been drained by somebody.
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
