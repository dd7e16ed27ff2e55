//! Random choices for contexts that interrupt each other.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A generator (xorshift, 64 bits) for one context of one CPU. The context does not interrupt
/// itself, so plain loads and stores suffice.
#[derive(Debug)]
pub struct Random(AtomicU64);

impl Random {
    /// Returns a generator that has not been seeded.
    pub const fn new() -> Self {
        Self(AtomicU64::new(1))
    }

    /// Starts the generator again. Equal seeds give equal choices.
    pub fn seed(&self, seed: u64) {
        // One round of splitmix64, so that neighbouring seeds have little in common.
        let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0.store((x ^ x >> 31) | 1, Relaxed);
    }

    fn next(&self) -> u64 {
        let mut x = self.0.load(Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.store(x, Relaxed);
        x >> 11
    }

    /// Returns a number below `end`, which is above 0.
    pub fn below(&self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Returns `true` once in `times` calls, on average.
    pub fn one_in(&self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Returns one of these.
    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
