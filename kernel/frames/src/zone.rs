//! Zones: free counters, marks, reserves, and the search for an area that can give.

use crate::{
    CpuCaches, Frames, Gfp, Order, Pfn, Platform, ZoneId, ZoneKind,
    area::State,
    memory::{AREA_FRAMES, AreaRef, BLOCK_AREAS},
};
use core::array;
use tidemark_sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// Areas that a search for single frames looks at in the hope of one that is in use already, before
/// it breaks into a whole one.
const PARTIAL_WINDOW: u32 = 64;

/// One zone's counters and marks. Atomics only: zeroed memory is a valid value.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Zone {
    free: FreeCount,
    /// Marks, reserves, sizes: written under the hot-plug lock, read by anybody. A reader may see
    /// some of them before and some after a change; each is a policy number that is sane by itself.
    min: AtomicU64,
    low: AtomicU64,
    high: AtomicU64,
    reserve: [AtomicU64; 4],
    managed: AtomicU64,
    present: AtomicU64,
    /// Indices of the first area and of the one after the last, holes included; grows only.
    first_area: AtomicU64,
    end_area: AtomicU64,
    /// Offlines under way that keep the caches away from the zone.
    caches_off: AtomicU32,
    cache_high: AtomicU32,
    cache_batch: AtomicU32,
}

/// Free frames, on a line of its own: every allocation and free that passes the caches writes it.
/// Exact at rest: each change of an area's count knows by the same step whether the area was
/// isolated, hence whether this counter had its frames. It may be below zero for a moment.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct FreeCount(AtomicI64);

/// The marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Min,
    Low,
    High,
}

/// How far down a request may take a zone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) mark: Mark,
    pub(crate) reserves: Reserves,
    /// Highest zone of the request: lower ones keep a reserve from it.
    pub(crate) highest: ZoneKind,
}

/// The part of MIN that a request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserves {
    /// None of it.
    None,
    /// Half: HIGH.
    Half,
    /// Five eighths: HIGH that cannot block.
    Most,
    /// All of it, and the lowmem reserves: MEMALLOC.
    All,
}

impl Reserves {
    /// What the flags permit. Fast path and slow path differ in the mark only.
    pub(crate) const fn of(gfp: Gfp) -> Self {
        match (gfp.contains(Gfp::HIGH), gfp.contains(Gfp::DIRECT_RECLAIM)) {
            (false, _) => Self::None,
            (true, true) => Self::Half,
            (true, false) => Self::Most,
        }
    }
}

impl Zone {
    /// Returns an empty zone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Free frames, at least 0.
    #[inline]
    pub(crate) fn free(&self) -> u64 {
        self.free.0.load(Ordering::Relaxed).max(0) as u64
    }

    pub(crate) fn free_exact(&self) -> i64 {
        self.free.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn gain(&self, frames: u32) {
        self.free.0.fetch_add(i64::from(frames), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn lose(&self, frames: u32) {
        self.free.0.fetch_sub(i64::from(frames), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn mark(&self, mark: Mark) -> u64 {
        match mark {
            Mark::Min => &self.min,
            Mark::Low => &self.low,
            Mark::High => &self.high,
        }
        .load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn reserve(&self, highest: ZoneKind) -> u64 {
        self.reserve[highest as usize].load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn managed(&self) -> u64 {
        self.managed.load(Ordering::Relaxed)
    }

    pub(crate) fn present(&self) -> u64 {
        self.present.load(Ordering::Relaxed)
    }

    pub(crate) fn is_populated(&self) -> bool {
        self.managed() > 0
    }

    /// Whether a request of this order leaves the zone above its mark.
    #[inline]
    pub(crate) fn mark_ok(&self, order: Order, access: Access) -> bool {
        self.mark_ok_with(self.free(), order, access)
    }

    /// The same, if `free` frames were free.
    #[inline]
    pub(crate) fn mark_ok_with(&self, free: u64, order: Order, access: Access) -> bool {
        match access.reserves {
            Reserves::All => free >= order.frames(),
            _ => free > self.kept(access) + (order.frames() - 1),
        }
    }

    /// Frames that the zone keeps from a request, 0 if it may use everything.
    #[inline]
    fn kept(&self, access: Access) -> u64 {
        let mark = self.mark(access.mark);
        let mark = match access.reserves {
            Reserves::None => mark,
            Reserves::Half => mark - mark / 2,
            Reserves::Most => {
                let half = mark - mark / 2;
                half - half / 4
            }
            Reserves::All => return 0,
        };
        mark + self.reserve(access.highest)
    }

    /// Single frames that a request may take before the zone is at its mark.
    pub(crate) fn above(&self, access: Access) -> u64 {
        self.free().saturating_sub(self.kept(access))
    }

    #[inline]
    pub(crate) fn caches_are_off(&self) -> bool {
        self.caches_off.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn turn_caches_off(&self) {
        self.caches_off.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn turn_caches_on(&self) {
        self.caches_off.fetch_sub(1, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn cache_high(&self) -> u32 {
        self.cache_high.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn cache_batch(&self) -> u32 {
        self.cache_batch.load(Ordering::Relaxed)
    }

    /// Indices of the first area and of the one after the last.
    pub(crate) fn span(&self) -> (u64, u64) {
        (
            self.first_area.load(Ordering::Relaxed),
            self.end_area.load(Ordering::Relaxed),
        )
    }

    /// Makes the span cover the areas from `first` up to `end`. Under the hot-plug lock.
    pub(crate) fn cover(&self, first: u64, end: u64) {
        let (old_first, old_end) = self.span();
        let is_new = old_first == old_end;
        if is_new || first < old_first {
            self.first_area.store(first, Ordering::Relaxed);
        }
        if is_new || end > old_end {
            self.end_area.store(end, Ordering::Relaxed);
        }
    }

    /// Counts frames that came. Under the hot-plug lock.
    pub(crate) fn grow(&self, frames: u64) {
        self.managed.fetch_add(frames, Ordering::Relaxed);
        self.present.fetch_add(frames, Ordering::Relaxed);
    }

    /// Counts frames that left. Under the hot-plug lock.
    pub(crate) fn shrink(&self, frames: u64) {
        self.managed.fetch_sub(frames, Ordering::Relaxed);
        self.present.fetch_sub(frames, Ordering::Relaxed);
    }

    /// Stores new marks, reserves and cache sizes. Under the hot-plug lock.
    pub(crate) fn set_policy(&self, policy: &Policy) {
        self.min.store(policy.marks.min, Ordering::Relaxed);
        self.low.store(policy.marks.low, Ordering::Relaxed);
        self.high.store(policy.marks.high, Ordering::Relaxed);
        for (ours, new) in self.reserve.iter().zip(policy.reserve) {
            ours.store(new, Ordering::Relaxed);
        }
        self.cache_batch.store(policy.batch, Ordering::Relaxed);
        self.cache_high.store(policy.cache_high, Ordering::Relaxed);
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy {
            marks: crate::marks::Marks {
                min: self.mark(Mark::Min),
                low: self.mark(Mark::Low),
                high: self.mark(Mark::High),
            },
            reserve: ZoneKind::ALL.map(|kind| self.reserve(kind)),
            batch: self.cache_batch(),
            cache_high: self.cache_high(),
        }
    }
}

/// What a zone's size decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) marks: crate::marks::Marks,
    pub(crate) reserve: [u64; 4],
    pub(crate) batch: u32,
    pub(crate) cache_high: u32,
}

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
    /// Those with some frames in use already.
    Partial,
    Any,
}

impl<'m, P: Platform> Frames<'m, P> {
    #[inline]
    pub(crate) fn zone(&self, zone: ZoneId) -> &'m Zone {
        &self.storage.zones[zone.index()]
    }

    /// Takes a block from a zone's areas, whatever the marks. Pinned on the CPU of `cpu`.
    pub(crate) fn take_from_zone(
        &self,
        zone: ZoneId,
        order: Order,
        cpu: &CpuCaches,
    ) -> Option<Pfn> {
        if self.zone(zone).free() < order.frames() {
            return None;
        }
        match order {
            Order::MAX => self.take_pair(zone, cpu),
            Order::HUGE => self.take_area(zone, cpu),
            _ => self.take_run(zone, order, cpu),
        }
    }

    /// Orders 0 to 8.
    fn take_run(&self, zone: ZoneId, order: Order, cpu: &CpuCaches) -> Option<Pfn> {
        let frames = order.frames() as u32;
        self.search_small(zone, cpu, |area| {
            self.reserve_in(area, zone, frames, frames)?;
            let Some(index) = area.core().claim(order) else {
                self.return_reservation(area, frames);
                return None;
            };
            self.zone(zone).lose(frames);
            Some(Pfn(area.start().0 + u64::from(index)))
        })
    }

    /// Up to `frames` single frames, all of one area, given to `got`; returns how many came.
    pub(crate) fn take_singles(
        &self,
        zone: ZoneId,
        frames: u32,
        cpu: &CpuCaches,
        mut got: impl FnMut(AreaRef<'m>, u32),
    ) -> u32 {
        self.search_small(zone, cpu, |area| {
            let reserved = self.reserve_in(area, zone, 1, frames)?;
            let claimed = area.core().claim_singles(reserved, |word, mut mask| {
                while mask != 0 {
                    got(area, word as u32 * 64 + mask.trailing_zeros());
                    mask &= mask - 1;
                }
            });
            self.zone(zone).lose(claimed);
            if claimed < reserved {
                self.return_reservation(area, reserved - claimed);
            }
            (claimed > 0).then_some(claimed)
        })
        .unwrap_or(0)
    }

    /// Reserves frames of an area that `zone` still has.
    #[inline]
    fn reserve_in(&self, area: AreaRef<'m>, zone: ZoneId, least: u32, most: u32) -> Option<u32> {
        let reserved = area.core().reserve(least, most);
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
        self.reserve_in(area, zone, frames, frames)
    }

    /// Gives up a reservation. The zone's counter still has its frames, unless the area was
    /// isolated meanwhile: the isolation took only what it found free.
    fn return_reservation(&self, area: AreaRef<'m>, frames: u32) {
        let zone = area.zone();
        if area.core().unreserve(frames).is_isolated() {
            self.zone(zone).lose(frames);
        }
    }

    /// Order 9: one step on the area's state.
    fn take_area(&self, zone: ZoneId, cpu: &CpuCaches) -> Option<Pfn> {
        let area = self.search(zone, cpu.huge_hints.get(zone), u32::MAX, |area| {
            if area.core().state() != State::EMPTY || !area.core().take() {
                return None;
            }
            if area.zone() == zone {
                return Some(area);
            }
            self.untake(area);
            None
        })?;
        self.zone(zone).lose(AREA_FRAMES as u32);
        cpu.huge_hints.set(zone, area.index);
        Some(area.start())
    }

    /// Order 10: one step on the state of both areas of a pair.
    fn take_pair(&self, zone: ZoneId, cpu: &CpuCaches) -> Option<Pfn> {
        let hint = cpu.huge_hints.get(zone);
        let area = self.search(zone, hint, u32::MAX, |area| {
            let is_lower = area.index % 2 == 0;
            let pair = area.core().pair;
            if !is_lower || pair.states() != [State::EMPTY; 2] || !pair.take() {
                return None;
            }
            if area.zone() == zone && area.upper().zone() == zone {
                return Some(area);
            }
            self.untake(area);
            self.untake(area.upper());
            None
        })?;
        self.zone(zone).lose(2 * AREA_FRAMES as u32);
        cpu.huge_hints.set(zone, area.index);
        Some(area.start())
    }

    /// Gives back an area that turned out to be another zone's; as in `return_reservation`.
    fn untake(&self, area: AreaRef<'m>) {
        let zone = area.zone();
        if area.core().give().is_some_and(State::is_isolated) {
            self.zone(zone).lose(AREA_FRAMES as u32);
        }
    }

    /// Searches for frames below an order of 9: first near the last area that gave, among areas in
    /// use already, so that whole ones stay whole; then everywhere.
    fn search_small<R>(
        &self,
        zone: ZoneId,
        cpu: &CpuCaches,
        mut take: impl FnMut(AreaRef<'m>) -> Option<R>,
    ) -> Option<R> {
        let hint = cpu.hints.get(zone);
        [(Only::Partial, PARTIAL_WINDOW), (Only::Any, u32::MAX)]
            .into_iter()
            .find_map(|(only, window)| {
                self.search(zone, hint, window, |area| {
                    let free = area.core().state().free() as usize;
                    if free == 0 || only == Only::Partial && free == AREA_FRAMES {
                        return None;
                    }
                    let taken = take(area)?;
                    cpu.hints.set(zone, area.index);
                    Some(taken)
                })
            })
    }

    /// Goes through up to `window` areas of a zone from `hint` on, once round.
    fn search<R>(
        &self,
        zone: ZoneId,
        hint: u64,
        window: u32,
        mut visit: impl FnMut(AreaRef<'m>) -> Option<R>,
    ) -> Option<R> {
        let (first, end) = self.zone(zone).span();
        let start = if (first..end).contains(&hint) {
            hint & !1
        } else {
            first
        };
        let mut left = window;
        for (from, to) in [(start, end), (first, start)] {
            let mut index = from;
            while index < to && left > 0 {
                let Some(area) = self.area(index) else {
                    // A block without books: on to the next one.
                    index = (index / BLOCK_AREAS as u64 + 1) * BLOCK_AREAS as u64;
                    continue;
                };
                if area.zone() == zone && area.core().state().is_present() {
                    left -= 1;
                    if let Some(found) = visit(area) {
                        return Some(found);
                    }
                }
                index += 1;
            }
        }
        None
    }
}
