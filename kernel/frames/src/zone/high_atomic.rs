//! The high-atomic reserve: pageblocks kept for urgent requests of orders 1 to 8 that cannot wait
//! (HIGH, without DIRECT_RECLAIM and NOMEMALLOC).
//!
//! The reserve is up to a hundredth of a zone, and empty in zones below 200 MiB. A pageblock joins
//! it when such a request got a block of it on the slow path. It is given back before other
//! requests would have to fail. For all other requests its frames do not count as free.

use crate::{
    base::{
        platform::{Platform, step},
        request::Gfp,
        types::{Order, Pfn, ZoneId},
    },
    pageblock::{
        bits::{State, StateFilter},
        migrate_type::MigrateType,
        section_meta::{PAGEBLOCK_FRAMES, PageblockRef},
    },
    zone::{AllocFlags, Zones, search::Part},
};

/// Whether a request may use the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HighAtomic {
    /// The request may not use it; its frames do not count as free.
    Spared,
    /// The request may use it, and tries it before the rest of the zone.
    Usable,
}

impl HighAtomic {
    /// Returns what the flags and the order permit on the slow path.
    pub(crate) const fn of(gfp: Gfp, order: Order) -> Self {
        let is_high = gfp.contains(Gfp::HIGH);
        let barred = gfp.contains(Gfp::DIRECT_RECLAIM) || gfp.contains(Gfp::NOMEMALLOC);
        if is_high && !barred && order.get() > 0 && order.get() < Order::HUGE.get() {
            Self::Usable
        } else {
            Self::Spared
        }
    }
}

/// How much of the reserve is left when some is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// One pageblock of each zone.
    OnePageblock,
    /// No pageblock: the next step is OOM.
    Nothing,
}

impl Keep {
    pub(crate) const fn frames(self) -> u64 {
        match self {
            Self::OnePageblock => PAGEBLOCK_FRAMES as u64,
            Self::Nothing => 0,
        }
    }
}

impl<'m, P: Platform> Zones<'m, P> {
    /// Returns whether a request leaves the zone no lower than its floor. Frames of the reserve do
    /// not count, if the request may not use them.
    #[doc(alias("zone_watermark_ok", "zone_watermark_fast"))]
    #[inline]
    pub(crate) fn watermark_ok(&self, id: ZoneId, order: Order, alloc_flags: AllocFlags) -> bool {
        let zone = self.zone(id);
        let free = zone.free();
        // Most zones that are passed over are below the floor even with the reserve's free frames.
        zone.watermark_ok_with(free, order, alloc_flags)
            && (zone.high_atomic() == 0
                || self.watermark_ok_without_reserve(id, free, order, alloc_flags))
    }

    /// Returns whether a zone that is above its floor with all its free frames is so without the
    /// reserve's, too, unless the request may use them.
    #[inline]
    pub(crate) fn watermark_ok_reserve(
        &self,
        id: ZoneId,
        (order, alloc_flags): (Order, AllocFlags),
    ) -> bool {
        let zone = self.zone(id);
        zone.high_atomic() == 0
            || self.watermark_ok_without_reserve(id, zone.free(), order, alloc_flags)
    }

    /// Returns whether a request would leave the zone no lower than its floor if `more` frames were
    /// free, up to the zone's size.
    pub(crate) fn watermark_ok_with_more(
        &self,
        id: ZoneId,
        more: u64,
        order: Order,
        alloc_flags: AllocFlags,
    ) -> bool {
        let zone = self.zone(id);
        let free = match more {
            0 => zone.free(),
            more => (zone.free() + more).min(zone.managed()),
        };
        zone.watermark_ok_with(free, order, alloc_flags)
            && (zone.high_atomic() == 0
                || self.watermark_ok_without_reserve(id, free, order, alloc_flags))
    }

    /// Tests the floor with all the reserve's pageblocks counted as not free. If too few frames are
    /// left, subtracts only the reserve's free frames, which it counts.
    #[cold]
    fn watermark_ok_without_reserve(
        &self,
        id: ZoneId,
        free: u64,
        order: Order,
        alloc_flags: AllocFlags,
    ) -> bool {
        let zone = self.zone(id);
        if alloc_flags.high_atomic == HighAtomic::Usable
            || zone.watermark_ok_with(free.saturating_sub(zone.high_atomic()), order, alloc_flags)
        {
            return true;
        }
        let mut unusable = 0;
        self.each_reserved(id, |pageblock| {
            unusable += u64::from(pageblock.core().state().free());
            None::<()>
        });
        zone.watermark_ok_with(free.saturating_sub(unusable), order, alloc_flags)
    }

    /// Visits the pageblocks of a zone's reserve until a visit returns something.
    pub(crate) fn each_reserved<R>(
        &self,
        zone: ZoneId,
        mut visit: impl FnMut(PageblockRef<'m>) -> Option<R>,
    ) -> Option<R> {
        self.search(
            zone,
            0,
            u32::MAX,
            StateFilter::PRESENT,
            |pageblock, flags, _| {
                if flags.kind().migrate_type == MigrateType::HighAtomic {
                    visit(pageblock)
                } else {
                    None
                }
            },
        )
    }

    /// Takes a block of order 0 to 8 from the reserve, without a test of the watermarks.
    #[cold]
    pub(crate) fn take_reserved(&self, zone: ZoneId, order: Order) -> Option<Pfn> {
        self.each_reserved(zone, |pageblock| {
            self.take_run(pageblock, zone, order, Part::Free)
        })
    }

    /// Moves the pageblock of an allocated block into the reserve, if the reserve may grow.
    #[doc(alias = "reserve_highatomic_pageblock")]
    #[cold]
    pub(crate) fn reserve_pageblock_of(&self, id: ZoneId, pfn: Pfn) {
        let Some((pageblock, _)) = self.books.pageblock_of(pfn) else {
            return;
        };
        let kind = pageblock.kind();
        let zone = self.zone(id);
        if kind.migrate_type == MigrateType::HighAtomic || !zone.grow_high_atomic() {
            return;
        }
        step!(self);
        if !pageblock.change_kind(kind, kind.turned_to(MigrateType::HighAtomic)) {
            zone.shrink_high_atomic();
        }
    }

    /// Takes a pageblock out of its zone's reserve, and gives it the migrate type `to`. Returns
    /// `false` if it was not in the reserve.
    pub(crate) fn release_high_atomic(&self, pageblock: PageblockRef<'m>, to: MigrateType) -> bool {
        // Zone and kind are in one word. So the exchange that changes the kind also says which
        // zone's reserve shrinks, even if the pageblock joins another zone afterwards.
        let flags = pageblock.flags();
        let kind = flags.kind();
        if kind.migrate_type != MigrateType::HighAtomic {
            return false;
        }
        step!(self);
        if !pageblock.exchange_flags(flags, flags.with(kind.turned_to(to))) {
            return false;
        }
        step!(self);
        let zone = self.zone(flags.zone());
        zone.shrink_high_atomic();
        if pageblock.core().state() == State::EMPTY {
            zone.free_huge.note();
        }
        true
    }
}

#[cfg(all(test, not(loom)))]
#[path = "high_atomic_tests.rs"]
mod tests;
