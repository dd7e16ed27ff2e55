//! How much a CPU may keep in its caches of a zone's frames. It is nothing while an offline keeps
//! the zone's caches off, or while the zone is below a watermark: LOW for single frames, HIGH for
//! larger blocks.
//!
//! A free compares one word with the number of blocks in the cache: this tests limit, watermark and
//! offline at once.

use crate::{
    base::{platform::Platform, resizing::Resizing, types::ZoneId},
    pageblock::flags::PageblockFlags,
    zone::{
        Zones,
        places::{self},
        policy::Policy,
        sides,
    },
};
use tidemark_sync::atomic::{AtomicI32, Ordering};

/// The limit of every CPU's cache of a zone's frames of one migrate type, or of its blocks of one
/// order. A cache that holds `n` may take another one if `n` is below the word, as a signed number.
///
/// The word is 127 minus the sum of three fields. The first one, in bits 0 to 7, is 127 minus the
/// limit. The second one, from bit 8 on, is 1 while the zone is below the watermark. The third one,
/// from bit 24 on, is the number of offlines under way. A second or third field above 0 makes the
/// word negative.
///
/// The second field may be 2 or −1 for a moment, if the later of two crossings is recorded first. A
/// cache then takes none, or more than its limit, but never more than fit in.
#[doc(alias = "pcp_high")]
#[derive(Debug)]
pub(crate) struct CacheLimit(AtomicI32);

/// The most that a limit can be.
pub(crate) const MOST: i32 = 127;
const SHORT: i32 = 0xff;
const BELOW: i32 = 1 << 8;
const OFFLINE: i32 = 1 << 24;

impl CacheLimit {
    pub(crate) fn new() -> Self {
        Self(AtomicI32::new(0))
    }

    /// Returns whether a cache that holds `count` blocks may take another one. A caller that is
    /// about to put one in is inside a gated section.
    #[inline]
    pub(crate) fn is_for(&self, count: u32) -> bool {
        // Relaxed: an offline that shuts the caches drains them next. A gated section that began
        // before that drain is over when the drain is acknowledged. One that begins later sees the
        // shut limit through the drain's number (`Frames::drain_local`).
        (count as i32) < self.0.load(Ordering::Relaxed)
    }

    fn fields(&self) -> i32 {
        MOST - self.0.load(Ordering::Relaxed)
    }

    /// Records that the zone has crossed the watermark. Relaxed: the result is right in whatever
    /// order several of these additions are done.
    pub(crate) fn tell(&self, is_below: bool) {
        let difference = if is_below { -BELOW } else { BELOW };
        self.0.fetch_add(difference, Ordering::Relaxed);
    }

    /// Returns whether the zone is below the watermark; exact at rest.
    #[cfg(test)]
    pub(crate) fn is_below(&self) -> bool {
        (self.fields() + OFFLINE / 2) % OFFLINE - OFFLINE / 2 >= BELOW
    }

    fn is_shut_for_offline(&self) -> bool {
        // The second field may be negative for a moment, and borrow from this one.
        self.fields() >= OFFLINE / 2
    }

    /// Shuts the caches for an offline. Release: see [`CacheLimit::is_for`].
    pub(crate) fn shut_for_offline(&self) {
        self.0.fetch_sub(OFFLINE, Ordering::Release);
    }

    fn open_after_offline(&self) {
        self.0.fetch_add(OFFLINE, Ordering::Release);
    }

    /// Sets the limit. Only the holder of the hot-plug lock changes these bits.
    pub(crate) fn set_limit(&self, limit: u32, _: &Resizing<'_>) {
        let short = (MOST - limit as i32).clamp(0, MOST);
        let before = self.fields() & SHORT;
        self.0.fetch_sub(short - before, Ordering::Relaxed);
    }
}

impl<P: Platform> Zones<'_, P> {
    fn cache_limits(&self, zone: ZoneId) -> &[CacheLimit] {
        &self.cache_limits[PageblockFlags::caches_of(zone)]
    }

    fn block_cache_limits(&self, zone: ZoneId) -> &[CacheLimit] {
        &self.block_cache_limits[places::places_of(zone)]
    }

    fn all_cache_limits(&self, zone: ZoneId) -> impl Iterator<Item = &CacheLimit> {
        self.cache_limits(zone)
            .iter()
            .chain(self.block_cache_limits(zone))
    }

    /// Returns whether an offline keeps the zone's caches off.
    #[inline]
    pub(crate) fn caches_are_off(&self, zone: ZoneId) -> bool {
        self.cache_limits[PageblockFlags::caches_of(zone).start].is_shut_for_offline()
    }

    /// Keeps frames of the zone out of all caches from now on. The caller then drains the caches.
    /// Calls are counted: one [`Zones::turn_caches_on`] undoes each.
    pub(crate) fn turn_caches_off(&self, zone: ZoneId) {
        self.all_cache_limits(zone)
            .for_each(CacheLimit::shut_for_offline);
    }

    pub(crate) fn turn_caches_on(&self, zone: ZoneId) {
        self.all_cache_limits(zone)
            .for_each(CacheLimit::open_after_offline);
    }

    /// Sets the limits of a zone's caches.
    pub(crate) fn set_cache_limits(&self, zone: ZoneId, policy: &Policy, resizing: &Resizing<'_>) {
        for cache_limit in self.cache_limits(zone) {
            cache_limit.set_limit(policy.cache_high, resizing);
        }
        for (place, cache_limit) in self.block_cache_limits(zone).iter().enumerate() {
            cache_limit.set_limit(places::limit_at(place, policy.cached_orders), resizing);
        }
    }

    /// Records in the limits of single frames that the zone has crossed LOW. Any context.
    pub(crate) fn tell_cache_limits(&self, id: ZoneId, is_below: bool) {
        self.cache_limits(id)
            .iter()
            .for_each(|cache_limit| cache_limit.tell(is_below));
    }

    /// Records in the limits of larger blocks that the zone has crossed HIGH. Any context.
    pub(crate) fn tell_block_cache_limits(&self, id: ZoneId, is_below: bool) {
        for (place, cache_limit) in self.block_cache_limits(id).iter().enumerate() {
            if places::is_used(place) {
                cache_limit.tell(is_below);
            }
        }
    }

    /// Returns whether the limits of the zone's caches are right; exact at rest.
    pub(crate) fn cache_limits_are_right(&self, id: ZoneId) -> bool {
        let (policy, sides) = (self.zone(id).policy(), self.sides_of(id));
        let is_right = |cache_limit: &CacheLimit, below, limit: u32| {
            let short = (MOST - limit as i32).clamp(0, MOST);
            let below = if sides & below != 0 { BELOW } else { 0 };
            cache_limit.fields() == short + below
        };
        let mut blocks = self.block_cache_limits(id).iter().enumerate();
        let singles = self.cache_limits(id).iter();
        let noted = self.zone(id).sides.now();
        noted == sides
            && singles
                .into_iter()
                .all(|cache_limit| is_right(cache_limit, sides::BELOW_LOW, policy.cache_high))
            && blocks.all(|(place, cache_limit)| {
                let limit = places::limit_at(place, policy.cached_orders);
                if places::is_used(place) {
                    is_right(cache_limit, sides::BELOW_HIGH, limit)
                } else {
                    !cache_limit.is_for(0)
                }
            })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::testing::resizing;

    #[test]
    fn the_word_keeps_limit_watermark_and_offlines_apart() {
        let cache_limit = CacheLimit::new();
        for limit in [0, 1, 63, MOST] {
            cache_limit.set_limit(limit as u32, resizing());
            for below in [true, false] {
                if cache_limit.is_below() != below {
                    cache_limit.tell(below);
                }
                for offlines in 0..3 {
                    (0..offlines).for_each(|_| cache_limit.shut_for_offline());
                    let is_open = !below && offlines == 0;
                    for count in 0..=MOST as u32 {
                        let expected = is_open && (count as i32) < limit;
                        assert_eq!(
                            cache_limit.is_for(count),
                            expected,
                            "{limit} {below} {offlines}"
                        );
                    }
                    assert_eq!(cache_limit.is_below(), below);
                    assert_eq!(cache_limit.is_shut_for_offline(), offlines > 0);
                    (0..offlines).for_each(|_| cache_limit.open_after_offline());
                }
            }
        }
    }

    #[test]
    fn a_limit_leaves_the_other_fields_alone() {
        let cache_limit = CacheLimit::new();
        cache_limit.set_limit(9, resizing());
        cache_limit.tell(true);
        cache_limit.shut_for_offline();
        cache_limit.set_limit(5, resizing());
        assert!(cache_limit.is_below() && cache_limit.is_shut_for_offline());
        cache_limit.tell(false);
        cache_limit.open_after_offline();
        assert!(cache_limit.is_for(4) && !cache_limit.is_for(5));
    }

    #[test]
    fn a_crossing_that_is_told_late_hides_no_offline() {
        let cache_limit = CacheLimit::new();
        cache_limit.set_limit(MOST as u32, resizing());
        cache_limit.tell(false);
        assert!(!cache_limit.is_shut_for_offline());
        cache_limit.shut_for_offline();
        assert!(cache_limit.is_shut_for_offline() && !cache_limit.is_for(0));
        cache_limit.tell(true);
        cache_limit.open_after_offline();
        assert!(!cache_limit.is_shut_for_offline() && cache_limit.is_for(0));
    }
}
