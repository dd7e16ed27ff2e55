//! A limit on how often a message is printed about an event that may happen at any rate, in any
//! context.
//!
//! The state is one word, changed by compare-and-swap. Code that is interrupted between its read
//! and its change reads again, so an NMI neither waits nor spoils the count. The word publishes
//! nothing else.

use crate::atomic::{AtomicU64, Ordering};

/// The highest `burst`: messages let through in one interval.
const MOST: u64 = TOLD_MASK;
const TOLD_BITS: u32 = 4;
const TOLD_MASK: u64 = (1 << TOLD_BITS) - 1;
const SUPPRESSED_BITS: u32 = 24;
const SUPPRESSED_MASK: u64 = (1 << SUPPRESSED_BITS) - 1;
const BEGIN_SHIFT: u32 = TOLD_BITS + SUPPRESSED_BITS;
/// Mask of the interval's begin, in milliseconds. The begin wraps after 2.18 years, and so does
/// every comparison with it.
const BEGIN_MASK: u64 = u64::MAX >> BEGIN_SHIFT;
/// The most milliseconds by which the clocks of two CPUs differ.
const SKEW_MS: u64 = 1_000;

/// Lets `burst` messages through in each interval of `interval_ms` milliseconds, and counts the
/// rest.
#[derive(Debug)]
pub struct RateLimit {
    /// Three fields in one word. From the top: when the interval began, in milliseconds modulo
    /// 2^36; the number of messages kept back in it; the number let through. The last is 0 only
    /// before the first message ever. Any context writes it.
    state: AtomicU64,
    interval_ms: u64,
    burst: u64,
}

/// Whether to print a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// The message is to be printed.
    Now {
        /// Messages kept back before it and not reported yet; 16,777,215 stands for that or more.
        suppressed: u32,
    },
    /// The message is kept back, and has been counted.
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
    /// Returns a limit of `burst` (1 to 15) messages in `interval_ms` milliseconds (1 or more).
    ///
    /// # Panics
    ///
    /// Panics if `burst` or `interval_ms` is out of its range.
    #[cfg(not(loom))]
    pub const fn new(burst: u8, interval_ms: u32) -> Self {
        Self::with(burst, interval_ms, AtomicU64::new(0))
    }

    /// Returns a limit, for the model checker, of `burst` (1 to 15) messages in `interval_ms`
    /// milliseconds (1 or more).
    ///
    /// # Panics
    ///
    /// Panics if `burst` or `interval_ms` is out of its range.
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

    /// Decides whether a message at `now_ns`, nanoseconds since boot, is to be printed. A new
    /// interval begins with the first message after the end of the last one. Any context may call
    /// it.
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

    /// Returns how many messages were kept back in an interval that is over, if any are not
    /// reported yet. Without further messages they would never be reported. The caller reports
    /// them; they count as reported. `now_ns` is in nanoseconds since boot. Any context may call
    /// it.
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
        // The clocks of two CPUs differ by a little: a begin ahead by at most that much counts as
        // now.
        past >= self.interval_ms && !(1..=SKEW_MS).contains(&ahead)
    }

    fn change<R>(&self, step: impl Fn(State) -> Option<(State, R)>) -> Option<R> {
        // Relaxed suffices: the word publishes nothing but itself.
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
