use super::{
    owned::{Owned, offline},
    *,
};
use crate::base::resizing::resizing;

/// Makes a pair with these states, whose bits are zero.
fn all_clear(states: [State; 2]) -> Owned {
    Owned::new([0; PAGEBLOCK_WORDS], states)
}

fn orders(range: core::ops::RangeInclusive<u8>) -> impl Iterator<Item = Order> {
    range.filter_map(Order::new)
}

#[test]
fn every_small_order_fills_a_pageblock_exactly_and_empties_it_again() {
    for order in orders(0..=8) {
        let owned = all_clear([State::GONE, State::EMPTY]);
        let mut taken = Vec::new();
        while let Some(index) = owned.allocate(order) {
            assert_eq!(index as u64 % order.frames(), 0);
            taken.push(index);
        }
        assert_eq!(taken.len() as u64 * order.frames(), 512);
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len() as u64 * order.frames(), 512);
        assert_eq!(owned.pageblock().state(), State::FULL);
        for index in taken {
            let (cleared, before) = owned.pageblock().free(index, order);
            assert_eq!(u64::from(cleared), order.frames());
            assert!(!before.is_isolated());
        }
        assert_eq!(owned.pageblock().state(), State::EMPTY);
        assert_eq!(owned.pair.states()[0], State::GONE);
    }
}

#[test]
fn a_run_is_aligned_and_found_between_single_frames() {
    for order in orders(1..=6) {
        let hole = order.frames() as u32;
        // Everything is taken but one aligned run, and an unaligned one that must not be claimed.
        let word = !(run_mask(order) << (64 - hole)) & !0b10;
        assert_eq!(aligned_runs(word, order), 1 << (64 - hole));
        assert_eq!(aligned_runs(!0b110, order), 0);
    }
}

#[test]
fn runs_are_claimed_by_the_word_and_only_where_there_are_some() {
    for order in orders(1..=6) {
        let frames = order.frames() as u32;
        let owned = all_clear([State::GONE, State::EMPTY]);
        owned.bits.0[0].store(!0, Ordering::Relaxed);
        // One frame in the first run of a word is taken.
        owned.bits.0[1].store(1 << (frames - 1), Ordering::Relaxed);
        let seen = owned.pageblock().word_with_run(order);
        let mut got = Vec::new();
        let claimed = owned
            .pageblock()
            .claim_runs(order, 2, 0, |word, starts| got.push((word, starts)));
        assert_eq!(claimed, 2);
        let expected = match frames {
            64 => vec![(2, 1), (3, 1)],
            32 => vec![(1, 1 << 32), (2, 1)],
            _ => vec![(1, 1 << frames | 1 << (2 * frames))],
        };
        assert_eq!((seen, &got), (Some(expected[0].0), &expected));
        for (word, starts) in got {
            let taken = owned.bits.0[word].load(Ordering::Relaxed).count_ones();
            assert_eq!(taken, starts.count_ones() * frames + u32::from(word == 1));
        }
        owned.bits.0.iter().for_each(|word| {
            // No word has an aligned run.
            word.store(ALIGNED_ENDS[order.get() as usize], Ordering::Relaxed);
        });
        assert_eq!(owned.pageblock().word_with_run(order), None);
        let claimed = owned
            .pageblock()
            .claim_runs(order, 2, 0, |_, _| unreachable!());
        assert_eq!(claimed, 0);
    }
}

#[test]
fn the_runs_of_a_word_are_those_whose_bits_are_all_zero() {
    let mut word = 1_u64;
    for _ in 0..2000 {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let some = [
            word,
            word & word.rotate_left(21),
            word & word >> 13 & word << 7,
        ];
        for word in [0, u64::MAX].into_iter().chain(some) {
            for order in orders(0..=6) {
                let starts = (0..64).step_by(order.frames() as usize);
                let expected = starts
                    .filter(|start| word & run_mask(order) << start == 0)
                    .fold(0, |runs, start| runs | 1 << start);
                assert_eq!(aligned_runs(word, order), expected, "{word:#x} {order:?}");
            }
        }
    }
}

#[test]
fn a_claim_begins_at_the_word_that_it_is_given_and_goes_once_round() {
    for order in orders(1..=8) {
        let words = (order.frames() as usize).div_ceil(64);
        for only in (0..PAGEBLOCK_WORDS).step_by(words) {
            for first in 0..PAGEBLOCK_WORDS {
                let owned = all_clear([State::GONE, State::EMPTY]);
                assert_eq!(owned.pageblock().word_with_run(order), Some(0));
                let begun = owned.pageblock().claim_from(order, first).unwrap() as usize;
                assert_eq!(begun, first / words * words * 64, "{order:?} from {first}");
                for word in &owned.bits.0 {
                    word.store(u64::MAX, Ordering::Relaxed);
                }
                for word in &owned.bits.0[only..only + words] {
                    word.store(0, Ordering::Relaxed);
                }
                assert_eq!(owned.pageblock().word_with_run(order), Some(only));
                let claimed = owned.pageblock().claim_from(order, first);
                assert_eq!(claimed, Some(only as u32 * 64), "{order:?} from {first}");
            }
        }
    }
}

/// One frame of each aligned run of an order.
const ALIGNED_ENDS: [u64; 7] = [
    u64::MAX,
    0xaaaa_aaaa_aaaa_aaaa,
    0x8888_8888_8888_8888,
    0x8080_8080_8080_8080,
    0x8000_8000_8000_8000,
    0x8000_0000_8000_0000,
    1 << 63,
];

#[test]
fn words_of_a_large_order_are_given_back_when_one_is_lost() {
    let order = Order::new(8).unwrap();
    let owned = all_clear([State::GONE, State::EMPTY]);
    // One frame in the last word of each group makes both groups fail at their last step.
    for word in [3, 7] {
        owned.bits.0[word].store(1 << 17, Ordering::Relaxed);
    }
    assert_eq!(owned.pageblock().claim(order), None);
    assert_eq!(owned.set_bits(), 2);
}

#[test]
fn singles_come_by_the_word_and_never_twice() {
    let owned = all_clear([State::GONE, State::EMPTY]);
    let mut seen = [0_u64; 8];
    for want in [63, 64, 1, 200, 184] {
        assert_eq!(owned.pageblock().reserve(1, want), want);
        let got = owned.pageblock().claim_singles(want, |word, mask| {
            assert_eq!(seen[word] & mask, 0);
            seen[word] |= mask;
        });
        assert_eq!(got, want);
    }
    assert_eq!(seen, [u64::MAX; 8]);
    assert_eq!(owned.pageblock().reserve(1, 64), 0);
}

#[test]
fn a_huge_block_needs_all_frames_and_an_order_10_both_pageblocks() {
    let owned = all_clear([State::EMPTY, State::EMPTY]);
    let frame = owned.allocate(Order::ZERO).unwrap();
    assert!(!owned.pageblock().take());
    assert!(!owned.pair.take());
    owned.pageblock().free(frame, Order::ZERO);
    assert!(owned.pair.take());
    assert_eq!(owned.pair.states(), [State::WHOLE; 2]);
    assert_eq!(owned.pageblock().reserve(1, 1), 0);
    assert_eq!(owned.pair.give(), Some([State::WHOLE; 2]));
    assert_eq!(owned.pair.give(), None);
    assert!(owned.pageblock().take());
    assert_eq!(owned.pair.states(), [State::EMPTY, State::WHOLE]);
    owned.pageblock().break_up();
    assert_eq!(owned.pageblock().state(), State::FULL);
    assert_eq!(owned.set_bits(), 512);
    assert_eq!(owned.pageblock().free(256, Order::new(8).unwrap()).0, 256);
    assert_eq!(owned.pageblock().state().free(), 256);
}

#[test]
fn an_isolated_pageblock_gives_nothing_takes_frees_and_leaves_when_empty() {
    let owned = all_clear([State::GONE, State::EMPTY]);
    let frame = owned.allocate(Order::ZERO).unwrap();
    assert_eq!(owned.pageblock().isolate(offline()), Some(511));
    assert_eq!(owned.pageblock().isolate(offline()), None);
    assert_eq!(owned.pageblock().reserve(1, 1), 0);
    assert!(!owned.pageblock().leave(resizing()));
    assert!(owned.pageblock().free(frame, Order::ZERO).1.is_isolated());
    assert!(!owned.pageblock().take());
    assert!(owned.pageblock().leave(resizing()));
    assert_eq!(owned.pageblock().state(), State::GONE);
    assert!(owned.pageblock().join(State::ISOLATED_EMPTY, resizing()));
    assert!(!owned.pageblock().join(State::ISOLATED_EMPTY, resizing()));
    assert_eq!(owned.pageblock().unisolate(offline()), Some(512));
    assert_eq!(owned.pageblock().state(), State::EMPTY);
}

#[test]
fn an_isolated_order_10_stays_isolated_when_it_is_given_back() {
    let owned = all_clear([State::EMPTY, State::EMPTY]);
    assert!(owned.pair.take());
    owned.pageblock().isolate(offline());
    let before = owned.pair.give().unwrap();
    assert_eq!(before.map(State::is_isolated), [false, true]);
    assert_eq!(owned.pair.states(), [State::EMPTY, State::ISOLATED_EMPTY]);
}

#[test]
fn clearing_clear_bits_is_noticed() {
    let owned = all_clear([State::GONE, State::EMPTY]);
    let frame = owned.allocate(Order::ZERO).unwrap();
    assert_eq!(owned.pageblock().clear(frame, Order::ZERO), 1);
    assert_eq!(owned.pageblock().clear(frame, Order::ZERO), 0);
}

#[test]
fn each_half_of_a_pair_has_its_own_state() {
    let owned = all_clear([State::GONE, State::EMPTY]);
    let halves = [0, 1, 2, 3].map(|half| owned.pair.state(half));
    let [lower, upper] = owned.pair.states();
    assert_eq!(halves, [lower, upper, lower, upper]);
    assert_eq!([lower, upper], [State::GONE, State::EMPTY]);
}

#[test]
fn a_reservation_is_of_whole_steps_and_of_what_suits() {
    let seven = State(State::PRESENT | 7);
    let owned = all_clear([State::EMPTY, seven]);
    let pageblock = owned.pageblock();
    assert_eq!(pageblock.reserve_if(1, 1, |_| false), 0);
    assert_eq!(pageblock.reserve_if(1, 1, |state| state == State::EMPTY), 0);
    assert_eq!(pageblock.reserve(8, 8), 0);
    assert_eq!(pageblock.state(), seven);
    assert_eq!(pageblock.reserve(4, 12), 4);
    assert_eq!(pageblock.state(), State(State::PRESENT | 3));
    assert_eq!(pageblock.reserve(4, 4), 0);
    assert_eq!(pageblock.reserve(1, 64), 3);
    assert_eq!(owned.pair.states(), [State::EMPTY, State::FULL]);
}

#[test]
fn a_claim_says_how_many_it_has() {
    let owned = all_clear([State::GONE, State::EMPTY]);
    for word in &owned.bits.0 {
        word.store(u64::MAX, Ordering::Relaxed);
    }
    owned.bits.0[6].store(!0b1_0110, Ordering::Relaxed);
    let mut got = Vec::new();
    let claimed = owned
        .pageblock()
        .claim_singles(10, |word, mask| got.push((word, mask)));
    assert_eq!((claimed, got), (3, vec![(6, 0b1_0110)]));
}

#[test]
fn a_large_run_is_seen_only_where_all_its_words_are_clear() {
    let owned = all_clear([State::GONE, State::EMPTY]);
    for word in [1, 2, 5, 7] {
        owned.bits.0[word].store(1 << 20, Ordering::Relaxed);
    }
    for order in orders(7..=8) {
        assert_eq!(owned.pageblock().word_with_run(order), None);
        assert_eq!(owned.pageblock().claim(order), None);
    }
    owned.bits.0[7].store(0, Ordering::Relaxed);
    let seen = orders(7..=8).map(|order| owned.pageblock().word_with_run(order));
    assert!(seen.eq([Some(6), None]));
}

#[test]
fn only_what_is_there_is_isolated_and_only_what_is_isolated_leaves() {
    let owned = all_clear([State::EMPTY, State::GONE]);
    for by in [offline(), Isolation::Compaction] {
        assert_eq!(owned.pageblock().isolate(by), None);
        assert_eq!(owned.pageblock().unisolate(by), None);
    }
    assert!(owned.pageblock().join(State::EMPTY, resizing()));
    assert!(!owned.pageblock().leave(resizing()));
    assert!(owned.pageblock().take());
    assert_eq!(
        owned.pageblock().isolate(Isolation::Compaction),
        None,
        "taken"
    );
    owned.pageblock().give().unwrap();
    assert_eq!(owned.pageblock().isolate(offline()), Some(512));
    assert_eq!(owned.pageblock().isolate(Isolation::Compaction), None);
    assert!(!owned.pageblock().take());
    assert!(owned.pageblock().leave(resizing()));
    assert_eq!(owned.pair.states(), [State::EMPTY, State::GONE]);
}

#[test]
fn two_isolations_keep_each_other_and_takers_out_and_are_counted_once() {
    let owned = all_clear([State::EMPTY, State::EMPTY]);
    let pageblock = owned.pageblock();
    let frame = owned.allocate(Order::ZERO).unwrap();
    assert_eq!(pageblock.isolate(Isolation::Compaction), Some(511));
    assert!(pageblock.free(frame, Order::ZERO).1.is_isolated());
    assert_eq!(pageblock.state(), State::COMPACTED_EMPTY);
    assert!(!pageblock.take() && !owned.pair.take());
    assert_eq!(pageblock.reserve(1, 1), 0);
    assert_eq!(pageblock.isolate(Isolation::Compaction), None);
    assert_eq!(pageblock.isolate(offline()), Some(0));
    assert!(!pageblock.take_compacted() && !pageblock.leave(resizing()));
    assert_eq!(pageblock.unisolate(offline()), Some(0));
    assert_eq!(pageblock.unisolate(offline()), None);
    assert!(pageblock.take_compacted());
    assert_eq!(owned.pair.states(), [State::EMPTY, State::WHOLE]);
    assert!(!owned.pair.take_compacted() && !owned.pair.take());
    pageblock.give().unwrap();
    assert_eq!(pageblock.isolate(Isolation::Compaction), Some(512));
    assert_eq!(pageblock.unisolate(Isolation::Compaction), Some(512));
    assert_eq!(pageblock.unisolate(Isolation::Compaction), None);
    assert_eq!(pageblock.state(), State::EMPTY);
}

#[test]
fn an_order_10_is_taken_by_its_compaction_only_where_both_halves_are_compacted() {
    let owned = all_clear([State::EMPTY, State::EMPTY]);
    assert!(!owned.pair.take_compacted());
    owned.pageblock().isolate(Isolation::Compaction);
    assert!(!owned.pair.take_compacted());
    let lower = Pageblock {
        shift: 0,
        ..owned.pageblock()
    };
    lower.isolate(Isolation::Compaction);
    assert!(owned.pair.take_compacted());
    assert_eq!(owned.pair.states(), [State::WHOLE; 2]);
}

#[test]
fn what_is_taken_by_half_is_not_given_back_as_an_order_10() {
    let halves = [State::WHOLE, State::EMPTY];
    for states in [halves, [halves[1], halves[0]], [State::EMPTY; 2]] {
        let owned = all_clear(states);
        assert_eq!(owned.pair.give(), None);
        assert_eq!(owned.pair.states(), states);
    }
}

#[test]
fn a_run_of_what_is_compacted_is_its_compactions_or_stays_free() {
    let order = Order::new(3).unwrap();
    let owned = all_clear([State::GONE, State::EMPTY]);
    let pageblock = owned.pageblock();
    assert_eq!(pageblock.claim_compacted(order), None, "open");
    pageblock.isolate(Isolation::Compaction);
    assert_eq!(pageblock.claim_compacted(order), Some(0));
    let compacted = |free: u16| State(State::PRESENT | State::COMPACTED | free);
    assert_eq!(pageblock.state(), compacted(504));
    pageblock.isolate(offline());
    assert_eq!(
        pageblock.claim_compacted(order),
        None,
        "an offline has come"
    );
    pageblock.unisolate(offline());
    assert_eq!(pageblock.state(), compacted(504));
    // There are enough frames, but no run.
    for word in &owned.bits.0 {
        word.store(0x8080_8080_8080_8080, Ordering::Relaxed);
    }
    assert_eq!(pageblock.claim_compacted(order), None);
    assert_eq!(pageblock.state(), compacted(504));
    // There is a run, but one frame of it is not in the count: a reservation is about to claim it.
    owned.bits.0[4].store(0, Ordering::Relaxed);
    owned
        .pair
        .0
        .store(u32::from(compacted(7).0) << 16, Ordering::Relaxed);
    assert_eq!(pageblock.claim_compacted(order), None);
    assert_eq!(pageblock.state(), compacted(7));
}
