//! The side of each of its watermarks on which a zone is. The cache limits (`cache_limit`) and the
//! words of zones above LOW (`above`) follow it.
//!
//! The zone's counter is moved by every CPU in any context, an NMI included, and the watermarks by
//! hot-plug. After each move that may cross a watermark comes [`Sides::follow`], which has no loop:
//!
//! 1. It adds one to the count in the word.
//! 2. It looks at the counter and the watermarks.
//! 3. It stores what it saw, if the word is still the one of step 1.
//!
//! The additions have one order. If step 3 fails, a later addition exists, and the look behind it
//! comes after this move. No addition comes after the last one, so its step 3 succeeds, and its
//! look sees all moves. So the word is right at rest, and no step is repeated.
//!
//! Each change of a side is handed on by an addition or an exclusive or. They commute, so the
//! result is right in whatever order they are done.

use crate::{
    base::{
        mutant::{self, Mutant},
        platform::Platform,
        types::{ZoneId, ZoneKind},
    },
    zone::{AllocFlags, Watermark, Zones},
};
use tidemark_sync::atomic::{AtomicU64, Ordering, fence_for_models};

/// Sides of the watermarks, as bits.
pub(crate) type Flags = u64;

/// Below LOW, with no lowmem reserve added.
pub(crate) const BELOW_LOW: Flags = 1;
/// Below HIGH, with no lowmem reserve added.
pub(crate) const BELOW_HIGH: Flags = 1 << 1;
const FLAGS: Flags = TURN - 1;
/// One addition of step 1.
const TURN: u64 = 1 << 8;

/// Returns the bit that says that the zone is above LOW plus its lowmem reserve from requests with
/// this highest zone.
pub(crate) const fn above_low(highest: ZoneKind) -> Flags {
    1 << (2 + highest as u32)
}

/// A zone's sides in bits 0 to 5, and from bit 8 on the number of additions. This number of 56 bits
/// does not come round while a CPU is between the steps.
#[derive(Debug, Default)]
pub(crate) struct Sides(AtomicU64);

impl Sides {
    /// Brings the word up to date after the zone's counter or watermarks were moved; returns the
    /// sides that changed, and all sides as they are now. Wait-free; any context.
    pub(crate) fn follow(&self, look: impl Fn() -> Flags) -> (Flags, Flags) {
        // AcqRel: of two additions the later one sees what was moved before the earlier one. The
        // exchange below releases nothing, but carries the additions' releases on.
        let order = mutant::weakened(Mutant::RelaxedFollow, Ordering::AcqRel);
        let mine = match mutant::is(Mutant::FollowedWithoutCount) {
            true => self.0.load(Ordering::Acquire),
            false => self.0.fetch_add(TURN, order).wrapping_add(TURN),
        };
        let now = look();
        let new = mine & !FLAGS | now;
        let stored = self
            .0
            .compare_exchange(mine, new, Ordering::Relaxed, Ordering::Relaxed);
        match stored {
            Ok(_) => ((mine ^ new) & FLAGS, now),
            // A later addition was made, and the look behind it sees this move.
            Err(_) => (0, now),
        }
    }

    /// Returns the sides as they were stored last; exact at rest.
    pub(crate) fn now(&self) -> Flags {
        self.0.load(Ordering::Relaxed) & FLAGS
    }
}

/// Returns the highest zones of requests that may use a zone of this kind.
fn highest_for(kind: ZoneKind) -> impl Iterator<Item = ZoneKind> {
    ZoneKind::ALL
        .into_iter()
        .filter(move |&highest| highest >= kind)
}

impl<P: Platform> Zones<'_, P> {
    /// Computes a zone's sides from its counter and its watermarks.
    pub(crate) fn sides_of(&self, id: ZoneId) -> Flags {
        let zone = self.zone(id);
        let free = zone.free_now();
        let mut flags = 0;
        if free < zone.watermark_now(Watermark::Low) {
            flags |= BELOW_LOW;
        }
        if free < zone.watermark_now(Watermark::High) {
            flags |= BELOW_HIGH;
        }
        for highest in highest_for(id.kind()) {
            if free > zone.floor_now(AllocFlags::fast(highest)) {
                flags |= above_low(highest);
            }
        }
        flags
    }

    /// Calls [`Zones::follow_watermarks`], if the counter has crossed a watermark from `before` to
    /// `after`. Any context.
    #[cold]
    #[inline(never)]
    pub(crate) fn crossed(&self, id: ZoneId, before: i64, after: i64) {
        let zone = self.zone(id);
        let is_below_one = |watermark| (before < watermark) != (after < watermark);
        let is_crossed = is_below_one(zone.watermark_now(Watermark::Low))
            || is_below_one(zone.watermark_now(Watermark::High))
            || highest_for(id.kind()).any(|highest| {
                let floor = zone.floor_now(AllocFlags::fast(highest));
                (before > floor) != (after > floor)
            });
        if is_crossed {
            self.follow_watermarks(id);
        }
    }

    /// Updates the zone's sides, its cache limits and its bits in `AboveLow`, after its counter or
    /// its watermarks were moved. Any context.
    pub(crate) fn follow_watermarks(&self, id: ZoneId) {
        // A full fence between the move and the look: if one CPU moves the counter and another a
        // watermark, at least one of them sees the other's move.
        fence_for_models();
        let (changed, now) = self.zone(id).sides.follow(|| self.sides_of(id));
        if changed & BELOW_LOW != 0 {
            self.tell_cache_limits(id, now & BELOW_LOW != 0);
        }
        if changed & BELOW_HIGH != 0 {
            self.tell_block_cache_limits(id, now & BELOW_HIGH != 0);
        }
        for highest in ZoneKind::ALL {
            if changed & above_low(highest) != 0 {
                self.above_low.flip(highest, id);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "sides_tests.rs"]
mod machine_tests;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Each call looks once, however many others come between.
    #[test]
    fn nobody_looks_twice_and_the_last_one_is_right() {
        let (sides, looks) = (Sides::default(), Cell::new(0));
        let place = Cell::new(BELOW_LOW);
        let inner = || {
            place.set(BELOW_HIGH);
            sides.follow(|| place.get())
        };
        let outer = sides.follow(|| {
            looks.set(looks.get() + 1);
            let seen = place.get();
            assert_eq!(inner(), (BELOW_HIGH, BELOW_HIGH));
            seen
        });
        assert_eq!((outer, looks.get()), ((0, BELOW_LOW), 1));
        assert_eq!(sides.now(), BELOW_HIGH);
        assert_eq!(
            sides.follow(|| BELOW_LOW),
            (BELOW_LOW | BELOW_HIGH, BELOW_LOW)
        );
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::zone::{above::AboveLow, cache_limit::CacheLimit};
    use loom::{model, sync::Arc, thread};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use tidemark_sync::atomic::AtomicI64;

    const ZONE: ZoneId = ZoneId::from_index(1);
    const KIND: ZoneKind = ZoneKind::Normal;

    /// A zone's counter, its one watermark, and what follows them.
    struct Zone {
        free: AtomicI64,
        watermark: AtomicI64,
        sides: Sides,
        cache_limit: CacheLimit,
        above: AboveLow,
    }

    impl Zone {
        fn new(free: i64, watermark: i64) -> Arc<Self> {
            let zone = Self {
                free: AtomicI64::new(free),
                watermark: AtomicI64::new(watermark),
                sides: Sides::default(),
                cache_limit: CacheLimit::new(),
                above: AboveLow::new(),
            };
            zone.follow();
            Arc::new(zone)
        }

        fn is_below(&self) -> bool {
            self.free.load(Ordering::Relaxed) < self.watermark.load(Ordering::Relaxed)
        }

        /// Does what `follow_watermarks` does.
        fn follow(&self) {
            let look = || {
                if self.is_below() {
                    BELOW_LOW
                } else {
                    above_low(KIND)
                }
            };
            let (changed, now) = self.sides.follow(look);
            if changed & BELOW_LOW != 0 {
                self.cache_limit.tell(now & BELOW_LOW != 0);
            }
            if changed & above_low(KIND) != 0 {
                self.above.flip(KIND, ZONE);
            }
        }

        /// Does what `gain` and `lose` do.
        fn add(&self, frames: i64) {
            let before = self.free.fetch_add(frames, Ordering::Relaxed);
            if !mutant::is(Mutant::CrossedWithoutFence) {
                fence_for_models();
            }
            let watermark = self.watermark.load(Ordering::Relaxed);
            if (before < watermark) != (before + frames < watermark) {
                self.follow();
            }
        }

        /// Does what `set_policy` and the calls behind it do.
        fn move_watermark(&self, watermark: i64) {
            self.watermark.store(watermark, Ordering::Relaxed);
            if !mutant::is(Mutant::WatermarkMovedWithoutFence) {
                fence_for_models();
            }
            self.follow();
        }

        #[track_caller]
        fn assert_right(&self) {
            let is_below = self.is_below();
            assert_eq!(
                self.cache_limit.is_below(),
                is_below,
                "the limits of the caches"
            );
            let bits = u32::from(!is_below) << ZONE.index();
            assert_eq!(self.above.zones(KIND), bits, "the zones above LOW");
        }
    }

    /// Lets two CPUs move a zone across its watermark, one down and one up.
    fn crossed() {
        model(|| {
            let zone = Zone::new(10, 10);
            let other = Arc::clone(&zone);
            let down = thread::spawn(move || other.add(-5));
            zone.add(3);
            zone.add(2);
            down.join().unwrap();
            zone.assert_right();
        });
    }

    /// Moves the watermark, under the hot-plug lock, while another CPU moves the counter.
    fn moved() {
        model(|| {
            let zone = Zone::new(10, 5);
            let other = Arc::clone(&zone);
            let down = thread::spawn(move || other.add(-3));
            zone.move_watermark(8);
            down.join().unwrap();
            zone.assert_right();
        });
    }

    fn catches(mistake: Mutant, explored: fn()) {
        let caught = catch_unwind(AssertUnwindSafe(|| mutant::with(mistake, explored)));
        assert!(caught.is_err(), "{mistake:?} passes");
    }

    #[test]
    fn what_follows_the_watermarks_ends_on_the_side_on_which_the_zone_is() {
        crossed();
        catches(Mutant::FollowedWithoutCount, crossed);
        catches(Mutant::RelaxedFollow, crossed);
    }

    #[test]
    fn it_does_so_although_a_watermark_moves() {
        moved();
        catches(Mutant::CrossedWithoutFence, moved);
        catches(Mutant::WatermarkMovedWithoutFence, moved);
    }
}
