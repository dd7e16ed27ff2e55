//! The oracle, which recounts everything from the bits and names the first inconsistency.

use crate::{
    base::{
        owner::{Entry, FrameState, Owner, OwnerKind},
        types::{CpuId, MAX_ZONES, NodeId, Order, Pfn, ZoneId, ZoneKind},
    },
    cache::{blocks, cpu::PerCpu},
    frames::Frames,
    pageblock::{
        flags::PageblockFlags,
        migrate_type::MigrateType,
        section_meta::{PAGEBLOCK_FRAMES, PageblockRef, SECTION_PAGEBLOCKS},
    },
    zone::{Zone, watermark_floor::floors},
    zonelist::ListKind,
};
use tidemark_sync::atomic::Ordering;

/// What the oracle found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inconsistency {
    /// A counter differs from the number that was counted.
    Count {
        /// Name of the counter.
        what: &'static str,
        /// The zone concerned.
        zone: ZoneId,
        /// Value of the counter.
        says: i64,
        /// The number that was counted.
        counted: i64,
    },
    /// A frame's books contradict each other.
    Frame {
        /// What is wrong.
        what: &'static str,
        /// The frame.
        at: Pfn,
    },
    /// A zonelist is wrong for the populated zones and the distances.
    List {
        /// What is wrong.
        what: &'static str,
        /// The node of the list.
        node: NodeId,
        /// Index of the entry.
        entry: usize,
    },
    /// A CPU has a gated section open, or owes a drain.
    Cpu {
        /// The CPU.
        cpu: CpuId,
    },
    /// A limit of a zone's caches is wrong for the zone's policy and the sides of its watermarks.
    CacheLimit {
        /// The zone.
        zone: ZoneId,
    },
    /// A zone's bit in a word of zones above LOW is wrong.
    AboveLow {
        /// The zone.
        zone: ZoneId,
        /// Highest zone of the word's requests.
        highest: ZoneKind,
    },
    /// The protocol's counter is odd, or hot-plug or a compaction is under way: its task was
    /// preempted, and goes on later. The recount was given up.
    NotAtRest,
}

/// The numbers that the oracle counted, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Frames that the allocator manages.
    pub managed: u64,
    /// Free frames.
    pub free: u64,
    /// Frames in CPUs' caches.
    pub cached: u64,
    /// Allocated frames.
    pub allocated: u64,
    /// Allocated frames without an owner.
    pub ownerless: u64,
    /// Allocated frames by kind of owner; see [`Census::owned`].
    by_owner: [u64; OwnerKind::ALL.len()],
}

/// Frames of one zone, counted from bits and entries.
#[derive(Clone, Copy, Default)]
struct Tally {
    managed: u64,
    free: u64,
    cached: u64,
    high_atomic: u64,
}

impl<P: PerCpu> Frames<'_, P> {
    /// Checks everything. It is exact only at rest: while no other code runs in the allocator. Any
    /// context.
    ///
    /// # Errors
    ///
    /// Returns the first inconsistency found.
    pub fn validate_at_rest(&self) -> Result<Census, Inconsistency> {
        let mut census = Census::default();
        let mut tallies = [Tally::default(); MAX_ZONES];
        self.check_rest()?;
        for section in 0..self.books().len() {
            for local in 0..SECTION_PAGEBLOCKS {
                let Some(pageblock) = self
                    .books()
                    .pageblock((section * SECTION_PAGEBLOCKS + local) as u64)
                else {
                    break;
                };
                if pageblock.core().state().is_present() {
                    self.check_pageblock(
                        pageblock,
                        &mut census,
                        &mut tallies[pageblock.zone().index()],
                    )?;
                }
            }
        }
        for zone in self.zone_table().zone_ids() {
            self.check_zone(zone, tallies[zone.index()])?;
        }
        self.check_lists()?;
        Ok(census)
    }

    /// Checks what must hold at any time, even while other CPUs allocate: watermarks are in order,
    /// and no zone has more frames free than it has. Any context.
    ///
    /// # Errors
    ///
    /// Returns the first inconsistency found.
    pub fn validate(&self) -> Result<(), Inconsistency> {
        for id in self.zone_table().zone_ids() {
            let zone = self.zone_table().zone(id);
            let watermarks = zone.policy().watermarks;
            let count = |what, says: u64, counted: u64| Inconsistency::Count {
                what,
                zone: id,
                says: says as i64,
                counted: counted as i64,
            };
            if watermarks.min > watermarks.low || watermarks.low > watermarks.high {
                return Err(count(
                    "watermarks out of order",
                    watermarks.low,
                    watermarks.high,
                ));
            }
            // Sizes may change between the two looks. And the frames of a reservation that is given
            // back in an isolated pageblock are in the counter for a moment too long.
            let before = zone.managed();
            let free = zone.free();
            let managed = zone.managed();
            let in_flight = (2 * PAGEBLOCK_FRAMES * self.caches().cpus().len()) as u64;
            if before == managed && free > managed + in_flight {
                return Err(count("more free than managed", free, managed));
            }
        }
        Ok(())
    }

    fn check_rest(&self) -> Result<(), Inconsistency> {
        let is_busy = self.lists().protocol().observe().is_odd()
            || self.resizing_lock().is_held()
            || self.compacting().load(Ordering::Relaxed) > 0;
        if is_busy {
            return Err(Inconsistency::NotAtRest);
        }
        for (number, cpu) in self.caches().cpus().iter().enumerate() {
            if !self.caches().is_at_rest(CpuId(number)) {
                let cpu = CpuId(number);
                return Err(Inconsistency::Cpu { cpu });
            }
            for (number, cache) in cpu.pcp.iter().enumerate() {
                let zone = PageblockFlags::zone_of_cache(number);
                for (depth, pfn) in cache.iter().enumerate() {
                    let frame = |what| Inconsistency::Frame { what, at: pfn };
                    if self.frame_state(pfn) != FrameState::Cached {
                        return Err(frame("in a cache, but its entry does not say so"));
                    }
                    if self.zone_of(pfn) != Some(zone) {
                        return Err(frame("in the cache of another zone"));
                    }
                    if cache.iter().take(depth).any(|other| other == pfn) {
                        return Err(frame("twice in a cache"));
                    }
                }
            }
            for zone in (0..MAX_ZONES).map(ZoneId::from_index) {
                let caches = cpu.block_caches(zone);
                for (depth, (order, pfn)) in blocks::each(caches).enumerate() {
                    let block = |what| Inconsistency::Frame { what, at: pfn };
                    if self.entry_of(pfn) != Entry::cached(order) {
                        return Err(block("a cached block, but its entry does not say so"));
                    }
                    if self.zone_of(pfn) != Some(zone) {
                        return Err(block("in the cache of another zone"));
                    }
                    if blocks::each(caches).take(depth).any(|other| other.1 == pfn) {
                        return Err(block("twice in a cache"));
                    }
                }
            }
        }
        Ok(())
    }

    fn entry_of(&self, pfn: Pfn) -> Entry {
        self.books()
            .pageblock_of(pfn)
            .map_or(Entry::ABSENT, |(pageblock, frame)| {
                pageblock.entry_now(frame)
            })
    }

    fn check_pageblock(
        &self,
        pageblock: PageblockRef<'_>,
        census: &mut Census,
        tally: &mut Tally,
    ) -> Result<(), Inconsistency> {
        let state = pageblock.core().state();
        let at = |frame: u32| Pfn(pageblock.start().0 + u64::from(frame));
        let wrong = |what, frame| {
            Err(Inconsistency::Frame {
                what,
                at: at(frame),
            })
        };
        if state.is_isolated() {
            return wrong("isolated, but nobody is going offline or compacting", 0);
        }
        if pageblock.flags().is_kept_out() {
            return wrong("kept out of the caches, but nobody compacts", 0);
        }
        if pageblock.migrate_type() == MigrateType::HighAtomic {
            tally.high_atomic += PAGEBLOCK_FRAMES as u64;
        }
        if state.is_taken() {
            return self.check_taken(pageblock, census, tally);
        }
        let (mut free, mut frame) = (0, 0);
        while frame < PAGEBLOCK_FRAMES as u32 {
            let set = is_set(pageblock, frame);
            let entry = pageblock.entry_now(frame);
            frame += match entry.state() {
                FrameState::Free if !set => {
                    free += 1;
                    1
                }
                FrameState::Free => return wrong("not free, but without an entry", frame),
                _ if !set => return wrong("free, but its entry says otherwise", frame),
                FrameState::Absent => 1,
                FrameState::Cached | FrameState::Allocated { .. } => {
                    let Some((order, owner)) = entry.block() else {
                        return wrong("in use with an order that is none", frame);
                    };
                    if !u64::from(frame).is_multiple_of(order.frames()) || order >= Order::HUGE {
                        return wrong("in use with an order that does not fit", frame);
                    }
                    let size = order.frames() as u32;
                    let mut body = frame + 1..frame + size;
                    let stray = body
                        .find(|&f| !is_set(pageblock, f) || pageblock.entry_now(f) != Entry::FREE);
                    if let Some(stray) = stray {
                        return wrong("inside a block, but with books of its own", stray);
                    }
                    tally.count_used(order.frames(), owner, census);
                    size
                }
            };
        }
        if state.free() != free {
            return wrong(
                "its pageblock's count is not the number of its zero bits",
                0,
            );
        }
        census.free += u64::from(free);
        tally.free += u64::from(free);
        tally.managed += u64::from(free);
        census.managed = census.free + census.cached + census.allocated;
        Ok(())
    }

    /// Checks a pageblock that is taken whole: an order 9, or half of an order 10.
    fn check_taken(
        &self,
        pageblock: PageblockRef<'_>,
        census: &mut Census,
        tally: &mut Tally,
    ) -> Result<(), Inconsistency> {
        let at = pageblock.start();
        let wrong = |what| Err(Inconsistency::Frame { what, at });
        let mut frames = 0..PAGEBLOCK_FRAMES as u32;
        if pageblock.core().state().free() != 0 || frames.any(|frame| is_set(pageblock, frame)) {
            return wrong("wholly taken, but with bits or a count");
        }
        if (1..PAGEBLOCK_FRAMES as u32).any(|frame| pageblock.entry_now(frame) != Entry::FREE) {
            return wrong("wholly taken, but with entries inside");
        }
        let is_upper = pageblock.index % 2 == 1;
        let own = pageblock.entry_now(0);
        let of_lower = self
            .books()
            .pageblock(pageblock.index & !1)
            .and_then(|pageblock| pageblock.entry_now(0).block());
        let owner = match (own.block(), of_lower) {
            (Some((Order::HUGE, owner)), _) => owner,
            (Some((Order::MAX, owner)), _) if !is_upper => owner,
            (None, Some((Order::MAX, owner))) if is_upper && own == Entry::FREE => owner,
            _ => return wrong("wholly taken, but by nobody"),
        };
        tally.count_used(PAGEBLOCK_FRAMES as u64, owner, census);
        census.managed = census.free + census.cached + census.allocated;
        Ok(())
    }

    fn check_zone(&self, id: ZoneId, tally: Tally) -> Result<(), Inconsistency> {
        let zone = self.zone_table().zone(id);
        let policy = (
            zone.policy(),
            self.zone_table()
                .wanted_policy(id, self.caches().cpus().len()),
        );
        let counts = [
            ("free", zone.free_exact(), tally.free),
            ("managed", zone.managed() as i64, tally.managed),
            (
                "cached",
                self.caches().cached_frames(id) as i64,
                tally.cached,
            ),
            ("high-atomic", zone.high_atomic() as i64, tally.high_atomic),
            (
                "min",
                policy.0.watermarks.min as i64,
                policy.1.watermarks.min,
            ),
            (
                "low",
                policy.0.watermarks.low as i64,
                policy.1.watermarks.low,
            ),
            (
                "high",
                policy.0.watermarks.high as i64,
                policy.1.watermarks.high,
            ),
        ];
        let reserves = policy.0.reserve.into_iter().zip(policy.1.reserve);
        let reserves = reserves.map(|(says, wanted)| ("reserve", says as i64, wanted));
        let floors = floors(&policy.1.watermarks, &policy.1.reserve);
        let stored = zone.floors();
        let floors = stored.iter().zip(floors.as_flattened());
        let floors = floors.map(|(&says, &wanted)| ("floor", says.into(), wanted.into()));
        for (what, says, counted) in counts.into_iter().chain(reserves).chain(floors) {
            if says != counted as i64 {
                return Err(Inconsistency::Count {
                    what,
                    zone: id,
                    says,
                    counted: counted as i64,
                });
            }
        }
        if self.zone_table().caches_are_off(id) {
            return Err(Inconsistency::NotAtRest);
        }
        if !self.zone_table().cache_limits_are_right(id) {
            return Err(Inconsistency::CacheLimit { zone: id });
        }
        if let Some(highest) = self.zone_table().wrong_above_low(id) {
            return Err(Inconsistency::AboveLow { zone: id, highest });
        }
        Ok(())
    }

    fn check_lists(&self) -> Result<(), Inconsistency> {
        let zones: &[Zone] = self.zone_table().all();
        for (number, lists) in self.lists().nodes().iter().enumerate() {
            let node = NodeId(number as u8);
            let side = self.lists().published().current().side();
            for kind in [ListKind::Fallback, ListKind::NoFallback] {
                let list = lists.list(side, kind);
                let mut wanted = lists.wanted(node, kind, zones);
                for entry in 0..list.len() {
                    let zone = wanted.next();
                    if !list.is_exactly(entry, zone) {
                        let what = "not the zone that belongs here";
                        return Err(Inconsistency::List { what, node, entry });
                    }
                    if zone.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Tally {
    /// Counts frames of an owner, or of a cache if there is none.
    fn count_used(&mut self, frames: u64, owner: Option<Owner>, census: &mut Census) {
        self.managed += frames;
        match owner {
            Some(owner) => census.count_allocated(frames, owner),
            None => {
                self.cached += frames;
                census.cached += frames;
            }
        }
    }
}

impl Census {
    /// Returns the number of allocated frames of owners of this kind.
    pub fn owned(&self, kind: OwnerKind) -> u64 {
        self.by_owner[kind as usize]
    }

    fn count_allocated(&mut self, frames: u64, owner: Owner) {
        self.allocated += frames;
        self.by_owner[owner.kind() as usize] += frames;
        if owner == Owner::NONE {
            self.ownerless += frames;
        }
    }
}

fn is_set(pageblock: PageblockRef<'_>, frame: u32) -> bool {
    pageblock.core().bits.0[frame as usize / 64].load(Ordering::Relaxed) >> (frame % 64) & 1 == 1
}

#[cfg(all(test, not(loom)))]
#[path = "validate_tests.rs"]
mod tests;
