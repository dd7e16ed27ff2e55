//! The search of a list for a zone above its watermark. Its loops are what a walk costs for each
//! zone that it passes over.

use crate::{
    alloc::{context::AllocContext, limits::WalkLimits},
    base::{
        pin::OnCpu,
        platform::Point,
        types::{Order, Pfn, ZoneId},
    },
    cache::cpu::PerCpu,
    frames::Frames,
    zone::above::{self, ZoneBits},
    zonelist::List,
};

/// A zone of a list that is above its watermark. It is small enough to be returned in a register.
#[derive(Clone, Copy)]
pub(crate) struct ZoneFound {
    pub(crate) zone: ZoneId,
    /// Position of the entry after it.
    next: u8,
}

/// The start of a walk of the slow path.
#[doc(alias = "preferred_zoneref")]
#[derive(Clone, Copy)]
pub(crate) struct WalkStart {
    /// Position of its first entry.
    pub(crate) at: u8,
    /// Whether that entry counts as usable without a test, because it was so at the begin (H10).
    pub(crate) is_remembered: bool,
}

impl WalkStart {
    /// Returns a start at an entry that is tested as every other.
    pub(crate) const fn tested(at: u8) -> Self {
        Self {
            at,
            is_remembered: false,
        }
    }
}

impl<P: PerCpu> Frames<'_, P> {
    /// Finds the first zone of a list that is among `above`, and how many usable ones come before
    /// it. The zone's number gives its kind, so the entry's index is not read.
    #[inline(never)]
    pub(crate) fn first_among(
        &self,
        list: List<'_>,
        above: ZoneBits,
        usable: ZoneBits,
    ) -> Option<(ZoneId, u8)> {
        // The bits are shifted by one, since entries hold the zone's number plus one. Bit 0 stops
        // the walk at the end of the list.
        let (stop, usable) = (u64::from(above) << 1 | 1, u64::from(usable) << 1);
        let mut passed = 0_u8;
        for entry in list.all() {
            let number = entry.number();
            let bit = 1_u64.wrapping_shl(number);
            if stop & bit != 0 {
                let zone = ZoneId::from_index(number.checked_sub(1)? as usize);
                return Some((zone, passed));
            }
            passed = passed.wrapping_add(u8::from(usable & bit != 0));
        }
        None
    }

    /// Finds the first zone from a start on that a request may use and that is above its floor.
    /// This walk of the slow path reads the zones' counters, and does not subtract the high-atomic
    /// reserve. A remembered start is not tested for zone kind and nodes, even if the entry has
    /// changed, as Linux does not test its preferred entry (H10). The function is not inlined, so
    /// that its loop has all registers.
    #[inline(never)]
    pub(crate) fn first_above(
        &self,
        list: List<'_>,
        start: WalkStart,
        order: Order,
        limits: WalkLimits,
    ) -> Option<ZoneFound> {
        // Nothing in the loop can overflow. Wrapping operations save the checks, which the kernel's
        // builds have.
        let more = (order.frames() as i64).wrapping_sub(1);
        let (highest, floor) = (
            limits.alloc_flags.highest as u32,
            limits.alloc_flags.place(),
        );
        let of_nodes = above::zones_of(limits.nodes);
        let zones = self.zone_table().all();
        let mut at = usize::from(start.at);
        let mut is_remembered = start.is_remembered;
        while let Some(entry) = list.all().get(at) {
            at = at.wrapping_add(1);
            let (index, id) = entry.read(|| self.platform().point(Point::WalkEntry))?;
            self.platform().point(Point::EntryRead {
                at: at.wrapping_sub(1) as u8,
                index: index as u8,
                zone: id,
            });
            let is_usable = is_remembered
                || index <= highest && of_nodes.wrapping_shr(id.index() as u32) & 1 != 0;
            is_remembered = false;
            if !is_usable {
                continue;
            }
            // Every entry has been written with a zone of the table.
            let zone = zones.get(id.index())?;
            if zone.free_exact() > zone.floor_at(floor).wrapping_add(more) {
                let next = at as u8;
                return Some(ZoneFound { zone: id, next });
            }
        }
        None
    }

    /// Takes a block from `found`, which a walk from `start` on has found, or else from the next
    /// zone above its floor that has one. Zones that are above it only by the high-atomic reserve
    /// are passed over, unless the request may use the reserve.
    #[inline(never)]
    pub(crate) fn take_found(
        &self,
        ac: &AllocContext<'_>,
        (list, start): (List<'_>, WalkStart),
        mut found: ZoneFound,
        limits: WalkLimits,
        on_cpu: OnCpu<'_>,
    ) -> Option<Pfn> {
        loop {
            if self
                .zone_table()
                .watermark_ok_reserve(found.zone, (ac.order, limits.alloc_flags))
            {
                // The zones passed over are counted only now, since most walks of the slow path
                // find nothing. If the list has changed meanwhile, only a statistic is wrong.
                let before = usize::from(found.next.wrapping_sub(1));
                let usable = list.walk(start.at.into(), limits.eligible(), || ());
                let passed = usable.take_while(|&(at, _)| at < before).count();
                let taken =
                    self.take_slow(found.zone, ac.wanted(passed), limits.alloc_flags, on_cpu);
                if taken.is_some() {
                    return taken;
                }
            }
            found = self.first_above(list, WalkStart::tested(found.next), ac.order, limits)?;
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "list_walk_tests.rs"]
mod tests;
