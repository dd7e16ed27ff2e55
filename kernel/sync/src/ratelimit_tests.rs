//! Tests a limit of ten in five seconds. With `--cfg loom` it also tests that two CPUs, or a
//! handler and the code that it interrupts, never let through too many and lose none.

use super::*;

#[cfg(not(loom))]
mod sequential {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_first_ten_of_five_seconds_are_said_and_the_rest_is_counted_for_the_next() {
        let limit = RateLimit::new(10, 5_000);
        let asks = |now_ms| limit.ask(now_ms * MS);
        for at in 100..110 {
            assert_eq!(asks(at), Say::Now { suppressed: 0 });
        }
        for at in 110..150 {
            assert_eq!(asks(at), Say::Nothing);
        }
        assert_eq!(asks(5_099), Say::Nothing);
        assert_eq!(asks(5_100), Say::Now { suppressed: 41 });
        // The interval began anew with that message.
        for at in 5_101..5_110 {
            assert_eq!(asks(at), Say::Now { suppressed: 0 });
        }
        assert_eq!(asks(10_099), Say::Nothing);
        assert_eq!(asks(10_100), Say::Now { suppressed: 1 });
    }

    #[test]
    fn what_nobody_asks_after_any_more_is_flushed_once_and_not_before_the_end() {
        let limit = RateLimit::new(1, 1_000);
        assert_eq!(limit.flush(5_000 * MS), None);
        assert_eq!(limit.ask(0), Say::Now { suppressed: 0 });
        assert_eq!(limit.ask(1), Say::Nothing);
        assert_eq!(limit.flush(999 * MS), None);
        assert_eq!(limit.flush(1_000 * MS), Some(1));
        assert_eq!(limit.flush(1_001 * MS), None);
        assert_eq!(limit.ask(1_002 * MS), Say::Now { suppressed: 0 });
    }

    #[test]
    fn a_count_that_is_full_stays_full_and_a_clock_behind_does_no_harm() {
        let limit = RateLimit::new(1, 10);
        assert_eq!(limit.ask(100 * MS), Say::Now { suppressed: 0 });
        let full = State {
            begin_ms: 100,
            suppressed: SUPPRESSED_MASK,
            told: 1,
        };
        limit.state.store(full.pack(), Ordering::Relaxed);
        assert_eq!(limit.ask(99 * MS), Say::Nothing);
        let suppressed = SUPPRESSED_MASK as u32;
        assert_eq!(limit.ask(110 * MS), Say::Now { suppressed });
    }

    /// The begin is kept modulo 2^36 ms. An interval on either side of each wrap is as long as any
    /// other.
    #[test]
    fn the_limit_holds_after_two_years_and_a_bit() {
        for wraps in [1, 2, 200] {
            let wrap_ms = wraps << 36;
            let limit = RateLimit::new(10, 5_000);
            let told = |from_ms: u64| {
                let asks = (0..100).map(|n| limit.ask((from_ms + n) * MS));
                asks.filter(|say| *say != Say::Nothing).count()
            };
            // These times are across the wrap: within the interval that began before it, and in the
            // next one.
            assert_eq!(told(wrap_ms - 50), 10);
            assert_eq!(told(wrap_ms + 4_800), 0);
            assert_eq!(told(wrap_ms + 5_000), 10);
            assert_eq!(told(wrap_ms + 5_200), 0);
            assert_eq!(limit.flush((wrap_ms + 11_000) * MS), Some(190));
        }
    }

    #[test]
    fn a_begin_ahead_of_this_cpus_clock_is_now_and_one_of_years_ago_is_over() {
        let limit = RateLimit::new(1, 10);
        let begin = (1 << 36) + 500;
        assert_eq!(limit.ask(begin * MS), Say::Now { suppressed: 0 });
        assert_eq!(limit.ask((begin - 1_000) * MS), Say::Nothing);
        assert_eq!(limit.ask((begin - 1) * MS), Say::Nothing);
        // A year later, more than half of the way round.
        let later = begin + (1 << 35) + 7;
        assert_eq!(limit.ask(later * MS), Say::Now { suppressed: 2 });
    }

    #[test]
    fn threads_say_no_more_than_the_burst_and_lose_none() {
        const EACH: u32 = 20_000;
        let limit = RateLimit::new(10, 5_000);
        let said = std::thread::scope(|scope| {
            let ask = || (0..EACH).filter(|_| limit.ask(7) != Say::Nothing).count();
            let threads = [(); 4].map(|()| scope.spawn(ask));
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(said.iter().sum::<usize>(), 10);
        assert_eq!(limit.flush(u64::MAX >> 8), Some(4 * EACH - 10));
    }
}

#[cfg(loom)]
mod modelled {
    use super::*;
    use loom::{sync::Arc, thread};
    use std::cell::Cell;

    std::thread_local! {
        /// Whether to make the mistake of a load and a store instead of a compare-and-swap.
        static IN_TWO_STEPS: Cell<bool> = const { Cell::new(false) };
    }

    impl RateLimit {
        pub(in crate::ratelimit) fn store(&self, old: u64, new: u64) -> Result<u64, u64> {
            let relaxed = Ordering::Relaxed;
            if IN_TWO_STEPS.get() {
                let now = self.state.load(relaxed);
                if now != old {
                    return Err(now);
                }
                self.state.store(new, relaxed);
                return Ok(old);
            }
            self.state.compare_exchange(old, new, relaxed, relaxed)
        }
    }

    /// Lets two CPUs ask twice each, and a third flush after the interval; everything is reported
    /// once.
    fn nothing_is_lost() {
        loom::model(|| {
            let limit = Arc::new(RateLimit::new(1, 1_000));
            let asks = |limit: &RateLimit| {
                let mut said = (0, 0);
                for _ in 0..2 {
                    if let Say::Now { suppressed } = limit.ask(0) {
                        said = (said.0 + 1, said.1 + suppressed);
                    }
                }
                said
            };
            let shared = Arc::clone(&limit);
            let other = thread::spawn(move || asks(&shared));
            let here = asks(&limit);
            let other = other.join().unwrap();
            let last = limit.flush(5_000_000_000).unwrap_or(0);
            assert_eq!(here.0 + other.0, 1, "said in one interval");
            assert_eq!(here.1 + other.1 + last, 3, "kept back");
        });
    }

    #[test]
    fn two_cpus_say_one_and_count_the_others() {
        nothing_is_lost();
    }

    #[test]
    fn a_load_and_a_store_are_caught() {
        IN_TWO_STEPS.set(true);
        let caught = std::panic::catch_unwind(nothing_is_lost);
        IN_TWO_STEPS.set(false);
        assert!(caught.is_err());
    }
}
