//! The search of a zone for a pageblock that has what a request needs.

use crate::{
    base::{
        platform::{Platform, step, window},
        types::{Order, Pfn, ZoneId},
    },
    pageblock::{
        bits::{State, StateFilter},
        flags::PageblockFlags,
        migrate_type::{MigrateType, PageblockKind},
        section_meta::{PAGEBLOCK_FRAMES, PageblockRef, SECTION_PAGEBLOCKS, bits_of},
    },
    zone::{
        Zones,
        counter::Returned,
        hints::{CpuHints, Hints},
    },
};

/// Pageblocks among which a search looks for one in use, before it takes from a wholly free one.
const PARTIAL_WINDOW: u32 = 512;

/// A search of orders 0 to 8.
#[derive(Clone, Copy)]
struct Search<'c> {
    zone: ZoneId,
    /// The kind of the request.
    kind: PageblockKind,
    /// Pageblocks with fewer frames free are passed over.
    least: u32,
    hints: &'c Hints,
}

impl<'c> Search<'c> {
    #[inline]
    fn new(zone: ZoneId, order: Order, migrate_type: MigrateType, hints: &'c CpuHints) -> Self {
        let kind = PageblockKind::of(migrate_type, order);
        Self {
            zone,
            kind,
            least: order.frames() as u32,
            hints: &hints.small[kind.migrate_type as usize][kind.size as usize],
        }
    }

    /// Returns the flags of the zone's pageblocks of the request's kind.
    #[inline]
    fn flags(self) -> PageblockFlags {
        PageblockFlags::new(self.zone, self.kind)
    }
}

/// From which pageblocks a search takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SearchScope {
    /// Pageblocks of its kind, and wholly free ones of any kind.
    Own,
    /// Pageblocks of its migrate type, but of other size classes.
    OtherSizes,
    /// Pageblocks of the other migrate type.
    Foreign,
}

/// What a search takes of a pageblock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Any free frames.
    Free,
    /// The first frames: the pageblock changes its kind, and must be wholly free when they are
    /// reserved.
    First,
}

impl<'m, P: Platform> Zones<'m, P> {
    /// Takes a block from a zone's pageblocks, without a test of the watermarks. `hints` are those
    /// of the CPU that runs this.
    #[doc(alias = "__rmqueue")]
    pub(crate) fn take_from_zone(
        &self,
        zone: ZoneId,
        order: Order,
        migrate_type: MigrateType,
        hints: &CpuHints,
    ) -> Option<Pfn> {
        if self.zone(zone).free() < order.frames() {
            return None;
        }
        match order {
            Order::MAX => self.take_pair(zone, migrate_type, hints),
            Order::HUGE => self.take_pageblock(zone, migrate_type, hints),
            _ => {
                let search = Search::new(zone, order, migrate_type, hints);
                self.search_small(search, |pageblock, part| {
                    self.take_run(pageblock, zone, order, part)
                })
            }
        }
    }

    /// Takes a block of orders 0 to 8, from pageblocks of another kind than `migrate_type`.
    pub(crate) fn take_foreign(
        &self,
        zone: ZoneId,
        order: Order,
        migrate_type: MigrateType,
        hints: &CpuHints,
    ) -> Option<Pfn> {
        if self.zone(zone).free() < order.frames() {
            return None;
        }
        let search = Search::new(zone, order, migrate_type, hints);
        let from = search.hints.get(zone);
        self.search_for(
            search,
            SearchScope::Foreign,
            from,
            &mut |pageblock, part| {
                let taken = self.take_run(pageblock, zone, order, part)?;
                self.convert(pageblock, search.kind);
                Some(taken)
            },
        )
    }

    /// Changes a pageblock's kind, if at least half of it is free after a steal.
    pub(crate) fn convert(&self, pageblock: PageblockRef<'m>, kind: PageblockKind) {
        if pageblock.core().state().free() as usize >= PAGEBLOCK_FRAMES / 2 {
            pageblock.turn_to(kind);
        }
    }

    /// Takes a block of order 0 to 8 from one pageblock.
    pub(crate) fn take_run(
        &self,
        pageblock: PageblockRef<'m>,
        zone: ZoneId,
        order: Order,
        part: Part,
    ) -> Option<Pfn> {
        let frames = order.frames() as u32;
        let word = match order {
            Order::ZERO => 0,
            _ => pageblock.core().word_with_run(order)?,
        };
        step!(self);
        self.reserve_in(pageblock, zone, frames, frames, part)?;
        step!(self);
        let Some(index) = pageblock.core().claim_from(order, word) else {
            self.return_reservation(pageblock, frames);
            return None;
        };
        step!(self);
        self.lose(zone, frames);
        Some(Pfn(pageblock.start().0 + u64::from(index)))
    }

    /// Takes up to `frames` single frames, all of one pageblock. Calls `got` with the pageblock,
    /// the index of each word, and the mask of the frames taken in it. Returns how many it took.
    #[inline]
    pub(crate) fn take_singles(
        &self,
        zone: ZoneId,
        migrate_type: MigrateType,
        frames: u32,
        hints: &CpuHints,
        mut got: impl FnMut(PageblockRef<'m>, usize, u64),
    ) -> u32 {
        let search = Search::new(zone, Order::ZERO, migrate_type, hints);
        self.search_small(search, |pageblock, part| {
            let reserved = self.reserve_in(pageblock, zone, 1, frames, part)?;
            step!(self);
            let claimed = pageblock
                .core()
                .claim_singles(reserved, |word, mask| got(pageblock, word, mask));
            step!(self);
            self.lose(zone, claimed);
            if claimed < reserved {
                self.return_reservation(pageblock, reserved - claimed);
            }
            (claimed > 0).then_some(claimed)
        })
        .unwrap_or(0)
    }

    /// Takes up to `blocks` blocks of an order from 1 to 6, all of one pageblock. Calls `got` with
    /// the pageblock and the index of each block's first frame. Returns how many it took.
    pub(crate) fn take_runs(
        &self,
        zone: ZoneId,
        order: Order,
        migrate_type: MigrateType,
        blocks: u32,
        hints: &CpuHints,
        mut got: impl FnMut(PageblockRef<'m>, u32),
    ) -> u32 {
        let frames = order.frames() as u32;
        let search = Search::new(zone, order, migrate_type, hints);
        self.search_small(search, |pageblock, part| {
            let word = pageblock.core().word_with_run(order)?;
            let reserved = self.reserve_in(pageblock, zone, frames, blocks * frames, part)?;
            step!(self);
            let most = reserved >> order.get();
            let taken = pageblock
                .core()
                .claim_runs(order, most, word, |word, starts| {
                    bits_of(starts).for_each(|bit| got(pageblock, word as u32 * 64 + bit));
                });
            step!(self);
            if taken > 0 {
                self.lose(zone, taken * frames);
            }
            if taken * frames < reserved {
                self.return_reservation(pageblock, reserved - taken * frames);
            }
            (taken > 0).then_some(taken)
        })
        .unwrap_or(0)
    }

    /// Reserves frames of a pageblock, if it still is in `zone`.
    #[inline]
    fn reserve_in(
        &self,
        pageblock: PageblockRef<'m>,
        zone: ZoneId,
        least: u32,
        most: u32,
        part: Part,
    ) -> Option<u32> {
        let suits = |state| part == Part::Free || state == State::EMPTY;
        let reserved = pageblock.core().reserve_if(least, most, suits);
        if reserved == 0 {
            return None;
        }
        step!(self);
        // The zone is fixed only now: before, the pageblock may have joined another zone.
        if pageblock.zone() != zone {
            self.return_reservation(pageblock, reserved);
            return None;
        }
        Some(reserved)
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn reserve_for_test(
        &self,
        pageblock: PageblockRef<'m>,
        zone: ZoneId,
        frames: u32,
    ) -> Option<u32> {
        self.reserve_in(pageblock, zone, frames, frames, Part::Free)
    }

    /// Gives up a reservation. The zone's counter still has the frames. If the pageblock was
    /// isolated meanwhile, they are subtracted here: the isolation subtracted only the frames that
    /// it found free.
    pub(crate) fn return_reservation(&self, pageblock: PageblockRef<'m>, frames: u32) {
        let zone = pageblock.zone();
        window!(self);
        let before = pageblock.core().unreserve(frames);
        window!(self);
        if Returned::to(before, frames).completes {
            self.zone(zone).free_huge.note();
        }
        if before.is_isolated() {
            self.lose(zone, frames);
        }
    }

    /// Takes an order 9 by one step on the pageblock's state.
    fn take_pageblock(
        &self,
        zone: ZoneId,
        migrate_type: MigrateType,
        hints: &CpuHints,
    ) -> Option<Pfn> {
        // The search begins at a lower pageblock, so that a pair is taken before the next one.
        let hint = hints.huge.get(zone) & !1;
        let pageblock = self.search_huge(zone, hint, |pageblock, flags| {
            let is_kept = flags.kind().migrate_type == MigrateType::HighAtomic;
            step!(self);
            if is_kept || !pageblock.core().take() {
                return None;
            }
            step!(self);
            if pageblock.zone() == zone {
                return Some(pageblock);
            }
            self.untake(pageblock);
            None
        })?;
        step!(self);
        self.lose(zone, PAGEBLOCK_FRAMES as u32);
        // The kind matters if the block is split.
        pageblock.turn_to(PageblockKind::of(migrate_type, Order::HUGE));
        hints.huge.set(zone, pageblock.index);
        Some(pageblock.start())
    }

    /// Takes an order 10 by one step on the states of both pageblocks of a pair.
    fn take_pair(&self, zone: ZoneId, migrate_type: MigrateType, hints: &CpuHints) -> Option<Pfn> {
        let hint = hints.huge.get(zone) & !1;
        let pageblock = self.search_huge(zone, hint, |pageblock, flags| {
            let is_lower = pageblock.index % 2 == 0;
            let pair = pageblock.core().pair;
            let is_kept = || {
                let kinds = [flags.kind().migrate_type, pageblock.upper().migrate_type()];
                kinds.contains(&MigrateType::HighAtomic)
            };
            if !is_lower || is_kept() || pair.states() != [State::EMPTY; 2] {
                return None;
            }
            step!(self);
            if !pair.take() {
                return None;
            }
            step!(self);
            if pageblock.zone() == zone && pageblock.upper().zone() == zone {
                return Some(pageblock);
            }
            self.untake(pageblock);
            self.untake(pageblock.upper());
            None
        })?;
        step!(self);
        self.lose(zone, 2 * PAGEBLOCK_FRAMES as u32);
        for pageblock in [pageblock, pageblock.upper()] {
            pageblock.turn_to(PageblockKind::of(migrate_type, Order::MAX));
        }
        hints.huge.set(zone, pageblock.index);
        Some(pageblock.start())
    }

    /// Gives back a pageblock that turned out to be in another zone. That zone's counter is
    /// corrected as in `return_reservation`.
    fn untake(&self, pageblock: PageblockRef<'m>) {
        let zone = pageblock.zone();
        window!(self);
        let before = pageblock.core().give();
        window!(self);
        self.zone(zone).free_huge.note();
        if before.is_some_and(State::is_isolated) {
            self.lose(zone, PAGEBLOCK_FRAMES as u32);
        }
    }

    /// Searches for orders 0 to 8 in pageblocks of the request's kind. It begins with the one that
    /// gave last, then looks near it among those in use already, so that wholly free ones stay
    /// whole. Then it looks everywhere, also in wholly free pageblocks of any kind, and at last in
    /// pageblocks of other size classes.
    #[inline]
    fn search_small<R>(
        &self,
        search: Search<'_>,
        mut take: impl FnMut(PageblockRef<'m>, Part) -> Option<R>,
    ) -> Option<R> {
        let last = search.hints.get(search.zone);
        if let Some(pageblock) = self.books.pageblock(last)
            && StateFilter::partial(search.least).has(pageblock.core().state())
            && pageblock.flags().is_for(search.flags())
            && let Some(taken) = take(pageblock, Part::Free)
        {
            return Some(taken);
        }
        self.search_around(search, last + 1, &mut take)
    }

    /// Completes [`Zones::search_small`] after the hint, from the pageblock `from` on.
    #[inline(never)]
    fn search_around<R>(
        &self,
        search: Search<'_>,
        from: u64,
        take: &mut impl FnMut(PageblockRef<'m>, Part) -> Option<R>,
    ) -> Option<R> {
        let Search { zone, least, .. } = search;
        let own = search.flags();
        let mut whole = None;
        let all = StateFilter::free(least);
        let found = self.search(
            zone,
            from,
            PARTIAL_WINDOW,
            all,
            |pageblock, flags, filter| {
                if pageblock.core().state() == State::EMPTY {
                    // One wholly free pageblock is enough, so the filter passes over those behind
                    // it.
                    if flags.kind().migrate_type != MigrateType::HighAtomic {
                        whole = Some(pageblock.index);
                        *filter = StateFilter::partial(least);
                    }
                    return None;
                }
                if !flags.is_for(own) {
                    return None;
                }
                let taken = take(pageblock, Part::Free)?;
                search.hints.set(zone, pageblock.index);
                Some(taken)
            },
        );
        // The pageblocks before the wholly free one had nothing, or are of another kind.
        found
            .or_else(|| self.search_for(search, SearchScope::Own, whole.unwrap_or(from), take))
            .or_else(|| self.search_for(search, SearchScope::OtherSizes, from, take))
    }

    /// Searches all pageblocks of a zone in this scope, once round.
    fn search_for<R>(
        &self,
        search: Search<'_>,
        scope: SearchScope,
        from: u64,
        take: &mut impl FnMut(PageblockRef<'m>, Part) -> Option<R>,
    ) -> Option<R> {
        let Search { zone, .. } = search;
        let wanted = search.kind;
        let filter = StateFilter::free(search.least);
        self.search(zone, from, u32::MAX, filter, |pageblock, flags, _| {
            let kind = flags.kind();
            if kind.migrate_type == MigrateType::HighAtomic {
                return None;
            }
            let is_own = kind == wanted;
            let is_same_type = kind.migrate_type == wanted.migrate_type;
            let part = match scope {
                SearchScope::Own if is_own => Part::Free,
                SearchScope::Own if pageblock.core().state() == State::EMPTY => Part::First,
                SearchScope::OtherSizes if is_same_type && !is_own => Part::Free,
                SearchScope::Foreign if !is_same_type => Part::Free,
                _ => return None,
            };
            let taken = take(pageblock, part)?;
            step!(self);
            if part == Part::First {
                pageblock.turn_to(wanted);
            }
            if scope == SearchScope::Own {
                search.hints.set(zone, pageblock.index);
            }
            Some(taken)
        })
    }

    /// Visits the pageblocks of a zone with a state that the filter looks for, from `hint` on, once
    /// round, and no further than `window` pageblocks. A visit gets the pageblock's flags, and may
    /// change the filter for the pageblocks behind it. The search ends when a visit returns
    /// something.
    pub(crate) fn search<R>(
        &self,
        zone: ZoneId,
        hint: u64,
        window: u32,
        mut filter: StateFilter,
        mut visit: impl FnMut(PageblockRef<'m>, PageblockFlags, &mut StateFilter) -> Option<R>,
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
                let next_section = (index | (SECTION_PAGEBLOCKS as u64 - 1)) + 1;
                let Some(mut pageblock) = self.books.pageblock(index) else {
                    // The section has no books: go on to the next one.
                    index = next_section;
                    continue;
                };
                let stop = next_section.min(to).min(index.saturating_add(left));
                left -= stop - index;
                while let Some(seen) = pageblock.first_seen(stop, filter) {
                    let flags = seen.flags();
                    if flags.zone() == zone
                        && let Some(found) = visit(seen, flags, &mut filter)
                    {
                        return Some(found);
                    }
                    pageblock.index = seen.index + 1;
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
