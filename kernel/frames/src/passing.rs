//! The search for a zone above its mark: what a walk costs for each zone that it passes over.

use crate::{
    Frames, Order, Pfn, Platform, ZoneId,
    above::ZoneBits,
    zone::Access,
    zonelist::{Eligible, List},
};

/// A zone of a list that is above its mark. Small, so that it is handed back in a register.
#[derive(Clone, Copy)]
pub(crate) struct Passing {
    pub(crate) zone: ZoneId,
    /// Position of the entry after it.
    next: u8,
    /// Usable zones that were passed over before it.
    pub(crate) passed: u8,
}

impl<'m, P: Platform> Frames<'m, P> {
    /// The first zone of a list that is among `above`, and how many usable ones stand before it.
    /// The zone's number says what kind it is: the entry's index is not read. Pinned.
    #[inline(never)]
    pub(crate) fn first_among(
        &self,
        list: List<'m>,
        above: ZoneBits,
        usable: ZoneBits,
    ) -> Option<(ZoneId, u8)> {
        // By number plus one, as the entries are; where the list ends the walk stops as well.
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

    /// The first zone from position `next` on, after `passed` usable ones, that a request may use and
    /// that is above its mark. `point` runs between the two loads of an entry. Pinned. A function of its
    /// own, so that its loop has the registers for itself.
    #[inline(never)]
    pub(crate) fn first_above(
        &self,
        list: List<'m>,
        (mut next, mut passed): (u8, u8),
        eligible: Eligible,
        (order, access): (Order, Access),
        point: impl Fn(),
    ) -> Option<Passing> {
        // Nothing in the loop can overflow; the guest would check it otherwise.
        let more = (order.frames() as i64).wrapping_sub(1);
        let nodes = u32::from(eligible.nodes.0);
        let highest = eligible.highest as u32;
        let zones = self.storage.zones;
        for entry in list.entries(next.into()) {
            let (index, id) = entry.read(&point)?;
            next = next.wrapping_add(1);
            if index > highest || nodes.wrapping_shr(u32::from(id.node().0)) & 1 == 0 {
                continue;
            }
            if let Some(zone) = zones.get(id.index())
                && zone.free_exact() > zone.floor(access).wrapping_add(more)
                && self.passes_reserve(id, (order, access))
            {
                return Some(Passing {
                    zone: id,
                    next,
                    passed,
                });
            }
            passed = passed.wrapping_add(1);
        }
        None
    }

    /// Walks a list from a position on, after a number of usable zones, and takes from the first that
    /// is above its mark and gives something; `take` is told how many were passed over. Pinned.
    #[inline]
    pub(crate) fn take_above(
        &self,
        list: List<'m>,
        mut from: (u8, u8),
        eligible: Eligible,
        what: (Order, Access),
        point: impl Fn(),
        mut take: impl FnMut(ZoneId, usize) -> Option<Pfn>,
    ) -> Option<Pfn> {
        loop {
            let found = self.first_above(list, from, eligible, what, &point)?;
            let taken = take(found.zone, found.passed.into());
            if taken.is_some() {
                return taken;
            }
            from = found.after();
        }
    }
}

impl Passing {
    /// From where, and after how many zones, the search goes on if this one gave nothing.
    #[inline]
    pub(crate) fn after(self) -> (u8, u8) {
        (self.next, self.passed.wrapping_add(1))
    }
}
