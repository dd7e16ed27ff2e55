//! The search of a zone for an area that can give.

use crate::{
    base::{
        platform::{Platform, step, window},
        types::{Order, Pfn, ZoneId},
    },
    pageblock::{
        area::{Sought, State},
        home::Home,
        memory::{AREA_FRAMES, AreaRef, BLOCK_AREAS, bits_of},
        migrate_type::{Kind, Mobility},
    },
    zone::{
        Zones,
        hints::{CpuHints, Hints},
        whole::Returned,
    },
};

/// Areas that a search for single frames looks at in the hope of one that is in use already, before
/// it breaks into a whole one.
const PARTIAL_WINDOW: u32 = 512;

/// A search for frames below an order of 9.
#[derive(Clone, Copy)]
struct Search<'c> {
    zone: ZoneId,
    /// What the request is.
    kind: Kind,
    /// Areas with fewer frames free are passed over.
    least: u32,
    hints: &'c Hints,
}

impl<'c> Search<'c> {
    #[inline]
    fn new(zone: ZoneId, order: Order, mobility: Mobility, hints: &'c CpuHints) -> Self {
        let kind = Kind::of(mobility, order);
        Self {
            zone,
            kind,
            least: order.frames() as u32,
            hints: &hints.small[kind.mobility as usize][kind.size as usize],
        }
    }

    /// Returns what the areas of its kind say of themselves.
    #[inline]
    fn home(self) -> Home {
        Home::new(self.zone, self.kind)
    }
}

/// Which areas a search takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Only {
    /// Those of its kind, and any that is wholly free.
    Own,
    /// Those for blocks of its mobility, but of other sizes.
    Kin,
    /// Those for blocks of the other mobility.
    Foreign,
}

/// What of an area a search wants.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// What is free.
    Free,
    /// Its first frame: the area changes its kind, and must be wholly free at that step.
    First,
}

impl<'m, P: Platform> Zones<'m, P> {
    /// Takes a block from a zone's areas, whatever the marks. Pinned on the CPU of `hints`.
    pub(crate) fn take_from_zone(
        &self,
        zone: ZoneId,
        order: Order,
        mobility: Mobility,
        hints: &CpuHints,
    ) -> Option<Pfn> {
        if self.zone(zone).free() < order.frames() {
            return None;
        }
        match order {
            Order::MAX => self.take_pair(zone, mobility, hints),
            Order::HUGE => self.take_area(zone, mobility, hints),
            _ => {
                let search = Search::new(zone, order, mobility, hints);
                self.search_small(search, |area, part| self.take_run(area, zone, order, part))
            }
        }
    }

    /// Takes a block of orders 0 to 8, from areas of another kind than `mobility`.
    pub(crate) fn take_foreign(
        &self,
        zone: ZoneId,
        order: Order,
        mobility: Mobility,
        hints: &CpuHints,
    ) -> Option<Pfn> {
        if self.zone(zone).free() < order.frames() {
            return None;
        }
        let search = Search::new(zone, order, mobility, hints);
        let from = search.hints.get(zone);
        self.search_for(search, Only::Foreign, from, &mut |area, part| {
            let taken = self.take_run(area, zone, order, part)?;
            self.convert(area, search.kind);
            Some(taken)
        })
    }

    /// Lets an area change sides if at least half of it is free after something was stolen.
    pub(crate) fn convert(&self, area: AreaRef<'m>, kind: Kind) {
        if area.core().state().free() as usize >= AREA_FRAMES / 2 {
            area.turn_to(kind);
        }
    }

    /// Orders 0 to 8, from one area.
    pub(crate) fn take_run(
        &self,
        area: AreaRef<'m>,
        zone: ZoneId,
        order: Order,
        part: Part,
    ) -> Option<Pfn> {
        let frames = order.frames() as u32;
        let word = match order {
            Order::ZERO => 0,
            _ => area.core().word_with_run(order)?,
        };
        step!(self);
        self.reserve_in(area, zone, frames, frames, part)?;
        step!(self);
        let Some(index) = area.core().claim_from(order, word) else {
            self.return_reservation(area, frames);
            return None;
        };
        step!(self);
        self.lose(zone, frames);
        Some(Pfn(area.start().0 + u64::from(index)))
    }

    /// Takes up to `frames` single frames, all of one area, given to `got` by words of it and masks
    /// of them; returns how many came.
    #[inline]
    pub(crate) fn take_singles(
        &self,
        zone: ZoneId,
        mobility: Mobility,
        frames: u32,
        hints: &CpuHints,
        mut got: impl FnMut(AreaRef<'m>, usize, u64),
    ) -> u32 {
        let search = Search::new(zone, Order::ZERO, mobility, hints);
        self.search_small(search, |area, part| {
            let reserved = self.reserve_in(area, zone, 1, frames, part)?;
            step!(self);
            let claimed = area
                .core()
                .claim_singles(reserved, |word, mask| got(area, word, mask));
            step!(self);
            self.lose(zone, claimed);
            if claimed < reserved {
                self.return_reservation(area, reserved - claimed);
            }
            (claimed > 0).then_some(claimed)
        })
        .unwrap_or(0)
    }

    /// Takes up to `blocks` blocks of an order from 1 to 6, all of one area, given to `got` by
    /// their first frames; returns how many came.
    pub(crate) fn take_runs(
        &self,
        zone: ZoneId,
        order: Order,
        mobility: Mobility,
        blocks: u32,
        hints: &CpuHints,
        mut got: impl FnMut(AreaRef<'m>, u32),
    ) -> u32 {
        let frames = order.frames() as u32;
        let search = Search::new(zone, order, mobility, hints);
        self.search_small(search, |area, part| {
            let word = area.core().word_with_run(order)?;
            let reserved = self.reserve_in(area, zone, frames, blocks * frames, part)?;
            step!(self);
            let most = reserved >> order.get();
            let taken = area.core().claim_runs(order, most, word, |word, starts| {
                bits_of(starts).for_each(|bit| got(area, word as u32 * 64 + bit));
            });
            step!(self);
            if taken > 0 {
                self.lose(zone, taken * frames);
            }
            if taken * frames < reserved {
                self.return_reservation(area, reserved - taken * frames);
            }
            (taken > 0).then_some(taken)
        })
        .unwrap_or(0)
    }

    /// Reserves frames of an area that `zone` still has.
    #[inline]
    fn reserve_in(
        &self,
        area: AreaRef<'m>,
        zone: ZoneId,
        least: u32,
        most: u32,
        part: Part,
    ) -> Option<u32> {
        let suits = |state| part == Part::Free || state == State::EMPTY;
        let reserved = area.core().reserve_if(least, most, suits);
        if reserved == 0 {
            return None;
        }
        step!(self);
        // Only now is the zone fixed: between the search's look and the reservation the area may
        // have left and come back in another zone.
        if area.zone() != zone {
            self.return_reservation(area, reserved);
            return None;
        }
        Some(reserved)
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn reserve_for_test(
        &self,
        area: AreaRef<'m>,
        zone: ZoneId,
        frames: u32,
    ) -> Option<u32> {
        self.reserve_in(area, zone, frames, frames, Part::Free)
    }

    /// Gives up a reservation. The zone's counter still has its frames, unless the area was
    /// isolated meanwhile: the isolation took only what it found free.
    pub(crate) fn return_reservation(&self, area: AreaRef<'m>, frames: u32) {
        let zone = area.zone();
        window!(self);
        let before = area.core().unreserve(frames);
        window!(self);
        if Returned::to(before, frames).completes {
            self.zone(zone).wholes.note();
        }
        if before.is_isolated() {
            self.lose(zone, frames);
        }
    }

    /// Takes an order 9: one step on the area's state.
    fn take_area(&self, zone: ZoneId, mobility: Mobility, hints: &CpuHints) -> Option<Pfn> {
        // From a lower area on, so that both halves of a pair go before the next pair.
        let hint = hints.huge.get(zone) & !1;
        let area = self.search_whole(zone, hint, |area, home| {
            let is_kept = home.kind().mobility == Mobility::HighAtomic;
            step!(self);
            if is_kept || !area.core().take() {
                return None;
            }
            step!(self);
            if area.zone() == zone {
                return Some(area);
            }
            self.untake(area);
            None
        })?;
        step!(self);
        self.lose(zone, AREA_FRAMES as u32);
        // For when it is split.
        area.turn_to(Kind::of(mobility, Order::HUGE));
        hints.huge.set(zone, area.index);
        Some(area.start())
    }

    /// Takes an order 10: one step on the state of both areas of a pair.
    fn take_pair(&self, zone: ZoneId, mobility: Mobility, hints: &CpuHints) -> Option<Pfn> {
        let hint = hints.huge.get(zone) & !1;
        let area = self.search_whole(zone, hint, |area, home| {
            let is_lower = area.index % 2 == 0;
            let pair = area.core().pair;
            let is_kept = || {
                let kinds = [home.kind().mobility, area.upper().mobility()];
                kinds.contains(&Mobility::HighAtomic)
            };
            if !is_lower || is_kept() || pair.states() != [State::EMPTY; 2] {
                return None;
            }
            step!(self);
            if !pair.take() {
                return None;
            }
            step!(self);
            if area.zone() == zone && area.upper().zone() == zone {
                return Some(area);
            }
            self.untake(area);
            self.untake(area.upper());
            None
        })?;
        step!(self);
        self.lose(zone, 2 * AREA_FRAMES as u32);
        for area in [area, area.upper()] {
            area.turn_to(Kind::of(mobility, Order::MAX));
        }
        hints.huge.set(zone, area.index);
        Some(area.start())
    }

    /// Gives back an area that turned out to be another zone's; as in `return_reservation`.
    fn untake(&self, area: AreaRef<'m>) {
        let zone = area.zone();
        window!(self);
        let before = area.core().give();
        window!(self);
        self.zone(zone).wholes.note();
        if before.is_some_and(State::is_isolated) {
            self.lose(zone, AREA_FRAMES as u32);
        }
    }

    /// Searches for frames below an order of 9 among areas of the request's kind: first in the one
    /// that gave last, then near it among those in use already, so that whole ones stay whole; then
    /// everywhere, wholly free areas of any kind included; then among areas for other sizes.
    #[inline]
    fn search_small<R>(
        &self,
        search: Search<'_>,
        mut take: impl FnMut(AreaRef<'m>, Part) -> Option<R>,
    ) -> Option<R> {
        let last = search.hints.get(search.zone);
        if let Some(area) = self.books.area(last)
            && Sought::partial(search.least).has(area.core().state())
            && area.home().is_for(search.home())
            && let Some(taken) = take(area, Part::Free)
        {
            return Some(taken);
        }
        self.search_around(search, last + 1, &mut take)
    }

    /// Completes such a search, from an area on.
    #[inline(never)]
    fn search_around<R>(
        &self,
        search: Search<'_>,
        from: u64,
        take: &mut impl FnMut(AreaRef<'m>, Part) -> Option<R>,
    ) -> Option<R> {
        let Search { zone, least, .. } = search;
        let own = search.home();
        let mut whole = None;
        let all = Sought::free(least);
        let found = self.search(zone, from, PARTIAL_WINDOW, all, |area, home, sought| {
            if area.core().state() == State::EMPTY {
                // One that is whole is enough for now: those behind it are not even looked at.
                if home.kind().mobility != Mobility::HighAtomic {
                    whole = Some(area.index);
                    *sought = Sought::partial(least);
                }
                return None;
            }
            if !home.is_for(own) {
                return None;
            }
            let taken = take(area, Part::Free)?;
            search.hints.set(zone, area.index);
            Some(taken)
        });
        // Whatever was seen before the whole one had nothing, or is not of the kind.
        found
            .or_else(|| self.search_for(search, Only::Own, whole.unwrap_or(from), take))
            .or_else(|| self.search_for(search, Only::Kin, from, take))
    }

    /// Goes one round through all areas of a zone.
    fn search_for<R>(
        &self,
        search: Search<'_>,
        only: Only,
        from: u64,
        take: &mut impl FnMut(AreaRef<'m>, Part) -> Option<R>,
    ) -> Option<R> {
        let Search { zone, least, .. } = search;
        let wanted = search.kind;
        self.search(
            zone,
            from,
            u32::MAX,
            Sought::free(least),
            |area, home, _| {
                let kind = home.kind();
                if kind.mobility == Mobility::HighAtomic {
                    return None;
                }
                let is_own = kind == wanted;
                let is_kin = kind.mobility == wanted.mobility;
                let part = match only {
                    Only::Own if is_own => Part::Free,
                    Only::Own if area.core().state() == State::EMPTY => Part::First,
                    Only::Kin if is_kin && !is_own => Part::Free,
                    Only::Foreign if !is_kin => Part::Free,
                    _ => return None,
                };
                let taken = take(area, part)?;
                step!(self);
                if part == Part::First {
                    area.turn_to(wanted);
                }
                if only == Only::Own {
                    search.hints.set(zone, area.index);
                }
                Some(taken)
            },
        )
    }

    /// Goes through the areas of a zone that are in a state looked for, from `hint` on, once round,
    /// and no further than `window` areas. A visit is told the area's home, and may change what is
    /// looked for from there on.
    pub(crate) fn search<R>(
        &self,
        zone: ZoneId,
        hint: u64,
        window: u32,
        mut sought: Sought,
        mut visit: impl FnMut(AreaRef<'m>, Home, &mut Sought) -> Option<R>,
    ) -> Option<R> {
        let (first, end) = self.zone(zone).span();
        let start = if (first..end).contains(&hint) {
            hint
        } else {
            first
        };
        let mut left = u64::from(window);
        for (from, to) in [(start, end), (first, start)] {
            let mut index = from;
            while index < to && left > 0 {
                step!(self);
                let next_block = (index | (BLOCK_AREAS as u64 - 1)) + 1;
                let Some(mut area) = self.books.area(index) else {
                    // A block without books: on to the next one.
                    index = next_block;
                    continue;
                };
                let stop = next_block.min(to).min(index.saturating_add(left));
                left -= stop - index;
                while let Some(seen) = area.first_seen(stop, sought) {
                    let home = seen.home();
                    if home.zone() == zone
                        && let Some(found) = visit(seen, home, &mut sought)
                    {
                        return Some(found);
                    }
                    area.index = seen.index + 1;
                }
                index = stop;
            }
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
#[path = "search_tests.rs"]
mod tests;

#[cfg(all(test, not(loom)))]
#[path = "search_whose_tests.rs"]
mod whose_tests;
