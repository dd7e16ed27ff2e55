#[cfg(not(loom))]
mod sequential {
    use crate::SeqCount;
    use core::ops::ControlFlow::{Break, Continue};

    #[test]
    fn a_reader_learns_of_a_rewriting_before_during_and_after_it() {
        let counter = SeqCount::new();
        let before = counter.begin();
        assert!(!before.is_odd() && !counter.changed_or_odd(before));
        counter.write(|| {
            let during = counter.begin();
            assert!(during.is_odd());
            assert!(counter.changed_or_odd(during), "odd, though unchanged");
            assert!(counter.changed_or_odd(before));
        });
        assert!(counter.changed_or_odd(before));
        let after = counter.begin();
        assert!(!counter.changed_or_odd(after));
        assert_eq!(after.value(), before.value() + 2);
    }

    #[test]
    fn a_seqlocks_reader_waits_while_the_count_is_odd_until_it_is_told_to_give_up() {
        let counter = SeqCount::new();
        let unreached = || panic!("waits at an even count");
        assert_eq!(counter.begin_even(unreached), (counter.begin(), 0));
        counter.make_odd();
        let mut turns = 0;
        let (given_up, found_odd) = counter.begin_even(|| {
            turns += 1;
            if turns == 5 { Break(()) } else { Continue(()) }
        });
        assert!(given_up.is_odd());
        assert_eq!(found_odd, 5);
        assert!(!counter.changed(given_up), "it would wait again for ever");
        let (cookie, found_odd) = counter.begin_even(|| {
            counter.make_even();
            Continue(())
        });
        assert_eq!((cookie.value(), found_odd), (2, 1));
        assert!(counter.changed(given_up) && !counter.changed(cookie));
    }
}

#[cfg(loom)]
mod models {
    use super::super::{LEFT_OUT, LeftOut, SeqCount};
    use crate::atomic::{AtomicU32, Ordering, fence};
    use core::ops::ControlFlow;
    use loom::{model, sync::Arc, thread};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// The protocol with its orderings as arguments; `Orderings::SEED` are those of `SeqCount`.
    #[derive(Clone, Copy)]
    struct Orderings {
        begin: Ordering,
        /// Whether the first increment is a releasing read-modify-write instead of a store and a
        /// fence.
        is_first_a_release_increment: bool,
        rereads_after_acquire_fence: bool,
    }

    impl Orderings {
        const SEED: Self = Self {
            begin: Ordering::Relaxed,
            is_first_a_release_increment: false,
            rereads_after_acquire_fence: true,
        };
    }

    /// What a reader concludes about two entries that are 0 before the rewrite and 1 after it.
    #[derive(Clone, Copy, Debug)]
    struct Seen {
        begun: u32,
        entries: [u32; 2],
    }

    /// Runs one writer and one reader; `judge` sees every walk that the check lets pass.
    fn explore(orderings: Orderings, judge: fn(Seen)) {
        model(move || {
            let shared = Arc::new((AtomicU32::new(0), [AtomicU32::new(0), AtomicU32::new(0)]));
            let writers = Arc::clone(&shared);
            let writer = thread::spawn(move || {
                let (counter, entries) = &*writers;
                if orderings.is_first_a_release_increment {
                    counter.fetch_add(1, Ordering::Release);
                } else {
                    counter.store(1, Ordering::Relaxed);
                    fence(Ordering::Release);
                }
                for entry in entries {
                    entry.store(1, Ordering::Relaxed);
                }
                counter.store(2, Ordering::Release);
            });
            let (counter, entries) = &*shared;
            let begun = counter.load(orderings.begin);
            let seen = [0, 1].map(|at: usize| entries[at].load(Ordering::Relaxed));
            if orderings.rereads_after_acquire_fence {
                fence(Ordering::Acquire);
            }
            let now = counter.load(Ordering::Relaxed);
            if now == begun && now % 2 == 0 {
                judge(Seen {
                    begun,
                    entries: seen,
                });
            }
            writer.join().unwrap();
        });
    }

    /// Asserts that a walk that passes has not seen half a list.
    fn is_whole(seen: Seen) {
        assert_eq!(seen.entries[0], seen.entries[1], "{seen:?}");
    }

    /// Asserts that a walk that passes and began after the rewrite has not missed it.
    fn is_current(seen: Seen) {
        assert_eq!(seen.entries, [seen.begun / 2; 2], "{seen:?}");
    }

    fn finds(orderings: Orderings, judge: fn(Seen)) -> bool {
        catch_unwind(AssertUnwindSafe(|| explore(orderings, judge))).is_err()
    }

    #[test]
    fn h9_the_seeds_plain_begin_misses_a_rebuild_that_is_complete() {
        assert!(finds(Orderings::SEED, is_current));
    }

    /// Both the count and the reread may be from before the rewrite, and one entry from after it.
    /// No fence orders the begin's load with the entries. A walk that passes need not even be
    /// whole.
    #[test]
    fn h9_the_seeds_plain_begin_lets_half_a_list_pass() {
        assert!(finds(Orderings::SEED, is_whole));
    }

    #[test]
    fn an_acquiring_begin_misses_nothing() {
        let acquiring = Orderings {
            begin: Ordering::Acquire,
            ..Orderings::SEED
        };
        explore(acquiring, is_current);
        explore(acquiring, is_whole);
    }

    #[test]
    fn a_releasing_increment_does_not_order_the_stores_after_it() {
        let weak = Orderings {
            begin: Ordering::Acquire,
            is_first_a_release_increment: true,
            ..Orderings::SEED
        };
        assert!(finds(weak, is_whole));
    }

    #[test]
    fn a_reread_without_its_fence_lets_half_a_list_pass() {
        let weak = Orderings {
            begin: Ordering::Acquire,
            rereads_after_acquire_fence: false,
            ..Orderings::SEED
        };
        assert!(finds(weak, is_whole));
    }

    /// How a reader looks again.
    #[derive(Clone, Copy, Debug)]
    enum Look {
        /// The seed's check.
        ChangedOrOdd,
        /// A seqlock's check.
        Changed,
    }

    /// Runs the counter itself, with one writer and a reader that begins as a seqlock's does: a
    /// walk that passes its check is whole and current. The reader's wait is cut short, as a lab
    /// run's is, because loom has no fair scheduler. A begin without an acquire would first miss a
    /// whole rebuild (H9).
    fn explore_counter(look: Look, left_out: Option<LeftOut>) {
        model(move || {
            // One thread of the system runs Loom's threads in turns.
            LEFT_OUT.set(left_out);
            let shared = Arc::new((SeqCount::new(), [AtomicU32::new(0), AtomicU32::new(0)]));
            let writers = Arc::clone(&shared);
            let writer = thread::spawn(move || {
                writers.0.make_odd_from(0);
                for entry in &writers.1 {
                    entry.store(1, Ordering::Relaxed);
                }
                writers.0.make_even_from(1);
            });
            let (cookie, _) = shared.0.begin_even(|| ControlFlow::Break(()));
            let entries = [0, 1].map(|at: usize| shared.1[at].load(Ordering::Relaxed));
            let passes = match look {
                Look::ChangedOrOdd => !shared.0.changed_or_odd(cookie),
                Look::Changed => !cookie.is_odd() && !shared.0.changed(cookie),
            };
            if passes {
                assert_eq!(entries, [cookie.value() / 2; 2]);
            }
            writer.join().unwrap();
            LEFT_OUT.set(None);
        });
    }

    /// The seed's check, as it is used. Its begin is plain (H9). A fence after the begin here
    /// leaves the check's own ordering as the only one in question.
    #[test]
    fn the_check_lets_no_half_list_pass() {
        model(|| {
            let shared = Arc::new((
                crate::SeqCount::new(),
                [AtomicU32::new(0), AtomicU32::new(0)],
            ));
            let writers = Arc::clone(&shared);
            let writer = thread::spawn(move || {
                writers.0.make_odd_from(0);
                for entry in &writers.1 {
                    entry.store(1, Ordering::Relaxed);
                }
                writers.0.make_even_from(1);
            });
            let cookie = shared.0.begin();
            fence(Ordering::Acquire);
            let entries = [0, 1].map(|at: usize| shared.1[at].load(Ordering::Relaxed));
            if !shared.0.changed_or_odd(cookie) {
                assert_eq!(entries, [cookie.value() / 2; 2]);
            }
            writer.join().unwrap();
        });
    }

    fn counter_finds(look: Look, left_out: LeftOut) -> bool {
        let run = || explore_counter(look, Some(left_out));
        let found = catch_unwind(AssertUnwindSafe(run)).is_err();
        LEFT_OUT.set(None);
        found
    }

    #[test]
    fn a_reader_of_the_counter_lets_nothing_pass_that_is_half_or_old() {
        for look in [Look::ChangedOrOdd, Look::Changed] {
            explore_counter(look, None);
        }
    }

    #[test]
    fn each_fence_of_the_counter_is_needed() {
        for look in [Look::ChangedOrOdd, Look::Changed] {
            for left_out in [
                LeftOut::ReadFence,
                LeftOut::FirstWriteFence,
                LeftOut::SecondWrite,
            ] {
                assert!(counter_finds(look, left_out), "{look:?} {left_out:?}");
            }
        }
    }

    /// H9 is in `SeqCount` itself. The writer does not load the counter here, because loom 0.7
    /// remembers one last access of each atomic. A thread's own load before its store hides the
    /// reader's load, and loom never tries that interleaving.
    #[test]
    fn h9_is_in_the_counter_as_it_is_used() {
        let result = catch_unwind(|| {
            model(|| {
                let shared = Arc::new((crate::SeqCount::new(), AtomicU32::new(0)));
                let writers = Arc::clone(&shared);
                let writer = thread::spawn(move || {
                    writers.0.make_odd_from(0);
                    writers.1.store(1, Ordering::Relaxed);
                    writers.0.make_even_from(1);
                });
                let cookie = shared.0.begin();
                let entry = shared.1.load(Ordering::Relaxed);
                let passed = !shared.0.changed_or_odd(cookie);
                assert!(!passed || entry == cookie.value() / 2);
                writer.join().unwrap();
            });
        });
        assert!(result.is_err());
    }
}
