//! The search of a zone for an area that can give.

use crate::{
    CpuCaches, Frames, Order, Pfn, Platform, ZoneId,
    area::{Sought, State},
    memory::{AREA_FRAMES, AreaRef, BLOCK_AREAS, bits_of},
    mobility::{Kind, Mobility},
    platform::step,
};
use core::array;
use tidemark_sync::atomic::{AtomicU32, Ordering};

/// Areas that a search for single frames looks at in the hope of one that is in use already, before
/// it breaks into a whole one.
const PARTIAL_WINDOW: u32 = 512;

/// Where a CPU's searches of a zone begin: the area that gave last. Own CPU only; a stale value
/// costs time, nothing else.
#[derive(Debug)]
pub(crate) struct Hints([AtomicU32; crate::MAX_ZONES]);

impl Hints {
    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| AtomicU32::new(0)))
    }

    fn get(&self, zone: ZoneId) -> u64 {
        u64::from(self.0[zone.index()].load(Ordering::Relaxed))
    }

    fn set(&self, zone: ZoneId, area: u64) {
        self.0[zone.index()].store(area as u32, Ordering::Relaxed);
    }
}

/// Which areas a search takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Only {
    /// Those of the request's kind with some frames in use already.
    Partial,
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

impl<'m, P: Platform> Frames<'m, P> {
    /// Takes a block from a zone's areas, whatever the marks. Pinned on the CPU of `cpu`.
    pub(crate) fn take_from_zone(
        &self,
        zone: ZoneId,
        order: Order,
        mobility: Mobility,
        cpu: &CpuCaches,
    ) -> Option<Pfn> {
        if self.zone(zone).free() < order.frames() {
            return None;
        }
        match order {
            Order::MAX => self.take_pair(zone, mobility, cpu),
            Order::HUGE => self.take_area(zone, mobility, cpu),
            _ => {
                let least = order.frames() as u32;
                let kind = Kind::of(mobility, order);
                self.search_small(zone, kind, cpu, least, |area, part| {
                    self.take_run(area, zone, order, part)
                })
            }
        }
    }

    /// The same for orders 0 to 8, from areas of another kind than `mobility`.
    pub(crate) fn take_foreign(
        &self,
        zone: ZoneId,
        order: Order,
        mobility: Mobility,
        cpu: &CpuCaches,
    ) -> Option<Pfn> {
        if self.zone(zone).free() < order.frames() {
            return None;
        }
        let only = (Only::Foreign, u32::MAX);
        let kind = Kind::of(mobility, order);
        let least = order.frames() as u32;
        self.search_of(zone, kind, cpu, only, least, &mut |area, part| {
            let taken = self.take_run(area, zone, order, part)?;
            self.convert(area, kind);
            Some(taken)
        })
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
        if matches!(order.get(), 1..=6) && !area.core().has_run(order) {
            return None;
        }
        self.reserve_in(area, zone, frames, frames, part)?;
        step!(self);
        let Some(index) = area.core().claim(order) else {
            self.return_reservation(area, frames);
            return None;
        };
        step!(self);
        self.lose(zone, frames);
        Some(Pfn(area.start().0 + u64::from(index)))
    }

    /// Up to `frames` single frames, all of one area, given to `got` by words of it and masks of
    /// them; returns how many came.
    #[inline]
    pub(crate) fn take_singles(
        &self,
        zone: ZoneId,
        mobility: Mobility,
        frames: u32,
        cpu: &CpuCaches,
        mut got: impl FnMut(AreaRef<'m>, usize, u64),
    ) -> u32 {
        let kind = Kind::of(mobility, Order::ZERO);
        self.search_small(zone, kind, cpu, 1, |area, part| {
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

    /// Up to `blocks` blocks of an order from 1 to 6, all of one word, given to `got` by their first
    /// frames; returns how many came.
    pub(crate) fn take_runs(
        &self,
        zone: ZoneId,
        order: Order,
        mobility: Mobility,
        blocks: u32,
        cpu: &CpuCaches,
        mut got: impl FnMut(AreaRef<'m>, u32),
    ) -> u32 {
        let frames = order.frames() as u32;
        let kind = Kind::of(mobility, order);
        self.search_small(zone, kind, cpu, frames, |area, part| {
            if !area.core().has_run(order) {
                return None;
            }
            let reserved = self.reserve_in(area, zone, frames, blocks * frames, part)?;
            let claimed = area.core().claim_runs(order, reserved >> order.get());
            let (word, starts) = claimed.unwrap_or_default();
            let taken = starts.count_ones();
            if taken > 0 {
                self.lose(zone, taken * frames);
                bits_of(starts).for_each(|bit| got(area, word as u32 * 64 + bit));
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
    fn return_reservation(&self, area: AreaRef<'m>, frames: u32) {
        let zone = area.zone();
        if area.core().unreserve(frames).is_isolated() {
            self.lose(zone, frames);
        }
    }

    /// Order 9: one step on the area's state.
    fn take_area(&self, zone: ZoneId, mobility: Mobility, cpu: &CpuCaches) -> Option<Pfn> {
        let hint = cpu.huge_hints.get(zone);
        let area = self.search(zone, hint, u32::MAX, Sought::EMPTY, |area| {
            let is_kept = area.mobility() == Mobility::HighAtomic;
            if is_kept || !area.core().take() {
                return None;
            }
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
        cpu.huge_hints.set(zone, area.index);
        Some(area.start())
    }

    /// Order 10: one step on the state of both areas of a pair.
    fn take_pair(&self, zone: ZoneId, mobility: Mobility, cpu: &CpuCaches) -> Option<Pfn> {
        let hint = cpu.huge_hints.get(zone);
        let area = self.search(zone, hint, u32::MAX, Sought::EMPTY, |area| {
            let is_lower = area.index % 2 == 0;
            let pair = area.core().pair;
            let is_kept = || {
                let kinds = [area.mobility(), area.upper().mobility()];
                kinds.contains(&Mobility::HighAtomic)
            };
            if !is_lower || is_kept() || pair.states() != [State::EMPTY; 2] || !pair.take() {
                return None;
            }
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
        cpu.huge_hints.set(zone, area.index);
        Some(area.start())
    }

    /// Gives back an area that turned out to be another zone's; as in `return_reservation`.
    fn untake(&self, area: AreaRef<'m>) {
        let zone = area.zone();
        if area.core().give().is_some_and(State::is_isolated) {
            self.lose(zone, AREA_FRAMES as u32);
        }
    }

    /// Searches for frames below an order of 9 among areas of the request's kind: first near the
    /// last one that gave, among those in use already, so that whole ones stay whole; then
    /// everywhere, wholly free areas of any kind included; then among areas for other sizes. Areas
    /// with fewer than `least` frames free are passed over.
    fn search_small<R>(
        &self,
        zone: ZoneId,
        kind: Kind,
        cpu: &CpuCaches,
        least: u32,
        mut take: impl FnMut(AreaRef<'m>, Part) -> Option<R>,
    ) -> Option<R> {
        [
            (Only::Partial, PARTIAL_WINDOW),
            (Only::Own, u32::MAX),
            (Only::Kin, u32::MAX),
        ]
        .into_iter()
        .find_map(|only| self.search_of(zone, kind, cpu, only, least, &mut take))
    }

    /// One such search, through a window of areas.
    fn search_of<R>(
        &self,
        zone: ZoneId,
        wanted: Kind,
        cpu: &CpuCaches,
        (only, window): (Only, u32),
        least: u32,
        take: &mut impl FnMut(AreaRef<'m>, Part) -> Option<R>,
    ) -> Option<R> {
        let hints = &cpu.hints[wanted.mobility as usize][wanted.size as usize];
        let sought = match only {
            Only::Partial => Sought::partial(least),
            _ => Sought::free(least),
        };
        self.search(zone, hints.get(zone), window, sought, |area| {
            let state = area.core().state();
            let kind = area.kind();
            if kind.mobility == Mobility::HighAtomic {
                return None;
            }
            let is_own = kind == wanted;
            let is_kin = kind.mobility == wanted.mobility;
            let part = match only {
                Only::Partial if !is_own || state == State::EMPTY => return None,
                Only::Own if !is_own && state != State::EMPTY => return None,
                Only::Own if !is_own => Part::First,
                Only::Kin if is_own || !is_kin => return None,
                Only::Foreign if is_kin => return None,
                _ => Part::Free,
            };
            let taken = take(area, part)?;
            if part == Part::First {
                area.turn_to(wanted);
            }
            if matches!(only, Only::Partial | Only::Own) {
                hints.set(zone, area.index);
            }
            Some(taken)
        })
    }

    /// Goes through the areas of a zone that are in a state looked for, from `hint` on, once round,
    /// and no further than `window` areas.
    pub(crate) fn search<R>(
        &self,
        zone: ZoneId,
        hint: u64,
        window: u32,
        sought: Sought,
        mut visit: impl FnMut(AreaRef<'m>) -> Option<R>,
    ) -> Option<R> {
        let (first, end) = self.zone(zone).span();
        let start = if (first..end).contains(&hint) {
            hint & !1
        } else {
            first
        };
        let mut left = u64::from(window);
        for (from, to) in [(start, end), (first, start)] {
            let mut index = from;
            while index < to && left > 0 {
                let next_block = (index | (BLOCK_AREAS as u64 - 1)) + 1;
                let Some(mut area) = self.area(index) else {
                    // A block without books: on to the next one.
                    index = next_block;
                    continue;
                };
                let stop = next_block.min(to).min(index.saturating_add(left));
                left -= stop - index;
                while let Some(seen) = area.first_seen(stop, sought) {
                    if seen.zone() == zone
                        && let Some(found) = visit(seen)
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
