//! A pageblock's flags, in one word: its zone, its kind, and the number of its cache.

use crate::{
    base::types::{MAX_ZONES, ZoneId},
    pageblock::migrate_type::{MigrateType, PageblockKind, Size},
};

/// A CPU's caches of single frames: two for each zone.
pub(crate) const CACHES: usize = MAX_ZONES * 2;

/// A pageblock's zone and kind. If the pageblock's single frames may be cached, the low byte is the
/// number of their cache; otherwise it is no cache's number.
///
/// Bit 0 says movable; bits 1 to 5 are the zone. Bit 6 says that frames are kept out of caches, bit
/// 7 that the pageblock is in the high-atomic reserve. Bits 8 and 9 are the size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageblockFlags(pub(crate) u32);

impl PageblockFlags {
    const MOVABLE: u32 = 1;
    /// Set while the pageblock is being compacted, so that no cache hands out a frame that is freed
    /// into it.
    pub(crate) const KEPT_OUT: u32 = 1 << 6;
    /// Set in pageblocks of the high-atomic reserve. Their frames are never cached.
    const HIGH_ATOMIC: u32 = 1 << 7;
    const SIZE_SHIFT: u32 = 8;

    pub(crate) const fn new(zone: ZoneId, kind: PageblockKind) -> Self {
        let migrate_type = match kind.migrate_type {
            MigrateType::Unmovable => 0,
            MigrateType::Movable => Self::MOVABLE,
            MigrateType::HighAtomic => Self::HIGH_ATOMIC,
        };
        Self((zone.index() as u32) << 1 | migrate_type | (kind.size as u32) << Self::SIZE_SHIFT)
    }

    /// Returns the number of a zone's cache for one of the two migrate types that are cached.
    #[inline]
    pub(crate) const fn cache_of(zone: ZoneId, migrate_type: MigrateType) -> usize {
        zone.index() * 2 + migrate_type as usize % 2
    }

    /// Returns the numbers of a zone's two caches.
    #[inline]
    pub(crate) const fn caches_of(zone: ZoneId) -> core::ops::Range<usize> {
        zone.index() * 2..zone.index() * 2 + 2
    }

    /// Returns the zone of the cache with this number.
    pub(crate) const fn zone_of_cache(number: usize) -> ZoneId {
        ZoneId::from_index(number / 2)
    }

    #[inline]
    pub(crate) const fn zone(self) -> ZoneId {
        Self::zone_of_cache(self.0 as usize % CACHES)
    }

    #[inline]
    pub(crate) const fn kind(self) -> PageblockKind {
        PageblockKind {
            migrate_type: match (self.0 & Self::HIGH_ATOMIC, self.0 & Self::MOVABLE) {
                (0, 0) => MigrateType::Unmovable,
                (0, _) => MigrateType::Movable,
                _ => MigrateType::HighAtomic,
            },
            size: match self.0 >> Self::SIZE_SHIFT {
                1 => Size::Medium,
                2 => Size::Large,
                _ => Size::Small,
            },
        }
    }

    /// Returns the flags with this kind. The bit that keeps frames out of caches stays as it is.
    #[inline]
    pub(crate) const fn with(self, kind: PageblockKind) -> Self {
        Self(Self::new(self.zone(), kind).0 | self.0 & Self::KEPT_OUT)
    }

    /// Returns whether both have the same zone and kind, whether or not frames are kept out of
    /// caches.
    #[inline]
    pub(crate) const fn is_for(self, flags: Self) -> bool {
        (self.0 ^ flags.0) & !Self::KEPT_OUT == 0
    }

    /// Returns whether frames of the pageblock are kept out of caches because it is being
    /// compacted.
    pub(crate) const fn is_kept_out(self) -> bool {
        self.0 & Self::KEPT_OUT != 0
    }

    /// Returns the number of the cache of single frames, in the range of the table; `None` if they
    /// are not cached.
    #[inline]
    pub(crate) const fn cached_in(self) -> Option<usize> {
        if self.0 & (Self::KEPT_OUT | Self::HIGH_ATOMIC) == 0 {
            Some(self.0 as usize % CACHES)
        } else {
            None
        }
    }

    /// Returns the low byte: the number of the cache, or a number out of range if frames are not
    /// cached.
    #[inline]
    pub(crate) const fn cache(self) -> usize {
        (self.0 & 0xff) as usize
    }
}

const _: () = assert!(CACHES == PageblockFlags::KEPT_OUT as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_zone_and_kind_and_says_whether_frames_are_cached() {
        let mut seen = std::collections::BTreeSet::new();
        let migrate_types = [
            MigrateType::Unmovable,
            MigrateType::Movable,
            MigrateType::HighAtomic,
        ];
        let sizes = [Size::Small, Size::Medium, Size::Large];
        for zone in (0..MAX_ZONES).map(ZoneId::from_index) {
            for migrate_type in migrate_types {
                for size in sizes {
                    let kind = PageblockKind { migrate_type, size };
                    let flags = PageblockFlags::new(zone, kind);
                    assert!(seen.insert(flags.0));
                    assert_eq!((flags.zone(), flags.kind()), (zone, kind));
                    let is_cached = migrate_type != MigrateType::HighAtomic;
                    assert_eq!(flags.cache() < CACHES, is_cached);
                    assert_eq!(flags.cached_in(), is_cached.then_some(flags.cache()));
                    if is_cached {
                        assert!(PageblockFlags::caches_of(zone).contains(&flags.cache()));
                        assert_eq!(PageblockFlags::cache_of(zone, migrate_type), flags.cache());
                        assert_eq!(PageblockFlags::zone_of_cache(flags.cache()), zone);
                    }
                    let kept_out = PageblockFlags(flags.0 | PageblockFlags::KEPT_OUT);
                    assert!(seen.insert(kept_out.0));
                    assert_eq!((kept_out.zone(), kept_out.kind()), (zone, kind));
                    assert!(kept_out.cache() >= CACHES && kept_out.is_kept_out());
                    assert_eq!(kept_out.cached_in(), None);
                    assert_eq!(kept_out.with(kind), kept_out);
                    assert!(kept_out.is_for(flags) && flags.is_for(kept_out));
                    let others = sizes.into_iter().filter(|&other| other != size);
                    for size in others {
                        assert!(!kept_out.is_for(PageblockFlags::new(
                            zone,
                            PageblockKind { migrate_type, size }
                        )));
                    }
                }
            }
        }
    }
}
