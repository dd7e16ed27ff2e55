//! A pageblock's state, in half a word: the number of free frames, and what may take them.
//!
//! # What writes a pageblock's state and flags
//!
//! The states of a pair are one word. Each change is one atomic step on it (`pageblock/bits`), so
//! that changes of other parts, or of the other half, are never lost.
//!
//! | part | changed by | on behalf of |
//! |---|---|---|
//! | count, down | `reserve_if` | an allocation, if the pageblock is open |
//! | count, down | `claim_compacted` | the compaction that has isolated it |
//! | count, up | `add` | a free or a drain, which has cleared its bits before, and boot |
//! | count, up | `unreserve` | an allocation, or a compaction, that has found no run, too few frames, or another zone |
//! | count 512 → 0, taken set | `take`, `take_compacted` | an allocation of order 9 or 10; bits stay 0 |
//! | taken cleared, count 0 → 512 | `give` | the free of that block, or an allocation that met another zone |
//! | taken cleared | `break_up` | the owner, which splits the block |
//! | isolated | `isolate`, `unisolate` with `Isolation::Offline`, `join`, `leave` | hot-plug |
//! | compacted | `isolate`, `unisolate` with `Isolation::Compaction`, `take_compacted` | the one compaction that is at work there |
//! | present, and the count with it | `join`, `leave` | hot-plug, and boot |
//!
//! Hot-plug and boot prove that by a [`Resizing`], the hot-plug lock. The others are right by what
//! they hold: an open reservation, bits or a block of their own, or the compaction's mark, which
//! only one sets. A compare-and-swap from the expected state decides where two of them meet.
//!
//! The flags (`pageblock/flags`) are a word of their own. `set_zone` writes all of it, while the
//! pageblock is gone; nothing else changes the zone. The kind changes by compare-and-swap
//! (`exchange_flags`): by an allocation that holds a frame there, by a request that gives the
//! high-atomic reserve back, and by an offline. A compaction sets and clears KEPT_OUT.

use crate::{
    base::resizing::Resizing,
    pageblock::section_meta::{PAGEBLOCK_FRAMES, PageblockPair},
};

/// State of one pageblock. Zero means that it is gone: not managed by the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(pub(crate) u16);

impl State {
    pub(crate) const COUNT: u16 = (1 << 10) - 1;
    /// An offline is at work, or the pageblock has just joined.
    pub(crate) const ISOLATED: u16 = 1 << 10;
    /// The allocator manages it.
    pub(crate) const PRESENT: u16 = 1 << 11;
    /// It is allocated whole, as an order 9 or half an order 10.
    pub(crate) const TAKEN: u16 = 1 << 12;
    /// A compaction is emptying it.
    pub(crate) const COMPACTED: u16 = 1 << 13;

    /// Not managed by the allocator.
    pub(crate) const GONE: Self = Self(0);
    /// Present, nothing free.
    pub(crate) const FULL: Self = Self(Self::PRESENT);
    /// Present, all free.
    pub(crate) const EMPTY: Self = Self(Self::PRESENT | PAGEBLOCK_FRAMES as u16);
    /// All free, but allocation is forbidden: the pageblock is about to leave, or has just come.
    pub(crate) const ISOLATED_EMPTY: Self = Self(Self::EMPTY.0 | Self::ISOLATED);
    /// All free, for the task that compacted it.
    pub(crate) const COMPACTED_EMPTY: Self = Self(Self::EMPTY.0 | Self::COMPACTED);
    /// Wholly taken as part of an order 9 or 10.
    pub(crate) const WHOLE: Self = Self(Self::PRESENT | Self::TAKEN);

    /// Returns the number of free frames, 0 to 512.
    pub(crate) const fn free(self) -> u32 {
        (self.0 & Self::COUNT) as u32
    }

    pub(crate) const fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    /// Returns whether an offline or a compaction isolates the pageblock. Frames that are freed
    /// then stay in it, and the zone's counter does not have them.
    pub(crate) const fn is_isolated(self) -> bool {
        self.0 & (Self::ISOLATED | Self::COMPACTED) != 0
    }

    /// Returns whether the pageblock is wholly taken. Its bits are all zero then.
    pub(crate) const fn is_taken(self) -> bool {
        self.0 & Self::TAKEN != 0
    }

    /// Returns whether an allocation may reserve here at all.
    pub(crate) const fn is_open(self) -> bool {
        self.0 & !Self::COUNT == Self::PRESENT
    }

    /// Returns how many of the pageblock's frames are in the zone's counter.
    pub(crate) const fn counted(self) -> u32 {
        if self.is_isolated() { 0 } else { self.free() }
    }
}

/// What isolates a pageblock. Each variant has a bit of its own: an offline may isolate a pageblock
/// that is being compacted, and neither ends the other's isolation.
#[derive(Clone, Copy)]
pub(crate) enum Isolation<'a> {
    /// An offline or online: the pageblock is about to leave, or has just come.
    Offline(#[expect(dead_code, reason = "it proves that the lock is held")] &'a Resizing<'a>),
    /// A compaction: the pageblock's blocks are being moved for a request.
    Compaction,
}

impl Isolation<'_> {
    pub(crate) const fn bit(self) -> u16 {
        match self {
            Self::Offline(_) => State::ISOLATED,
            Self::Compaction => State::COMPACTED,
        }
    }
}

/// Which states a search looks for. They are a range of numbers, so that one test looks at two
/// pageblocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StateFilter {
    /// `ABOVE` minus the range's first number, for both halves of a pair's word.
    to_above: u32,
    /// `ABOVE` plus the range's last number, for both halves.
    last: u32,
}

impl StateFilter {
    /// A number above all states, which have the two highest bits clear. Sums and differences with
    /// it do not carry from one half of a pair's word into the other.
    const ABOVE: u16 = 1 << 15;
    const BOTH: u32 = 0x1_0001;

    /// Every state that is present. The bits above `PRESENT` only make the number larger, and a
    /// state that is gone is 0.
    pub(crate) const PRESENT: Self = Self::range(State::PRESENT, Self::ABOVE - 1);
    /// Wholly free and open.
    pub(crate) const EMPTY: Self = Self::open(PAGEBLOCK_FRAMES as u32, PAGEBLOCK_FRAMES as u32);

    /// Looks for open pageblocks with at least `least` free frames, 1 to 512, wholly free ones
    /// included.
    #[inline]
    pub(crate) const fn free(least: u32) -> Self {
        Self::open(least, PAGEBLOCK_FRAMES as u32)
    }

    /// Looks for open pageblocks with at least `least` free frames that are not wholly free.
    #[inline]
    pub(crate) const fn partial(least: u32) -> Self {
        Self::open(least, PAGEBLOCK_FRAMES as u32 - 1)
    }

    /// Looks for open pageblocks with `least` to `most` free frames. The state of an open pageblock
    /// differs from `FULL` in its count only.
    #[inline]
    const fn open(least: u32, most: u32) -> Self {
        Self::range(State::FULL.0 + least as u16, State::FULL.0 + most as u16)
    }

    #[inline]
    const fn range(first: u16, last: u16) -> Self {
        Self {
            to_above: (Self::ABOVE - first) as u32 * Self::BOTH,
            last: (Self::ABOVE | last) as u32 * Self::BOTH,
        }
    }

    #[inline]
    pub(crate) const fn has(self, state: State) -> bool {
        self.of_pair(state.0 as u32) != 0
    }

    /// Tests the states in a pair's word: returns a number other than 0 if one of them is in the
    /// range.
    #[inline]
    const fn of_pair(self, states: u32) -> u32 {
        let not_below = states.wrapping_add(self.to_above);
        let not_above = self.last.wrapping_sub(states);
        not_below & not_above & (Self::ABOVE as u32 * Self::BOTH)
    }

    /// Returns the index of the first pair of which one state is in the range. The function is not
    /// inlined, so that its loop has all registers.
    #[inline(never)]
    pub(crate) fn first_of(self, pairs: &[PageblockPair]) -> Option<usize> {
        let of = |pair: &PageblockPair| self.of_pair(pair.word());
        // Most pairs are passed over, so one test looks at four.
        let (fours, _) = pairs.as_chunks::<4>();
        let has = |four: &[PageblockPair; 4]| four.iter().fold(0, |any, pair| any | of(pair)) != 0;
        let passed = fours.iter().position(has).unwrap_or(fours.len()) * 4;
        let rest = pairs.get(passed..)?;
        Some(passed + rest.iter().position(|pair| of(pair) != 0)?)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_sought_is_what_the_state_says() {
        for number in 0..1 << 14 {
            let state = State(number);
            let is_one =
                state.free() <= PAGEBLOCK_FRAMES as u32 && (state.is_present() || number == 0);
            if !is_one {
                continue;
            }
            assert_eq!(StateFilter::PRESENT.has(state), state.is_present());
            assert_eq!(StateFilter::EMPTY.has(state), state == State::EMPTY);
            for least in [1, 8, 256, 511] {
                let has_some = state.is_open() && state.free() >= least;
                assert_eq!(StateFilter::free(least).has(state), has_some);
                let partial = has_some && state != State::EMPTY;
                assert_eq!(StateFilter::partial(least).has(state), partial);
            }
        }
    }

    #[test]
    fn the_first_pair_is_found_wherever_it_lies() {
        use tidemark_sync::atomic::AtomicU32;
        let full = u32::from(State::FULL.0) * 0x1_0001;
        let pair = |states| PageblockPair(AtomicU32::new(states));
        for length in 0..14 {
            for first in 0..=length {
                for half in [0, 16] {
                    // One pageblock of the first pair, and of each behind it, has 7 frames free.
                    let states = |at| full + if at < first { 0 } else { 7 << half };
                    let pairs: Vec<_> = (0..length).map(|at| pair(states(at))).collect();
                    let expected = (first < length).then_some(first);
                    assert_eq!(StateFilter::free(7).first_of(&pairs), expected);
                    assert_eq!(StateFilter::free(8).first_of(&pairs), None);
                }
            }
        }
    }

    #[test]
    fn of_a_pair_one_is_sought_if_the_lower_or_the_upper_one_is() {
        let shared = [StateFilter::PRESENT, StateFilter::EMPTY];
        let numbers = [1, 8, 511].map(StateFilter::free).into_iter();
        let some = numbers.chain([1, 256, 511].map(StateFilter::partial));
        let states = || {
            (0..1 << 14)
                .step_by(127)
                .chain([State::EMPTY.0, State::FULL.0 + 256])
        };
        for filter in some.chain(shared) {
            for (lower, upper) in
                states().flat_map(|lower| states().map(move |upper| (lower, upper)))
            {
                let either = filter.has(State(lower)) || filter.has(State(upper));
                let word = u32::from(upper) << 16 | u32::from(lower);
                assert_eq!(
                    filter.of_pair(word) != 0,
                    either,
                    "{lower:#x} {upper:#x} {filter:?}"
                );
            }
        }
    }
}
