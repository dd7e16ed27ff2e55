//! A pair of pageblocks, for the tests and models of the upper one.

use super::*;
use crate::base::resizing::resizing;
use core::array;
use tidemark_sync::atomic::AtomicU32;

/// A pair, with the bits of its upper pageblock.
pub(super) struct Owned {
    pub(super) bits: PageblockBits,
    pub(super) pair: PageblockPair,
}

impl Owned {
    pub(super) fn new(words: [u64; PAGEBLOCK_WORDS], states: [State; 2]) -> Self {
        let [lower, upper] = states.map(|state| u32::from(state.0));
        Self {
            bits: PageblockBits(array::from_fn(|at| AtomicU64::new(words[at]))),
            pair: PageblockPair(AtomicU32::new(upper << 16 | lower)),
        }
    }

    /// Returns the upper pageblock.
    pub(super) fn pageblock(&self) -> Pageblock<'_> {
        Pageblock {
            bits: &self.bits,
            pair: &self.pair,
            shift: 16,
        }
    }

    /// Allocates as the zone does.
    pub(super) fn allocate(&self, order: Order) -> Option<u32> {
        let frames = order.frames() as u32;
        if self.pageblock().reserve(frames, frames) == 0 {
            return None;
        }
        let index = self.pageblock().claim(order);
        if index.is_none() {
            assert!(
                order > Order::ZERO,
                "a reserved single frame was not to be found"
            );
            self.pageblock().unreserve(frames);
        }
        index
    }

    pub(super) fn set_bits(&self) -> u32 {
        let words = self.bits.0.iter();
        words
            .map(|word| word.load(Ordering::Acquire).count_ones())
            .sum()
    }
}

/// Isolates on behalf of hot-plug.
pub(super) fn offline() -> Isolation<'static> {
    Isolation::Offline(resizing())
}
