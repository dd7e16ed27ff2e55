//! Models of pageblocks that come, are isolated and leave, while others free and allocate.

use super::*;
use tidemark_sync::atomic::AtomicI64;

/// Frees an order 7 while an offline isolates the pageblock, or ends that. The zone's counter must
/// have each frame once that is free and not isolated.
fn counted(flags: u16) {
    bounded(move || {
        let mut words = [0; 8];
        (words[0], words[1]) = (u64::MAX, u64::MAX);
        let shared = Shared::new(words, flags);
        let counts = |isolated: bool, free: u32| if isolated { 0 } else { i64::from(free) };
        let was_isolated = flags & State::ISOLATED != 0;
        let counter = Arc::new(AtomicI64::new(counts(was_isolated, 384)));
        let (other, others) = (Arc::clone(&shared), Arc::clone(&counter));
        let owner = thread::spawn(move || {
            let (cleared, before) = other.pageblock().free(0, Order::new(7).unwrap());
            others.fetch_add(counts(before.is_isolated(), cleared), Ordering::Relaxed);
        });
        if was_isolated {
            let gained = shared.pageblock().unisolate(offline()).unwrap();
            counter.fetch_add(gained.into(), Ordering::Relaxed);
        } else {
            let lost = shared.pageblock().isolate(offline()).unwrap();
            counter.fetch_sub(lost.into(), Ordering::Relaxed);
        }
        owner.join().unwrap();
        let now = shared.pageblock().state();
        assert_eq!(now.free(), 512);
        let counted = counter.load(Ordering::Relaxed);
        assert_eq!(counted, counts(now.is_isolated(), 512));
    });
}

#[test]
fn a_frame_freed_while_its_pageblock_is_isolated_is_counted_once() {
    counted(0);
    counted(State::ISOLATED);
    caught(Mutant::IsolationReadBeforeAdd, || counted(0));
    caught(Mutant::IsolationReadBeforeAdd, || counted(State::ISOLATED));
}

/// Frees the last block of an isolated pageblock, word by word, while the pageblock tries to leave.
fn last_words_and_leaving() {
    bounded(|| {
        let mut words = [0; 8];
        (words[0], words[1]) = (u64::MAX, u64::MAX);
        let shared = Shared::new(words, State::ISOLATED);
        let other = Arc::clone(&shared);
        let owner = thread::spawn(move || {
            other.write();
            other.pageblock().free(0, Order::new(7).unwrap());
        });
        if shared.pageblock().leave(resizing()) {
            shared.write();
            assert_eq!(shared.set_bits(), 0, "a pageblock left with a frame in use");
        }
        owner.join().unwrap();
    });
}

#[test]
fn a_pageblock_leaves_after_the_last_word_of_its_last_block() {
    last_words_and_leaving();
    for mistake in [
        Mutant::AddBeforeClear,
        Mutant::RelaxedAdd,
        Mutant::RelaxedLeave,
    ] {
        caught(mistake, last_words_and_leaving);
    }
}

/// The books that are written for a pageblock before it joins.
struct Books {
    shared: Arc<Shared>,
    zone: AtomicU32,
    managed: AtomicU32,
}

/// Lets a pageblock join while another thread uses it: at once, or isolated until the zone's sizes
/// are written.
fn coming(joined: State, uses: fn(&Books) -> bool) {
    bounded(move || {
        let books = Arc::new(Books {
            shared: Shared::new([0; 8], 0),
            zone: AtomicU32::new(1),
            managed: AtomicU32::new(0),
        });
        books.shared.pair.0.store(0, Ordering::Relaxed);
        let comes = Arc::clone(&books);
        // Hot-plug is the thread that loom runs first: see `others_first`.
        let user = thread::spawn(move || {
            if uses(&books) {
                assert_eq!(books.zone.load(Ordering::Relaxed), 2, "the zone it was in");
                if joined == State::ISOLATED_EMPTY {
                    let managed = books.managed.load(Ordering::Relaxed);
                    assert_eq!(managed, 512, "the sizes before");
                }
            }
        });
        let pageblock = comes.shared.pageblock();
        comes.zone.store(2, Ordering::Relaxed);
        assert!(pageblock.join(joined, resizing()));
        comes.managed.store(512, Ordering::Relaxed);
        if joined == State::ISOLATED_EMPTY {
            pageblock.unisolate(offline());
        }
        user.join().unwrap();
    });
}

#[test]
fn who_uses_a_pageblock_knows_its_zone() {
    fn allocated(books: &Books) -> bool {
        books.shared.pageblock().reserve(1, 1) > 0
    }
    fn isolated(books: &Books) -> bool {
        let isolated = books.shared.pageblock().isolate(Isolation::Compaction);
        isolated.is_some()
    }
    let at_once = || coming(State::EMPTY, allocated);
    let later = || coming(State::ISOLATED_EMPTY, allocated);
    let to_compact = || coming(State::EMPTY, isolated);
    at_once();
    later();
    to_compact();
    caught(Mutant::RelaxedJoin, at_once);
    caught(Mutant::RelaxedReserve, at_once);
    caught(Mutant::RelaxedUnisolate, later);
    caught(Mutant::RelaxedReserve, later);
    caught(Mutant::RelaxedJoin, to_compact);
    caught(Mutant::RelaxedIsolate, to_compact);
}

/// Frees the last frame of a pageblock that is being compacted, while the compactor takes it whole.
fn compacted() {
    bounded(|| {
        let shared = Shared::with_one_taken(5, 0);
        let other = Arc::clone(&shared);
        let owner = thread::spawn(move || {
            other.write();
            other.pageblock().free(5, ZERO);
        });
        assert!(shared.pageblock().isolate(Isolation::Compaction).is_some());
        if shared.pageblock().take_compacted() {
            shared.write();
            assert_eq!(shared.set_bits(), 0);
        }
        owner.join().unwrap();
    });
}

#[test]
fn a_compacted_pageblock_is_taken_with_what_its_last_owner_wrote() {
    compacted();
    caught(Mutant::RelaxedTake, compacted);
    caught(Mutant::RelaxedAdd, compacted);
}

/// Frees the last frame of a pair that is being compacted, while the compactor takes both halves.
fn compacted_pair() {
    bounded(|| {
        let shared = Shared::with_one_taken(5, State::COMPACTED);
        let upper = shared.pair.0.load(Ordering::Relaxed) & 0xffff_0000;
        let states = upper | u32::from(State::COMPACTED_EMPTY.0);
        shared.pair.0.store(states, Ordering::Relaxed);
        let other = Arc::clone(&shared);
        let owner = thread::spawn(move || {
            other.write();
            other.pageblock().free(5, ZERO);
        });
        if shared.pair.take_compacted() {
            shared.write();
            assert_eq!(shared.set_bits(), 0);
        }
        owner.join().unwrap();
    });
}

#[test]
fn a_compacted_pair_is_taken_with_what_its_last_owner_wrote() {
    compacted_pair();
    caught(Mutant::RelaxedTake, compacted_pair);
    caught(Mutant::RelaxedAdd, compacted_pair);
}

/// Frees the last frame of a run while the compactor claims the run.
fn compacted_run() {
    bounded(|| {
        let mut words = [u64::MAX; 8];
        words[0] = !0xff | 1 << 5;
        let shared = Shared::new(words, State::COMPACTED);
        let other = Arc::clone(&shared);
        let owner = thread::spawn(move || {
            other.write();
            other.pageblock().free(5, ZERO);
        });
        let is_enough = shared.pageblock().state().free() == 8;
        match shared.pageblock().claim_compacted(Order::new(3).unwrap()) {
            Some(0) => shared.write(),
            Some(start) => panic!("{start} is no run"),
            None => assert!(!is_enough, "reserved, but not found"),
        }
        owner.join().unwrap();
    });
}

#[test]
fn a_run_that_was_compacted_is_found_with_what_its_last_owner_wrote() {
    compacted_run();
    caught(Mutant::RelaxedReserve, compacted_run);
}
