//! Models of blocks larger than a word, and of whole pageblocks, on their way from owner to owner.

use super::*;

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

/// Returns the words of a pageblock: those in `free` are free, the others are not.
fn words(free: &[usize]) -> [u64; 8] {
    array::from_fn(|at| if free.contains(&at) { 0 } else { u64::MAX })
}

/// Lets an order 8 and an order 7 claim the same four words. Other free words fit neither, so the
/// count lets both try.
fn two_claims() {
    bounded(|| {
        let shared = Shared::new(words(&[0, 1, 2, 3, 5, 7]), 0);
        let other = Arc::clone(&shared);
        let smaller = thread::spawn(move || other.allocate(order(7)));
        let larger = shared.allocate(order(8));
        let smaller = smaller.join().unwrap();
        assert!(
            larger.is_none() || smaller.is_none(),
            "words with two owners"
        );
        let owned = larger.map_or(0, |_| 256) + smaller.map_or(0, |_| 128);
        assert_eq!(shared.set_bits(), 128 + owned);
        assert_eq!(shared.pageblock().state().free(), 384 - owned);
    });
}

#[test]
fn of_two_claims_of_several_words_each_has_all_or_nothing() {
    two_claims();
    caught(Mutant::ClaimWithoutRollback, two_claims);
}

/// Frees an order 7, and lets its words become another order 7. With `spare` the count has as many
/// frames more, which lie apart. Then only the bits order the two owners.
fn handed_on(spare: &'static [usize]) {
    bounded(|| {
        let shared = Shared::new(words(spare), 0);
        let freeing = Arc::clone(&shared);
        let owner = thread::spawn(move || {
            freeing.write();
            assert_eq!(freeing.pageblock().free(0, order(7)).0, 128);
        });
        match shared.allocate(order(7)) {
            Some(0) => shared.write(),
            got => assert_eq!(got, None),
        }
        owner.join().unwrap();
    });
}

#[test]
fn words_are_handed_on_with_what_was_written() {
    handed_on(&[]);
    handed_on(&[3, 5]);
    caught(Mutant::RelaxedClear, || handed_on(&[3, 5]));
    caught(Mutant::RelaxedClaim, || handed_on(&[3, 5]));
}

/// Frees the last block of a pageblock, an order 7, while the pageblock is taken whole.
fn taken_whole(take: fn(&Shared) -> bool) {
    bounded(move || {
        let shared = Shared::new(words(&[2, 3, 4, 5, 6, 7]), 0);
        let freeing = Arc::clone(&shared);
        let owner = thread::spawn(move || {
            freeing.write();
            freeing.pageblock().free(0, order(7));
        });
        if take(&shared) {
            shared.write();
            assert_eq!(shared.set_bits(), 0);
        }
        owner.join().unwrap();
    });
}

#[test]
fn a_pageblock_is_whole_when_the_last_word_is_clear() {
    let pageblock = || taken_whole(|shared| shared.pageblock().take());
    let pair = || taken_whole(|shared| shared.pair.take());
    pageblock();
    pair();
    for mistake in [
        Mutant::AddBeforeClear,
        Mutant::RelaxedAdd,
        Mutant::RelaxedTake,
    ] {
        caught(mistake, pageblock);
        caught(mistake, pair);
    }
}

/// Lets a claim lose its second word, and give the first one back, in which a frame was just freed.
fn rolled_back() {
    bounded(|| {
        let mut free = words(&[0, 2]);
        // Frame 0 is still in use. Another free frame makes up for it in the count.
        free[0] = 1;
        free[7] = !1;
        let shared = Shared::new(free, 0);
        let other = Arc::clone(&shared);
        let owner = thread::spawn(move || {
            other.write();
            other.pageblock().free(0, ZERO);
            assert_eq!(other.allocate(order(7)), None);
        });
        // The first zero bit is frame 0, once that is free.
        if shared.allocate(ZERO) == Some(0) {
            shared.write();
        }
        owner.join().unwrap();
    });
}

#[test]
fn a_claim_that_gives_back_hands_on_what_it_acquired() {
    rolled_back();
    caught(Mutant::RelaxedRollback, rolled_back);
}

/// Gives a whole block back, and takes it again: whole, or a frame of it.
fn given_back(give: fn(&Shared), take: fn(&Shared) -> bool) {
    bounded(move || {
        let shared = Shared::new([0; 8], 0);
        let whole = u32::from(State::WHOLE.0) * 0x1_0001;
        shared.pair.0.store(whole, Ordering::Relaxed);
        let giving = Arc::clone(&shared);
        let owner = thread::spawn(move || {
            giving.write();
            give(&giving);
        });
        others_first();
        if take(&shared) {
            shared.write();
        }
        owner.join().unwrap();
    });
}

#[test]
fn what_was_whole_is_handed_on_with_what_was_written() {
    let pair: fn(&Shared) = |shared| assert!(shared.pair.give().is_some());
    let pageblock: fn(&Shared) = |shared| assert!(shared.pageblock().give().is_some());
    let takes: [fn(&Shared) -> bool; 3] = [
        |shared| shared.pair.take(),
        |shared| shared.pageblock().take(),
        |shared| shared.allocate(ZERO).is_some(),
    ];
    for take in takes {
        given_back(pair, take);
        given_back(pageblock, take);
    }
    fn weak(mistake: Mutant, give: fn(&Shared), take: fn(&Shared) -> bool) {
        let wrong = AssertUnwindSafe(|| mutant::with(mistake, || given_back(give, take)));
        assert!(catch_unwind(wrong).is_err(), "{mistake:?} passes");
    }
    weak(Mutant::RelaxedGive, pair, takes[0]);
    weak(Mutant::RelaxedGive, pageblock, takes[1]);
    weak(Mutant::RelaxedTake, pair, takes[0]);
    weak(Mutant::RelaxedTake, pageblock, takes[1]);
    // The bits of a whole pageblock are always clear, so only the count orders the two owners.
    weak(Mutant::RelaxedReserve, pageblock, takes[2]);
}

/// Breaks up a whole pageblock and frees its upper half, from which another thread allocates.
fn broken_up() {
    bounded(|| {
        let shared = Shared::new([0; 8], 0);
        let whole = u32::from(State::WHOLE.0) * 0x1_0001;
        shared.pair.0.store(whole, Ordering::Relaxed);
        let other = Arc::clone(&shared);
        let owner = thread::spawn(move || {
            other.pageblock().break_up();
            other.pageblock().free(256, order(8));
        });
        let got = shared.allocate(order(7));
        assert!(got.is_none_or(|start| start >= 256), "{got:?} is owned");
        owner.join().unwrap();
        let taken = got.map_or(0, |_| 128);
        assert_eq!(shared.set_bits(), 256 + taken);
        assert_eq!(shared.pageblock().state().free(), 256 - taken);
    });
}

#[test]
fn the_rest_of_a_block_that_is_freed_in_part_stays_its_owners() {
    broken_up();
    caught(Mutant::BreakUpWithoutBits, broken_up);
}
