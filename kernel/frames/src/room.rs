//! How much a CPU may keep in its caches of a zone's frames: nothing while the zone is below a mark,
//! LOW for single frames and HIGH for larger blocks, or while an offline keeps the caches away.
//!
//! A free that goes into a cache asks one word, and compares it with what is in the cache: limit,
//! mark and offline in one test.

use crate::{
    Frames, Platform, ZoneId, blocks,
    home::Home,
    mutant::{self, Mutant},
    platform::step,
    whole::Returned,
    zone::{Mark, Policy},
};
use tidemark_sync::atomic::{AtomicI32, Ordering};

/// Room in the CPUs' caches of one kind of a zone's frames, or of its blocks of one order: a cache
/// that holds `n` takes another one if `n` is below the word, taken as a signed number.
///
/// The word is 127 − fields, where the fields are: what the limit is short of 127, in bits 0 to 7;
/// bit 8 while the zone is below the mark; the offlines under way, from bit 16 on. Any of the latter
/// two makes it negative or 0 at most.
#[derive(Debug)]
pub(crate) struct Room(AtomicI32);

/// The most that a limit can be.
pub(crate) const MOST: i32 = 127;
const SHORT: i32 = 0xff;
const BELOW: i32 = 1 << 8;
const OFFLINE: i32 = 1 << 16;

impl Room {
    pub(crate) fn new() -> Self {
        Self(AtomicI32::new(0))
    }

    /// Whether a cache that holds `count` frames may take another one. Inside a section, for who
    /// is about to put one in.
    #[inline]
    pub(crate) fn is_for(&self, count: u32) -> bool {
        // Relaxed: an offline that shuts the caches drains them next; a section that began before
        // that drain is over when the drain is acknowledged, and one that begins later sees this
        // through the drain's number (`Frames::drain_local`).
        (count as i32) < self.0.load(Ordering::Relaxed)
    }

    fn fields(&self) -> i32 {
        MOST - self.0.load(Ordering::Relaxed)
    }

    /// Changes the fields. AcqRel: of several who change it, each sees what those before it saw.
    fn change(&self, change: impl Fn(i32) -> i32) {
        let update = |word| Some(MOST - change(MOST - word));
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, update);
    }

    fn set_below(&self, is_below: bool) {
        let bit = if is_below { BELOW } else { 0 };
        self.change(|fields| fields & !BELOW | bit);
    }

    fn is_below(&self) -> bool {
        self.fields() & BELOW != 0
    }

    fn is_shut_for_offline(&self) -> bool {
        self.fields() >= OFFLINE
    }

    pub(crate) fn shut_for_offline(&self) {
        self.change(|fields| fields + OFFLINE);
    }

    fn open_after_offline(&self) {
        self.change(|fields| fields - OFFLINE);
    }

    pub(crate) fn set_limit(&self, limit: u32) {
        let short = (MOST - limit as i32).clamp(0, MOST);
        self.change(|fields| fields & !SHORT | short);
    }
}

/// Makes a word say where a zone is, on this side of a mark or that, by `tell`. Whoever moves the
/// zone across comes here after that: the last one to write the word sees, by the word's AcqRel,
/// what all others had counted before they wrote it, and looks again after its own writing.
pub(crate) fn follow(look: impl Fn() -> bool, tell: impl Fn(bool)) {
    loop {
        let before = look();
        tell(before);
        if mutant::is(Mutant::MarkLookedAtOnce) || look() == before {
            break;
        }
    }
}

impl<P: Platform> Frames<'_, P> {
    fn rooms(&self, zone: ZoneId) -> &[Room] {
        &self.rooms[Home::caches_of(zone)]
    }

    fn block_rooms(&self, zone: ZoneId) -> &[Room] {
        &self.block_rooms[blocks::places_of(zone)]
    }

    fn all_rooms(&self, zone: ZoneId) -> impl Iterator<Item = &Room> {
        self.rooms(zone).iter().chain(self.block_rooms(zone))
    }

    /// Whether an offline keeps the caches away from the zone.
    #[inline]
    pub(crate) fn caches_are_off(&self, zone: ZoneId) -> bool {
        self.rooms[Home::caches_of(zone).start].is_shut_for_offline()
    }

    /// Keeps frames of the zone out of all caches from now on; those that hold some are to be
    /// drained. Counted: each is undone by one [`Frames::turn_caches_on`].
    pub(crate) fn turn_caches_off(&self, zone: ZoneId) {
        self.all_rooms(zone).for_each(Room::shut_for_offline);
    }

    pub(crate) fn turn_caches_on(&self, zone: ZoneId) {
        self.all_rooms(zone).for_each(Room::open_after_offline);
    }

    /// Sets how much a cache may hold. Under the hot-plug lock.
    pub(crate) fn set_cache_limits(&self, zone: ZoneId, policy: &Policy) {
        for room in self.rooms(zone) {
            room.set_limit(policy.cache_high);
        }
        for (place, room) in self.block_rooms(zone).iter().enumerate() {
            room.set_limit(blocks::limit_at(place, policy.cached_orders));
        }
        self.note_marks(zone);
    }

    /// Makes what follows the zone's marks say on which side of them it is. Whoever changed them
    /// comes here after that.
    fn note_marks(&self, zone: ZoneId) {
        self.note_low(zone);
        self.note_high(zone);
        self.note_above_low(zone);
    }

    /// Counts frames that a zone gains.
    #[inline]
    pub(crate) fn gain(&self, id: ZoneId, frames: u32) {
        let returned = Returned {
            counted: frames,
            completes: false,
        };
        self.gain_returned(id, returned);
    }

    /// Counts what a zone gains by frames that were returned to its areas.
    #[inline]
    pub(crate) fn gain_returned(&self, id: ZoneId, returned: Returned) {
        let zone = self.zone(id);
        let before = zone.add_free(returned.counted);
        if before <= zone.highest_followed() || returned.completes {
            self.note_returned(id, before, returned);
        }
    }

    #[cold]
    #[inline(never)]
    fn note_returned(&self, id: ZoneId, before: i64, returned: Returned) {
        step!(self);
        if returned.completes {
            self.zone(id).wholes.note();
        }
        self.crossed(id, before, before + i64::from(returned.counted));
    }

    /// Counts frames that a zone loses.
    #[inline]
    pub(crate) fn lose(&self, id: ZoneId, frames: u32) {
        let zone = self.zone(id);
        let before = zone.subtract_free(frames);
        let after = before - i64::from(frames);
        if after <= zone.highest_followed() {
            self.crossed(id, before, after);
        }
    }

    fn is_below(&self, id: ZoneId, mark: Mark) -> bool {
        let zone = self.zone(id);
        zone.free_exact() < zone.mark(mark) as i64
    }

    /// Tells those who follow the zone's counter where it went, if that leads across HIGH, or across
    /// LOW, with or without a lowmem reserve.
    #[cold]
    #[inline(never)]
    fn crossed(&self, id: ZoneId, before: i64, after: i64) {
        let is_crossed = |mark| {
            let mark = self.zone(id).mark(mark) as i64;
            (before < mark) != (after < mark)
        };
        if is_crossed(Mark::Low) {
            self.note_low(id);
        }
        if is_crossed(Mark::High) {
            self.note_high(id);
        }
        self.follow_above_low(id, before, after);
    }

    /// Makes the zone's rooms say on which side of LOW the zone is. Any context.
    fn note_low(&self, id: ZoneId) {
        for room in self.rooms(id) {
            follow(|| self.is_below(id, Mark::Low), |is| room.set_below(is));
        }
    }

    /// The same for its larger blocks and HIGH. Any context.
    fn note_high(&self, id: ZoneId) {
        for (place, room) in self.block_rooms(id).iter().enumerate() {
            if blocks::is_used(place) {
                follow(|| self.is_below(id, Mark::High), |is| room.set_below(is));
            }
        }
    }

    /// Whether the zone's rooms say what they should at rest.
    pub(crate) fn rooms_are_right(&self, id: ZoneId) -> bool {
        let policy = self.zone(id).policy();
        let is_right = |room: &Room, mark, limit: u32| {
            let short = (MOST - limit as i32).clamp(0, MOST);
            room.is_below() == self.is_below(id, mark) && room.fields() & SHORT == short
        };
        let mut blocks = self.block_rooms(id).iter().enumerate();
        let singles = self.rooms(id).iter();
        singles
            .into_iter()
            .all(|room| is_right(room, Mark::Low, policy.cache_high))
            && blocks.all(|(place, room)| {
                let limit = blocks::limit_at(place, policy.cached_orders);
                if blocks::is_used(place) {
                    is_right(room, Mark::High, limit)
                } else {
                    !room.is_for(0)
                }
            })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_word_keeps_limit_mark_and_offlines_apart() {
        let room = Room::new();
        for limit in [0, 1, 63, MOST] {
            room.set_limit(limit as u32);
            for below in [true, false] {
                room.set_below(below);
                for offlines in 0..3 {
                    (0..offlines).for_each(|_| room.shut_for_offline());
                    let is_open = !below && offlines == 0;
                    for count in 0..=MOST as u32 {
                        let expected = is_open && (count as i32) < limit;
                        assert_eq!(room.is_for(count), expected, "{limit} {below} {offlines}");
                    }
                    assert_eq!(room.is_below(), below);
                    assert_eq!(room.is_shut_for_offline(), offlines > 0);
                    (0..offlines).for_each(|_| room.open_after_offline());
                }
            }
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::{model, sync::Arc, thread};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use tidemark_sync::atomic::AtomicI64;

    const MARK: i64 = 10;

    /// Two CPUs move a zone across its mark, one down and one up.
    fn crossed() {
        model(|| {
            let shared = Arc::new((Room::new(), AtomicI64::new(MARK)));
            let cross = |shared: &(Room, AtomicI64), frames: i64| {
                let (room, free) = shared;
                let before = free.fetch_add(frames, Ordering::Relaxed);
                if (before < MARK) != (before + frames < MARK) {
                    let look = || free.load(Ordering::Relaxed) < MARK;
                    follow(look, |is| room.set_below(is));
                }
            };
            let other = Arc::clone(&shared);
            let down = thread::spawn(move || cross(&other, -5));
            cross(&shared, 3);
            cross(&shared, 2);
            down.join().unwrap();
            let (room, free) = &*shared;
            assert_eq!(room.is_below(), free.load(Ordering::Relaxed) < MARK);
        });
    }

    #[test]
    fn the_word_ends_on_the_side_of_the_mark_on_which_the_zone_is() {
        crossed();
        let mistake = Mutant::MarkLookedAtOnce;
        let caught = catch_unwind(AssertUnwindSafe(|| mutant::with(mistake, crossed)));
        assert!(caught.is_err(), "{mistake:?} passes");
    }
}
