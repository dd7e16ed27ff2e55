//! Models of the pageblock's protocol: every interleaving and every permitted reordering of a few
//! steps.

use super::{
    owned::{Owned, offline},
    *,
};
use crate::base::{mutant, resizing::resizing};
use core::{array, ops::Deref};
use loom::{cell::UnsafeCell, model, sync::Arc, thread};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tidemark_sync::atomic::AtomicU32;

#[path = "bits_isolation_loom.rs"]
mod isolation;
#[path = "bits_words_loom.rs"]
mod words;

const ZERO: Order = Order::ZERO;

/// A pageblock in the upper half of a pair, and the content of its frame 5.
struct Shared {
    owned: Owned,
    content: UnsafeCell<u32>,
}

impl Shared {
    /// Makes a pageblock with these words of bits, and as many frames free as bits are zero.
    fn new(words: [u64; 8], flags: u16) -> Arc<Self> {
        let free: u32 = words.iter().map(|word| word.count_zeros()).sum();
        let state = State::PRESENT | flags | free as u16;
        Arc::new(Self {
            owned: Owned::new(words, [State::EMPTY, State(state)]),
            content: UnsafeCell::new(0),
        })
    }

    /// Makes a pageblock with all frames free but `frame`.
    fn with_one_taken(frame: u32, flags: u16) -> Arc<Self> {
        let mut words = [0; 8];
        words[frame as usize / 64] = 1 << (frame % 64);
        Self::new(words, flags)
    }

    /// Allocates in the wrong order: bits first, count second.
    fn allocate_bits_first(&self) -> Option<u32> {
        let index = self.pageblock().claim(ZERO)?;
        if self.pageblock().reserve(1, 1) == 0 {
            self.pageblock().clear(index, ZERO);
            return None;
        }
        Some(index)
    }

    /// Writes the content as a frame's owner does; loom reports a race.
    fn write(&self) {
        self.content.with_mut(|_| ());
    }
}

impl Deref for Shared {
    type Target = Owned;

    fn deref(&self) -> &Owned {
        &self.owned
    }
}

/// Runs a model within bounds that keep it to seconds, or those of LOOM_MAX_PREEMPTIONS.
fn bounded(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(body);
}

/// Lets the others go first, without an ordering. loom 0.7 remembers one last access of each
/// atomic. If a thread loads before it stores, loom remembers the load, and does not try another
/// thread's load behind the store.
fn others_first() {
    thread::yield_now();
}

#[track_caller]
fn caught(mistake: Mutant, model: fn()) {
    let result = catch_unwind(AssertUnwindSafe(|| mutant::with(mistake, model)));
    assert!(result.is_err(), "{mistake:?} passes");
}

/// Lets one thread free a frame, and another one allocate one. With `spare` a second frame is free.
/// The reservation may then count the spare frame and the claim find the freed one, so that only
/// the bit orders the two owners.
fn handed_on(spare: u64) {
    bounded(move || {
        let mut words = [u64::MAX; 8];
        words[0] = !spare;
        let shared = Shared::new(words, 0);
        let freeing = Arc::clone(&shared);
        let owner = thread::spawn(move || {
            freeing.write();
            freeing.pageblock().free(5, ZERO);
        });
        let got = shared.allocate(ZERO);
        match got {
            Some(5) => shared.write(),
            Some(frame) => assert!(spare >> frame & 1 == 1),
            None => assert_eq!(spare, 0),
        }
        owner.join().unwrap();
    });
}

const SPARE: u64 = 1 << 9;

#[test]
fn a_freed_frame_is_handed_on_with_what_was_written() {
    handed_on(0);
    handed_on(SPARE);
}

/// A count that is added before its bits are clear only makes a single frame's claim wait. It
/// breaks code that looks at the count alone: see the models of taking and leaving.
#[test]
fn handing_on_without_its_orderings_is_noticed() {
    caught(Mutant::RelaxedClear, || handed_on(SPARE));
    caught(Mutant::RelaxedClaim, || handed_on(SPARE));
}

/// Frees the last frame of a pageblock while another thread takes the pageblock whole.
fn taken_whole() {
    bounded(|| {
        let shared = Shared::with_one_taken(5, 0);
        let freeing = Arc::clone(&shared);
        let owner = thread::spawn(move || {
            freeing.write();
            freeing.pageblock().free(5, ZERO);
        });
        if shared.pageblock().take() {
            shared.write();
            assert_eq!(shared.set_bits(), 0);
        }
        owner.join().unwrap();
    });
}

#[test]
fn a_whole_pageblock_is_taken_by_its_count_alone() {
    taken_whole();
    caught(Mutant::RelaxedAdd, taken_whole);
    caught(Mutant::AddBeforeClear, taken_whole);
}

/// An order 10 and a single frame want the same pageblock.
#[test]
fn an_order_10_and_a_single_frame_never_both_succeed() {
    bounded(|| {
        let shared = Shared::new([0; 8], 0);
        let other = Arc::clone(&shared);
        let single = thread::spawn(move || other.allocate(ZERO));
        let pair = shared.pair.take();
        let single = single.join().unwrap();
        assert!(!(pair && single.is_some()));
        assert!(pair || single.is_some());
    });
}

/// Two threads allocate single frames from the last two.
#[test]
fn two_reservations_find_two_frames() {
    bounded(|| {
        let mut words = [u64::MAX; 8];
        words[7] = !(1 << 3 | 1 << 60);
        let shared = Shared::new(words, 0);
        let other = Arc::clone(&shared);
        let second = thread::spawn(move || other.allocate(ZERO));
        let first = shared.allocate(ZERO).unwrap();
        assert_ne!(second.join().unwrap().unwrap(), first);
        assert_eq!(shared.pageblock().state(), State::FULL);
    });
}

/// Frames are freed behind a claim that has passed their word, and those before it are taken.
#[test]
fn a_reserved_frame_is_found_though_it_moves_behind_the_claim() {
    bounded(|| {
        let mut words = [u64::MAX; 8];
        words[1] = !0b11;
        let shared = Shared::new(words, 0);
        let other = Arc::clone(&shared);
        let moves = thread::spawn(move || {
            other.pageblock().free(0, Order::ONE);
            if other.pageblock().reserve(2, 2) == 0 {
                return 0;
            }
            other.pageblock().claim_runs(Order::ONE, 1, 1, |_, _| ())
        });
        assert!(shared.allocate(ZERO).is_some());
        let runs = moves.join().unwrap();
        assert_eq!(shared.pageblock().state().free(), 3 - 2 * runs);
    });
}

/// A frame beside a run comes back while that is claimed.
#[test]
fn a_run_is_had_whoever_frees_beside_it() {
    bounded(|| {
        let mut words = [u64::MAX; 8];
        words[0] = !0b1111;
        let shared = Shared::new(words, 0);
        let other = Arc::clone(&shared);
        let owner = thread::spawn(move || other.pageblock().free(8, ZERO));
        assert_eq!(shared.allocate(Order::TWO), Some(0));
        owner.join().unwrap();
        assert_eq!(shared.pageblock().state().free(), 1);
    });
}

/// Lets an order 7 lose its second word to a single frame.
fn words_and_singles() {
    bounded(|| {
        let mut words = [u64::MAX; 8];
        (words[0], words[1], words[2]) = (0, 0, !1);
        let shared = Shared::new(words, 0);
        let other = Arc::clone(&shared);
        let large = thread::spawn(move || other.allocate(Order::new(7).unwrap()));
        let single = shared.allocate(ZERO).unwrap();
        if let Some(start) = large.join().unwrap() {
            assert!(
                !(start..start + 128).contains(&single),
                "two owners of frame {single}"
            );
            assert_eq!(shared.set_bits(), 512);
        } else {
            assert_eq!(shared.pageblock().state().free(), 128);
            assert_eq!(shared.set_bits(), 512 - 128);
        }
    });
}

#[test]
fn a_large_order_that_loses_a_word_owns_nothing() {
    words_and_singles();
    caught(Mutant::ClaimWithoutRollback, words_and_singles);
}

/// Claims several runs by one step while single frames are taken and freed in the same word.
fn runs_and_singles() {
    const TWO: Order = Order::TWO;
    bounded(|| {
        let mut words = [u64::MAX; 8];
        // There are three aligned runs of four. Frame 5, in the second one, is in use.
        words[0] = !0xfff | 1 << 5;
        let shared = Shared::new(words, 0);
        let other = Arc::clone(&shared);
        let singles = thread::spawn(move || {
            other.write();
            other.pageblock().free(5, ZERO);
            other.allocate(ZERO)
        });
        let reserved = shared.pageblock().reserve(4, 12);
        let mut starts = 0;
        let got = |_, claimed| starts = claimed;
        shared.pageblock().claim_runs(TWO, reserved / 4, 0, got);
        let runs = starts.wrapping_mul(0xf);
        assert!(runs.count_ones() <= reserved);
        if runs >> 5 & 1 == 1 {
            shared.write();
        }
        shared.pageblock().unreserve(reserved - runs.count_ones());
        // It got no frame if all twelve were reserved at that moment.
        let single = singles.join().unwrap();
        let both = single.filter(|single| runs >> single & 1 == 1);
        assert_eq!(both, None, "two owners of a frame");
        let free = 12 - u32::from(single.is_some()) - runs.count_ones();
        assert_eq!(shared.pageblock().state().free(), free);
        assert_eq!(shared.set_bits(), 512 - free);
    });
}

#[test]
fn runs_that_are_claimed_at_once_are_nobody_elses() {
    runs_and_singles();
    caught(Mutant::RelaxedClear, runs_and_singles);
    caught(Mutant::RelaxedClaim, runs_and_singles);
}

/// Frees the last frame of an isolated pageblock while the pageblock tries to leave.
fn last_free_and_leaving() {
    bounded(|| {
        let shared = Shared::with_one_taken(5, State::ISOLATED);
        let freeing = Arc::clone(&shared);
        let owner = thread::spawn(move || {
            freeing.write();
            freeing.pageblock().free(5, ZERO)
        });
        if shared.pageblock().leave(resizing()) {
            shared.write();
            assert_eq!(shared.set_bits(), 0, "a pageblock left with a frame in use");
        }
        let (cleared, before) = owner.join().unwrap();
        assert_eq!((cleared, before.is_isolated()), (1, true));
    });
}

#[test]
fn a_pageblock_leaves_after_its_last_free() {
    last_free_and_leaving();
    caught(Mutant::AddBeforeClear, last_free_and_leaving);
}

/// Allocates while another thread isolates the pageblock and makes it leave.
fn allocation_and_leaving(allocate: fn(&Shared) -> Option<u32>) {
    bounded(move || {
        let shared = Shared::new([0; 8], 0);
        let other = Arc::clone(&shared);
        let allocation = thread::spawn(move || allocate(&other));
        let counted = shared.pageblock().isolate(offline()).unwrap();
        let left = shared.pageblock().leave(resizing());
        if left {
            assert_eq!(shared.set_bits(), 0, "a pageblock left with a bit claimed");
        }
        let got = allocation.join().unwrap();
        assert!(!(left && got.is_some()));
        // These are the frames that the isolation, and those that the allocation took from the
        // zone's counter.
        assert_eq!(counted + u32::from(got.is_some()), 512);
    });
}

#[test]
fn a_pageblock_leaves_only_if_nobody_has_reserved() {
    allocation_and_leaving(|shared| shared.allocate(ZERO));
    let wrong = || allocation_and_leaving(Shared::allocate_bits_first);
    caught(Mutant::None, wrong);
}

/// Allocates from a pageblock that is not isolated while another thread makes it leave.
fn open_and_leaving() {
    bounded(|| {
        let shared = Shared::new([0; 8], State::ISOLATED);
        let other = Arc::clone(&shared);
        // The isolation is undone, and the pageblock used, between a leaving's look and its step.
        let allocation = thread::spawn(move || {
            other.pageblock().unisolate(offline())?;
            other.allocate(ZERO)
        });
        let left = shared.pageblock().leave(resizing());
        let got = allocation.join().unwrap();
        assert!(!(left && got.is_some()), "a pageblock left under its owner");
    });
}

#[test]
fn leaving_is_one_step() {
    open_and_leaving();
    caught(Mutant::LeaveInTwoSteps, open_and_leaving);
}

/// Lets a compaction give up, and another thread allocate, while an offline isolates the pageblock
/// as well.
fn compaction_and_offline() {
    bounded(|| {
        let shared = Shared::new([0; 8], 0);
        let other = Arc::clone(&shared);
        let compaction = thread::spawn(move || {
            let lost = other.pageblock().isolate(Isolation::Compaction)?;
            let gained = other.pageblock().unisolate(Isolation::Compaction).unwrap();
            let got = other.allocate(ZERO).is_some();
            Some((i64::from(gained) - i64::from(lost), got))
        });
        let lost = shared.pageblock().isolate(offline()).unwrap();
        let left = shared.pageblock().leave(resizing());
        let gained = if left {
            0
        } else {
            shared.pageblock().unisolate(offline()).unwrap()
        };
        let (change, got) = compaction.join().unwrap().unwrap_or_default();
        assert!(!(left && got), "a pageblock left under its owner");
        // The zone's counter must have the free frames, when nothing is isolated any more.
        let counter = 512 - i64::from(lost) + i64::from(gained) + change - i64::from(got);
        assert_eq!(counter, i64::from(shared.pageblock().state().free()));
    });
}

#[test]
fn two_isolations_are_counted_once_and_neither_ends_the_other() {
    compaction_and_offline();
    caught(Mutant::OneIsolationForAll, compaction_and_offline);
}
