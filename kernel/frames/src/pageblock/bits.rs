//! The lock-free core: pageblocks of 2 MiB, in pairs.
//!
//! A pageblock is one cache line of bits (1 = not free; all 0 while it is taken whole) and half a
//! word of state. No lock keeps count and bits consistent, but the order of steps:
//!
//! * An allocation subtracts from the count ([`Pageblock::reserve_if`]), then claims bits. If it
//!   finds no run it adds back ([`Pageblock::unreserve`]).
//! * A free clears bits ([`Pageblock::clear`]), then adds to the count ([`Pageblock::add`]).
//!
//! So zero bits are never fewer than the count and the open reservations together. A count of 512
//! means that every bit is zero and no reservation is open: orders 9 and 10 look at the state only.

use crate::{
    base::{
        mutant::{self, Mutant, weakened},
        resizing::Resizing,
        types::Order,
    },
    pageblock::{
        runs::{aligned_runs, lowest_zeros, run_mask},
        section_meta::{PAGEBLOCK_FRAMES, PAGEBLOCK_WORDS, PageblockBits, PageblockPair},
    },
};
use tidemark_sync::atomic::{AtomicU64, Ordering, spin_loop};

pub(crate) use crate::pageblock::state::{Isolation, State, StateFilter};

/// Rounds over the bits after which a claim of single frames gives up its reservation. A round
/// misses zero bits only if other CPUs free behind it and claim ahead of it.
const CLAIM_ROUNDS: u32 = 8;

impl PageblockPair {
    /// Returns the state of one pageblock, 0 or 1.
    #[inline]
    pub(crate) fn state(&self, half: usize) -> State {
        State((self.0.load(Ordering::Relaxed) >> (half % 2 * 16)) as u16)
    }

    /// Returns the states of both pageblocks, the lower one's in the lower half of the word.
    #[inline]
    pub(crate) fn word(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the states of both pageblocks.
    #[inline]
    pub(crate) fn states(&self) -> [State; 2] {
        let word = self.0.load(Ordering::Relaxed);
        [State(word as u16), State((word >> 16) as u16)]
    }

    /// Takes both pageblocks as one order 10, if both are open and wholly free.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        self.take_if_both(State::EMPTY)
    }

    /// Takes both pageblocks for the task that compacted them, if both are wholly free.
    pub(crate) fn take_compacted(&self) -> bool {
        self.take_if_both(State::COMPACTED_EMPTY)
    }

    #[inline]
    fn take_if_both(&self, are: State) -> bool {
        let both = |state: State| u32::from(state.0) * 0x1_0001;
        // Acquire pairs with the release in `add` and `give`: what the last owners wrote into the
        // frames and their entries is visible.
        let acquire = weakened(Mutant::RelaxedTake, Ordering::Acquire);
        self.0
            .compare_exchange(both(are), both(State::WHOLE), acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Gives an order 10 back; returns the states before, or `None` if the pair was not taken.
    #[inline]
    pub(crate) fn give(&self) -> Option<[State; 2]> {
        const DELTA: u32 = (PAGEBLOCK_FRAMES as u32).wrapping_sub(State::TAKEN as u32);
        const TAKEN: u32 = State::TAKEN as u32 * 0x1_0001;
        let release = weakened(Mutant::RelaxedGive, Ordering::Release);
        let before = self
            .0
            .fetch_update(release, Ordering::Relaxed, |word| {
                (word & TAKEN == TAKEN).then(|| word.wrapping_add(DELTA).wrapping_add(DELTA << 16))
            })
            .ok()?;
        Some([State(before as u16), State((before >> 16) as u16)])
    }
}

/// A pageblock's bits and its half of the pair's word.
#[derive(Clone, Copy)]
pub(crate) struct Pageblock<'a> {
    pub(crate) bits: &'a PageblockBits,
    pub(crate) pair: &'a PageblockPair,
    /// 0 for the lower pageblock of the pair, 16 for the upper one.
    pub(crate) shift: u32,
}

impl Pageblock<'_> {
    /// Returns the state at this moment.
    #[inline]
    pub(crate) fn state(&self) -> State {
        State((self.pair.0.load(Ordering::Relaxed) >> self.shift) as u16)
    }

    /// Changes the state by compare-and-swap, until it succeeds or `change` returns `None`. Returns
    /// the state before, if it was changed.
    #[inline]
    fn update(
        &self,
        success: Ordering,
        mut change: impl FnMut(State) -> Option<State>,
    ) -> Option<State> {
        let before = self
            .pair
            .0
            .fetch_update(success, Ordering::Relaxed, |word| {
                let new = change(State((word >> self.shift) as u16))?;
                Some(word & !(0xffff << self.shift) | u32::from(new.0) << self.shift)
            })
            .ok()?;
        Some(State((before >> self.shift) as u16))
    }

    /// Reserves as [`Pageblock::reserve_if`] does, in any state.
    #[cfg(test)]
    pub(crate) fn reserve(&self, least: u32, frames: u32) -> u32 {
        self.reserve_if(least, frames, |_| true)
    }

    /// Reserves up to `frames`, in multiples of `least`, a power of two, if the pageblock is open
    /// and `suits` its state. Returns how many; 0 if there are fewer than `least`.
    #[inline]
    pub(crate) fn reserve_if(&self, least: u32, frames: u32, suits: impl Fn(State) -> bool) -> u32 {
        let mut reserved = 0;
        // Acquire pairs with `add`: the bits of the counted frames are seen as clear. It pairs with
        // `join` as well: the pageblock's zone, if read after this, is its present one.
        let acquire = weakened(Mutant::RelaxedReserve, Ordering::Acquire);
        let done = self.update(acquire, |state| {
            reserved = frames.min(state.free()) & least.wrapping_neg();
            (state.is_open() && reserved >= least && suits(state))
                .then(|| State(state.0 - reserved as u16))
        });
        if done.is_some() { reserved } else { 0 }
    }

    /// Gives up a reservation for which no bit was claimed; returns the state before.
    #[inline]
    pub(crate) fn unreserve(&self, frames: u32) -> State {
        self.add(frames)
    }

    /// Claims an aligned run for a reservation of that size, order 0 to 8. Returns the index of its
    /// first frame, or `None` if there is no run.
    #[inline]
    pub(crate) fn claim(&self, order: Order) -> Option<u32> {
        self.claim_from(order, 0)
    }

    /// Claims as [`Pageblock::claim`] does, but looks from the word `first` on, once round.
    #[inline]
    pub(crate) fn claim_from(&self, order: Order, first: usize) -> Option<u32> {
        match order.get() {
            0 => {
                let mut index = None;
                let claimed = self.claim_singles(1, |word, mask| {
                    index = Some(word as u32 * 64 + mask.trailing_zeros());
                });
                debug_assert!(claimed == u32::from(index.is_some()));
                index
            }
            1..=6 => {
                let mut index = None;
                self.claim_runs(order, 1, first, |word, start| {
                    index = Some(word as u32 * 64 + start.trailing_zeros());
                });
                index
            }
            7 | 8 => self.claim_words(order, first),
            _ => None,
        }
    }

    /// Claims up to `frames` single frames for a reservation of that size, those of one word by one
    /// compare-and-swap. Calls `got` with the index of each word and the mask of its claimed bits.
    /// Returns how many frames there were.
    pub(crate) fn claim_singles(&self, frames: u32, mut got: impl FnMut(usize, u64)) -> u32 {
        let mut left = frames;
        for _ in 0..CLAIM_ROUNDS {
            for (index, word) in self.bits.0.iter().enumerate() {
                let mut seen = word.load(Ordering::Relaxed);
                while seen != u64::MAX {
                    let mask = lowest_zeros(seen, left);
                    // Acquire pairs with `clear`: what the frame's last owner wrote is visible.
                    match word.compare_exchange(seen, seen | mask, claim_order(), Ordering::Relaxed)
                    {
                        Ok(_) => {
                            got(index, mask);
                            left -= mask.count_ones();
                            break;
                        }
                        Err(now) => seen = now,
                    }
                }
                if left == 0 {
                    return frames;
                }
            }
            spin_loop();
        }
        frames - left
    }

    /// Returns the index of the first word that seems to have a free run of this order, 1 to 8, or
    /// to begin one. This costs less than a reservation that has to be given up.
    #[inline]
    pub(crate) fn word_with_run(&self, order: Order) -> Option<usize> {
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let mut words = self.bits.0.iter();
        if order.get() <= 6 {
            return words.position(|word| aligned_runs(load(word), order) != 0);
        }
        let length = order.frames() as usize / 64;
        let mut runs = self.bits.0.chunks_exact(length);
        let run = runs.position(|run| run.iter().all(|word| load(word) == 0))?;
        Some(run * length)
    }

    /// Claims up to `count` runs of an order from 1 to 6 for a reservation of that size, those of
    /// one word by one step. Looks from the word `first` on, once round. Calls `got` with the index
    /// of each word and a mask of the first frames of its runs. Returns how many runs there were.
    #[inline]
    pub(crate) fn claim_runs(
        &self,
        order: Order,
        count: u32,
        first: usize,
        mut got: impl FnMut(usize, u64),
    ) -> u32 {
        let mut left = count;
        for step in 0..PAGEBLOCK_WORDS {
            let index = first.wrapping_add(step) % PAGEBLOCK_WORDS;
            let word = &self.bits.0[index];
            let mut seen = word.load(Ordering::Relaxed);
            loop {
                let starts = lowest_zeros(!aligned_runs(seen, order), left);
                if starts == 0 {
                    break;
                }
                // Runs begin at least their length apart, so the products do not overlap.
                let mask = starts.wrapping_mul(run_mask(order));
                match word.compare_exchange(seen, seen | mask, claim_order(), Ordering::Relaxed) {
                    Ok(_) => {
                        got(index, starts);
                        left -= starts.count_ones();
                        break;
                    }
                    Err(now) => seen = now,
                }
            }
            if left == 0 {
                break;
            }
        }
        count - left
    }

    /// Claims two or four whole words, for orders 7 and 8. If a bit of a word was taken meanwhile,
    /// the words already claimed are given back.
    fn claim_words(&self, order: Order, first: usize) -> Option<u32> {
        let words = order.frames() as usize / 64;
        let (before, behind) = self
            .bits
            .0
            .split_at(first % PAGEBLOCK_WORDS / words * words);
        let groups = behind.chunks_exact(words).chain(before.chunks_exact(words));
        'group: for (group, run) in groups.enumerate() {
            let start = (before.len() + group * words) % PAGEBLOCK_WORDS * 64;
            for (claimed, word) in run.iter().enumerate() {
                if word
                    .compare_exchange(0, u64::MAX, claim_order(), Ordering::Relaxed)
                    .is_err()
                {
                    if mutant::is(Mutant::ClaimWithoutRollback) {
                        return Some(start as u32);
                    }
                    for word in &run[..claimed] {
                        // Only this claim has these bits, so a store may clear them. Release hands
                        // on what the frames' last owners wrote, which the claim acquired.
                        word.store(0, weakened(Mutant::RelaxedRollback, Ordering::Release));
                    }
                    continue 'group;
                }
            }
            return Some(start as u32);
        }
        None
    }

    /// Clears the bits of a run, order 0 to 8; returns how many were set.
    #[inline]
    pub(crate) fn clear(&self, index: u32, order: Order) -> u32 {
        let word = (index / 64) as usize;
        if order.get() <= 6 {
            let mask = run_mask(order) << (index % 64);
            let were_set = self.clear_mask(word, mask);
            // The bits are counted only after an error: some were clear already.
            return if were_set == mask {
                order.frames() as u32
            } else {
                were_set.count_ones()
            };
        }
        let words = order.frames() as usize / 64;
        (word..word + words)
            .map(|word| self.clear_mask(word, u64::MAX).count_ones())
            .sum()
    }

    /// Clears bits of one word; returns those of them that were set.
    #[inline]
    pub(crate) fn clear_mask(&self, word: usize, mask: u64) -> u64 {
        // Release pairs with the claims: the next claimer of a bit sees what was written before.
        let release = weakened(Mutant::RelaxedClear, Ordering::Release);
        self.bits.0[word].fetch_and(!mask, release) & mask
    }

    /// Adds cleared frames to the count; returns the state before. Only that state decides whether
    /// the zone's counter gains the frames.
    #[inline]
    pub(crate) fn add(&self, frames: u32) -> State {
        // Release pairs with `reserve_if`, `take` and `leave`, of which the last two look at the
        // count alone.
        let release = weakened(Mutant::RelaxedAdd, Ordering::Release);
        let early = mutant::is(Mutant::IsolationReadBeforeAdd).then(|| self.state());
        let before = self.pair.0.fetch_add(frames << self.shift, release);
        let before = early.unwrap_or(State((before >> self.shift) as u16));
        debug_assert!(before.free() + frames <= PAGEBLOCK_FRAMES as u32);
        before
    }

    /// Frees a run, order 0 to 8: clears its bits, then adds those that were set to the count.
    /// Returns how many were set, and the state before the addition.
    #[inline]
    pub(crate) fn free(&self, index: u32, order: Order) -> (u32, State) {
        if mutant::is(Mutant::AddBeforeClear) {
            let before = self.add(order.frames() as u32);
            return (self.clear(index, order), before);
        }
        let cleared = self.clear(index, order);
        (cleared, self.add(cleared))
    }

    /// Takes the whole pageblock as one order 9, if it is open and wholly free.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        self.take_if(State::EMPTY)
    }

    #[inline]
    fn take_if(&self, is: State) -> bool {
        // Acquire: as in `PageblockPair::take_if_both`.
        let acquire = weakened(Mutant::RelaxedTake, Ordering::Acquire);
        self.update(acquire, |state| (state == is).then_some(State::WHOLE))
            .is_some()
    }

    /// Gives an order 9 back; returns the state before, or `None` if the pageblock was not taken.
    #[inline]
    pub(crate) fn give(&self) -> Option<State> {
        // Release: as in `add`.
        self.update(weakened(Mutant::RelaxedGive, Ordering::Release), |state| {
            state
                .is_taken()
                .then(|| State(state.0 - State::TAKEN + PAGEBLOCK_FRAMES as u16))
        })
    }

    /// Turns a wholly taken pageblock into 512 claimed bits. Only the block's owner may call it.
    pub(crate) fn break_up(&self) {
        if !mutant::is(Mutant::BreakUpWithoutBits) {
            for word in &self.bits.0 {
                word.store(u64::MAX, Ordering::Relaxed);
            }
        }
        // Relaxed: the count is 0, so no claim looks for a bit here until the owner frees a part of
        // the block, and `add` releases.
        self.update(Ordering::Relaxed, |state| {
            Some(State(state.0 & !State::TAKEN))
        });
    }

    /// Forbids allocation; returns the frames that the zone's counter loses. Returns `None` if `by`
    /// had forbidden it already, or if the pageblock is gone. A compaction isolates open pageblocks
    /// only.
    #[doc(alias("set_migratetype_isolate", "MIGRATE_ISOLATE"))]
    pub(crate) fn isolate(&self, by: Isolation<'_>) -> Option<u32> {
        // Acquire pairs with `join`: the pageblock's zone, if read after this, is its present one.
        let acquire = weakened(Mutant::RelaxedIsolate, Ordering::Acquire);
        let before = self.update(acquire, |state| {
            let may = match by {
                Isolation::Offline(_) => state.is_present() && state.0 & State::ISOLATED == 0,
                Isolation::Compaction => state.is_open(),
            };
            may.then_some(State(state.0 | by.bit()))
        })?;
        Some(before.counted())
    }

    /// Ends an isolation. Allocation is permitted again unless the other isolation forbids it.
    /// Returns the frames that the zone's counter gains, or `None` if `by` had not isolated the
    /// pageblock.
    #[doc(alias = "unset_migratetype_isolate")]
    pub(crate) fn unisolate(&self, by: Isolation<'_>) -> Option<u32> {
        let bits = if mutant::is(Mutant::OneIsolationForAll) {
            State::ISOLATED | State::COMPACTED
        } else {
            by.bit()
        };
        // Release pairs with `reserve_if`: a reservation here sees the pageblock's flags and the
        // counters that were written for it.
        let release = weakened(Mutant::RelaxedUnisolate, Ordering::Release);
        let before = self.update(release, |state| {
            (state.0 & by.bit() != 0).then_some(State(state.0 & !bits))
        })?;
        Some(State(before.0 & !bits).counted())
    }

    /// Takes the whole pageblock as one order 9 for the task that compacted it, if it is wholly
    /// free.
    pub(crate) fn take_compacted(&self) -> bool {
        self.take_if(State::COMPACTED_EMPTY)
    }

    /// Claims an aligned run, order 0 to 8, for the task that compacts the pageblock. The zone's
    /// counter does not have its frames. Returns the index of its first frame, or `None` if there
    /// is no run, or if an offline has isolated the pageblock, too.
    pub(crate) fn claim_compacted(&self, order: Order) -> Option<u32> {
        let frames = order.frames() as u16;
        // Acquire: as in `reserve_if`.
        let acquire = weakened(Mutant::RelaxedReserve, Ordering::Acquire);
        self.update(acquire, |state| {
            let is_ours = state.0 & !State::COUNT == State::PRESENT | State::COMPACTED;
            (is_ours && state.free() >= u32::from(frames)).then(|| State(state.0 - frames))
        })?;
        let claimed = self.claim(order);
        if claimed.is_none() {
            // The pageblock stays isolated for as long as the caller compacts it, so the zone's
            // counter is not changed.
            self.unreserve(u32::from(frames));
        }
        claimed
    }

    /// Leaves the allocator: (512 free, isolated) → gone, in one step. Returns whether it did.
    pub(crate) fn leave(&self, _: &Resizing<'_>) -> bool {
        if mutant::is(Mutant::LeaveInTwoSteps) {
            if self.state().free() as usize != PAGEBLOCK_FRAMES {
                return false;
            }
            self.update(Ordering::Relaxed, |_| Some(State::GONE));
            return true;
        }
        // Acquire pairs with `add`: every free of these frames happens before the pageblock leaves.
        let acquire = weakened(Mutant::RelaxedLeave, Ordering::Acquire);
        self.update(acquire, |state| {
            (state == State::ISOLATED_EMPTY).then_some(State::GONE)
        })
        .is_some()
    }

    /// Joins the allocator in the given state; returns `false` if the pageblock was not gone.
    pub(crate) fn join(&self, joined: State, _: &Resizing<'_>) -> bool {
        // Release pairs with `reserve_if`: the pageblock's flags and the bits were written before.
        let release = weakened(Mutant::RelaxedJoin, Ordering::Release);
        self.update(release, |state| (state == State::GONE).then_some(joined))
            .is_some()
    }
}

fn claim_order() -> Ordering {
    weakened(Mutant::RelaxedClaim, Ordering::Acquire)
}

#[cfg(test)]
#[path = "bits_owned.rs"]
mod owned;

#[cfg(all(test, not(loom)))]
#[path = "bits_tests.rs"]
mod tests;

#[cfg(all(test, loom))]
#[path = "bits_loom.rs"]
mod models;
