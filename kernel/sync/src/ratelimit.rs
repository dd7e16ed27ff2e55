//! A limit on how often something is said that may happen at any rate, in any context.
//!
//! One word, changed by compare-and-swap: whoever is interrupted between its look and its change
//! looks again, so an NMI neither waits nor spoils the count. Nothing is published by it.

use crate::atomic::{AtomicU64, Ordering};

/// Most that may be said in an interval.
const MOST: u64 = TOLD_MASK;
const TOLD_BITS: u32 = 4;
const TOLD_MASK: u64 = (1 << TOLD_BITS) - 1;
const SUPPRESSED_BITS: u32 = 24;
const SUPPRESSED_MASK: u64 = (1 << SUPPRESSED_BITS) - 1;
const BEGIN_SHIFT: u32 = TOLD_BITS + SUPPRESSED_BITS;
/// The begin's bits: it wraps after 2.18 years, and so does every comparison with it.
const BEGIN_MASK: u64 = u64::MAX >> BEGIN_SHIFT;
/// Milliseconds by which the clocks of two CPUs differ at most.
const SKEW_MS: u64 = 1_000;

/// Lets `burst` through in `interval_ms`, and counts the rest.
#[derive(Debug)]
pub struct RateLimit {
    /// When the interval began, in milliseconds modulo 2^36; how many were kept back in it; how
    /// many were let through, 0 before the first ever. Written by anybody.
    state: AtomicU64,
    interval_ms: u64,
    burst: u64,
}

/// Whether to say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// Yes; and that so many were kept back before it, which has not been said yet.
    Now {
        /// Kept back; 16,777,215 stands for that or more.
        suppressed: u32,
    },
    /// No: it has been counted.
    Nothing,
}

#[derive(Clone, Copy)]
struct State {
    begin_ms: u64,
    suppressed: u64,
    told: u64,
}

impl State {
    fn unpack(word: u64) -> Self {
        Self {
            begin_ms: word >> BEGIN_SHIFT,
            suppressed: word >> TOLD_BITS & SUPPRESSED_MASK,
            told: word & TOLD_MASK,
        }
    }

    fn pack(self) -> u64 {
        self.begin_ms << BEGIN_SHIFT
            | self.suppressed.min(SUPPRESSED_MASK) << TOLD_BITS
            | self.told.min(TOLD_MASK)
    }
}

impl RateLimit {
    /// Makes a limit for the model checker.
    ///
    /// # Panics
    ///
    /// Panics if one of them is out of its range.
    #[cfg(not(loom))]
    pub const fn new(burst: u8, interval_ms: u32) -> Self {
        Self::with(burst, interval_ms, AtomicU64::new(0))
    }

    /// Makes a limit for the model checker.
    ///
    /// # Panics
    ///
    /// Panics if one of them is out of its range.
    #[cfg(loom)]
    pub fn new(burst: u8, interval_ms: u32) -> Self {
        Self::with(burst, interval_ms, AtomicU64::new(0))
    }

    const fn with(burst: u8, interval_ms: u32, state: AtomicU64) -> Self {
        assert!(burst >= 1 && burst as u64 <= MOST && interval_ms > 0);
        Self {
            state,
            interval_ms: interval_ms as u64,
            burst: burst as u64,
        }
    }

    /// Asks at `now_ns`, nanoseconds since boot, whether to say it. An interval begins with the
    /// first that is let through after the last one's end. Any context.
    pub fn ask(&self, now_ns: u64) -> Say {
        let now_ms = now_ns / 1_000_000;
        self.change(|state| {
            if state.told == 0 || self.is_over(state, now_ms) {
                let new = State {
                    begin_ms: now_ms,
                    suppressed: 0,
                    told: 1,
                };
                let suppressed = state.suppressed as u32;
                return Some((new, Say::Now { suppressed }));
            }
            if state.told < self.burst {
                let told = state.told + 1;
                return Some((State { told, ..state }, Say::Now { suppressed: 0 }));
            }
            let suppressed = state.suppressed + 1;
            Some((
                State {
                    suppressed,
                    ..state
                },
                Say::Nothing,
            ))
        })
        .unwrap_or(Say::Nothing)
    }

    /// Returns what was kept back in an interval that is over and has not been said: it never will
    /// be if nobody asks any more. The caller says it; it counts as said. Any context.
    pub fn flush(&self, now_ns: u64) -> Option<u32> {
        let now_ms = now_ns / 1_000_000;
        self.change(|state| {
            let is_due = state.suppressed > 0 && self.is_over(state, now_ms);
            let new = State {
                suppressed: 0,
                ..state
            };
            is_due.then_some((new, state.suppressed as u32))
        })
    }

    fn is_over(&self, state: State, now_ms: u64) -> bool {
        let past = now_ms.wrapping_sub(state.begin_ms) & BEGIN_MASK;
        let ahead = state.begin_ms.wrapping_sub(now_ms) & BEGIN_MASK;
        // CPUs' clocks differ by a little: a begin that is ahead by no more than that is now.
        past >= self.interval_ms && !(1..=SKEW_MS).contains(&ahead)
    }

    fn change<R>(&self, step: impl Fn(State) -> Option<(State, R)>) -> Option<R> {
        // Relaxed: the word is all there is.
        let mut word = self.state.load(Ordering::Relaxed);
        loop {
            let (new, result) = step(State::unpack(word))?;
            match self.store(word, new.pack()) {
                Ok(_) => return Some(result),
                Err(now) => word = now,
            }
        }
    }

    #[cfg(not(all(test, loom)))]
    fn store(&self, old: u64, new: u64) -> Result<u64, u64> {
        let relaxed = Ordering::Relaxed;
        self.state.compare_exchange_weak(old, new, relaxed, relaxed)
    }
}

#[cfg(test)]
#[path = "ratelimit_tests.rs"]
mod tests;
