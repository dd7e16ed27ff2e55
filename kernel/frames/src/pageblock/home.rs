//! Whose an area is, in one word: its zone, and the kind of blocks that it is for.

use crate::{
    base::types::{MAX_ZONES, ZoneId},
    pageblock::migrate_type::{Kind, Mobility, Size},
};

/// Caches of a CPU: two for each zone.
pub(crate) const CACHES: usize = MAX_ZONES * 2;

/// An area's zone and kind. Its low byte is, for areas whose single frames may be cached, the
/// number of that cache; for the others it is no cache's number.
///
/// Bits 1 to 5 are the zone, bit 0 says movable, bit 6 that frames are kept out of caches, bit 7
/// that the area is in the high-atomic reserve; bits 8 and 9 are the size of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home(pub(crate) u32);

impl Home {
    const MOVABLE: u32 = 1;
    /// Set while the area is being compacted: what is freed into it is not to come back out of a
    /// cache.
    pub(crate) const KEPT_OUT: u32 = 1 << 6;
    /// Frames of the reserve are never cached.
    const HIGH_ATOMIC: u32 = 1 << 7;
    const SIZE_SHIFT: u32 = 8;

    pub(crate) const fn new(zone: ZoneId, kind: Kind) -> Self {
        let mobility = match kind.mobility {
            Mobility::Unmovable => 0,
            Mobility::Movable => Self::MOVABLE,
            Mobility::HighAtomic => Self::HIGH_ATOMIC,
        };
        Self((zone.index() as u32) << 1 | mobility | (kind.size as u32) << Self::SIZE_SHIFT)
    }

    /// Returns the cache of single frames of a zone for one of the two kinds that are cached.
    #[inline]
    pub(crate) const fn cache_of(zone: ZoneId, mobility: Mobility) -> usize {
        zone.index() * 2 + mobility as usize % 2
    }

    /// Returns both caches of a zone.
    #[inline]
    pub(crate) const fn caches_of(zone: ZoneId) -> core::ops::Range<usize> {
        zone.index() * 2..zone.index() * 2 + 2
    }

    /// Returns the zone whose cache has this number.
    pub(crate) const fn zone_of_cache(number: usize) -> ZoneId {
        ZoneId::from_index(number / 2)
    }

    #[inline]
    pub(crate) const fn zone(self) -> ZoneId {
        Self::zone_of_cache(self.0 as usize % CACHES)
    }

    #[inline]
    pub(crate) const fn kind(self) -> Kind {
        Kind {
            mobility: match (self.0 & Self::HIGH_ATOMIC, self.0 & Self::MOVABLE) {
                (0, 0) => Mobility::Unmovable,
                (0, _) => Mobility::Movable,
                _ => Mobility::HighAtomic,
            },
            size: match self.0 >> Self::SIZE_SHIFT {
                1 => Size::Medium,
                2 => Size::Large,
                _ => Size::Small,
            },
        }
    }

    /// Returns the home for another kind of blocks.
    #[inline]
    pub(crate) const fn with(self, kind: Kind) -> Self {
        Self(Self::new(self.zone(), kind).0 | self.0 & Self::KEPT_OUT)
    }

    /// Returns whether it is this one, whatever else keeps frames of the area out of caches.
    #[inline]
    pub(crate) const fn is_for(self, home: Self) -> bool {
        (self.0 ^ home.0) & !Self::KEPT_OUT == 0
    }

    /// Returns whether frames of the area are kept out of caches because it is being compacted.
    pub(crate) const fn is_kept_out(self) -> bool {
        self.0 & Self::KEPT_OUT != 0
    }

    /// Returns the index of the cache, which needs no test, if anything is cached.
    #[inline]
    pub(crate) const fn cached_in(self) -> Option<usize> {
        if self.0 & (Self::KEPT_OUT | Self::HIGH_ATOMIC) == 0 {
            Some(self.0 as usize % CACHES)
        } else {
            None
        }
    }

    /// Returns the index into a CPU's caches; out of range where nothing is cached.
    #[inline]
    pub(crate) const fn cache(self) -> usize {
        (self.0 & 0xff) as usize
    }
}

const _: () = assert!(CACHES == Home::KEPT_OUT as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_zone_and_kind_and_says_whether_frames_are_cached() {
        let mut seen = std::collections::BTreeSet::new();
        let mobilities = [Mobility::Unmovable, Mobility::Movable, Mobility::HighAtomic];
        let sizes = [Size::Small, Size::Medium, Size::Large];
        for zone in (0..MAX_ZONES).map(ZoneId::from_index) {
            for mobility in mobilities {
                for size in sizes {
                    let kind = Kind { mobility, size };
                    let home = Home::new(zone, kind);
                    assert!(seen.insert(home.0));
                    assert_eq!((home.zone(), home.kind()), (zone, kind));
                    let is_cached = mobility != Mobility::HighAtomic;
                    assert_eq!(home.cache() < CACHES, is_cached);
                    assert_eq!(home.cached_in(), is_cached.then_some(home.cache()));
                    if is_cached {
                        assert!(Home::caches_of(zone).contains(&home.cache()));
                        assert_eq!(Home::cache_of(zone, mobility), home.cache());
                        assert_eq!(Home::zone_of_cache(home.cache()), zone);
                    }
                    let kept_out = Home(home.0 | Home::KEPT_OUT);
                    assert!(seen.insert(kept_out.0));
                    assert_eq!((kept_out.zone(), kept_out.kind()), (zone, kind));
                    assert!(kept_out.cache() >= CACHES && kept_out.is_kept_out());
                    assert_eq!(kept_out.cached_in(), None);
                    assert_eq!(kept_out.with(kind), kept_out);
                    assert!(kept_out.is_for(home) && home.is_for(kept_out));
                    let others = sizes.into_iter().filter(|&other| other != size);
                    for size in others {
                        assert!(!kept_out.is_for(Home::new(zone, Kind { mobility, size })));
                    }
                }
            }
        }
    }
}
