//! The high-atomic reserve: areas kept for requests above order 0 that can neither wait nor go
//! without (HIGH, non-blocking).
//!
//! A zone of some size keeps up to a hundredth of itself so. An area joins the reserve when such a
//! request got a block of it on the slow path, and is given back when others would have to fail.
//! For everybody else its frames do not count as free.

use crate::{
    base::{
        platform::{Platform, step},
        request::Gfp,
        types::{Order, Pfn, ZoneId},
    },
    pageblock::{
        area::{Sought, State},
        memory::{AREA_FRAMES, AreaRef},
        migrate_type::Mobility,
    },
    zone::{Access, Zones, search::Part},
};

/// What the reserve is to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HighAtomic {
    /// Its frames do not count as free.
    Spared,
    /// It comes before the rest of the zone.
    Usable,
}

impl HighAtomic {
    /// Returns what flags and order permit on the slow path.
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
    /// One area of each zone.
    OneArea,
    /// Nothing: the next step is OOM.
    Nothing,
}

impl Keep {
    pub(crate) const fn frames(self) -> u64 {
        match self {
            Self::OneArea => AREA_FRAMES as u64,
            Self::Nothing => 0,
        }
    }
}

impl<'m, P: Platform> Zones<'m, P> {
    /// Returns whether a request leaves the zone above its mark, without the frames kept from it.
    #[inline]
    pub(crate) fn passes(&self, id: ZoneId, order: Order, access: Access) -> bool {
        let zone = self.zone(id);
        let free = zone.free();
        // Most zones that are passed over are below their mark with all that is free.
        zone.mark_ok_with(free, order, access)
            && (zone.high_atomic() == 0 || self.passes_without_reserve(id, free, order, access))
    }

    /// Returns whether a zone that is above its mark with everything free in it still is without
    /// the frames kept from the request.
    #[inline]
    pub(crate) fn passes_reserve(&self, id: ZoneId, (order, access): (Order, Access)) -> bool {
        let zone = self.zone(id);
        zone.high_atomic() == 0 || self.passes_without_reserve(id, zone.free(), order, access)
    }

    /// Returns whether a request leaves the zone above its mark, if `more` frames were free, up to
    /// the zone's size.
    pub(crate) fn passes_with(&self, id: ZoneId, more: u64, order: Order, access: Access) -> bool {
        let zone = self.zone(id);
        let free = match more {
            0 => zone.free(),
            more => (zone.free() + more).min(zone.managed()),
        };
        zone.mark_ok_with(free, order, access)
            && (zone.high_atomic() == 0 || self.passes_without_reserve(id, free, order, access))
    }

    /// Tests a mark with the reserve's areas counted as taken; if that is too little, what
    /// of them is free is counted.
    #[cold]
    fn passes_without_reserve(&self, id: ZoneId, free: u64, order: Order, access: Access) -> bool {
        let zone = self.zone(id);
        if access.high_atomic == HighAtomic::Usable
            || zone.mark_ok_with(free.saturating_sub(zone.high_atomic()), order, access)
        {
            return true;
        }
        let mut unusable = 0;
        self.each_reserved(id, |area| {
            unusable += u64::from(area.core().state().free());
            None::<()>
        });
        zone.mark_ok_with(free.saturating_sub(unusable), order, access)
    }

    /// Visits the areas of a zone's reserve until one gives something.
    pub(crate) fn each_reserved<R>(
        &self,
        zone: ZoneId,
        mut visit: impl FnMut(AreaRef<'m>) -> Option<R>,
    ) -> Option<R> {
        self.search(zone, 0, u32::MAX, Sought::PRESENT, |area, home, _| {
            if home.kind().mobility == Mobility::HighAtomic {
                visit(area)
            } else {
                None
            }
        })
    }

    /// Takes a block of order 0 to 8 from the reserve, whatever the marks.
    #[cold]
    pub(crate) fn take_reserved(&self, zone: ZoneId, order: Order) -> Option<Pfn> {
        self.each_reserved(zone, |area| self.take_run(area, zone, order, Part::Free))
    }

    /// Keeps the area of a block that is held for the reserve, as far as that may grow.
    #[cold]
    pub(crate) fn reserve_area_of(&self, id: ZoneId, pfn: Pfn) {
        let Some((area, _)) = self.books.area_of(pfn) else {
            return;
        };
        let kind = area.kind();
        let zone = self.zone(id);
        if kind.mobility == Mobility::HighAtomic || !zone.grow_high_atomic() {
            return;
        }
        step!(self);
        if !area.change_kind(kind, kind.turned_to(Mobility::HighAtomic)) {
            zone.shrink_high_atomic();
        }
    }

    /// Takes an area out of its zone's reserve, if it is in it.
    pub(crate) fn release_high_atomic(&self, area: AreaRef<'m>, to: Mobility) -> bool {
        // Zone and kind are one word: the exchange that changes the kind says whose count it is,
        // wherever the area may be behind it.
        let home = area.home();
        let kind = home.kind();
        if kind.mobility != Mobility::HighAtomic {
            return false;
        }
        step!(self);
        if !area.exchange_home(home, home.with(kind.turned_to(to))) {
            return false;
        }
        step!(self);
        let zone = self.zone(home.zone());
        zone.shrink_high_atomic();
        if area.core().state() == State::EMPTY {
            zone.wholes.note();
        }
        true
    }
}

#[cfg(all(test, not(loom)))]
#[path = "high_atomic_tests.rs"]
mod tests;
