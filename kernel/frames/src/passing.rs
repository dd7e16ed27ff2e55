//! The search for a zone above its mark: what a walk costs for each zone that it passes over.

use crate::{
    Frames, Order, Pfn, Platform, ZoneId,
    zone::Access,
    zonelist::{Eligible, List},
};

/// A zone of a list that is above its mark, the high-atomic reserve aside. Small, so that it is handed
/// back in a register.
#[derive(Clone, Copy)]
struct Passing {
    zone: ZoneId,
    /// Position of the entry after it.
    next: u8,
    /// Usable zones that were passed over before it.
    passed: u8,
}

impl<'m, P: Platform> Frames<'m, P> {
    /// The first zone from position `start` on that a request may use and that is above its mark, with
    /// everything free in it; the caller asks about the reserve. `point` runs between the two loads of
    /// an entry. Pinned. A function of its own, so that its loop has the registers for itself.
    #[inline(never)]
    fn first_above(
        &self,
        list: List<'m>,
        start: usize,
        eligible: Eligible,
        (order, access): (Order, Access),
        point: impl Fn(),
    ) -> Option<Passing> {
        // Nothing in the loop can overflow; the guest would check it otherwise.
        let more = (order.frames() as i64).wrapping_sub(1);
        let nodes = u32::from(eligible.nodes.0);
        let highest = eligible.highest as u32;
        let zones = self.storage.zones;
        let mut next = start as u8;
        let mut passed = 0_u8;
        for entry in list.entries(start) {
            let (index, id) = entry.read(&point)?;
            next = next.wrapping_add(1);
            if index > highest || nodes.wrapping_shr(u32::from(id.node().0)) & 1 == 0 {
                continue;
            }
            if let Some(zone) = zones.get(id.index())
                && zone.free_exact() > zone.floor(access).wrapping_add(more)
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

    /// Walks a list from position `start`, after `passed` zones, and takes from the first that is above
    /// its mark and gives something; `take` is told how many were passed over. Pinned.
    #[inline]
    pub(crate) fn take_above(
        &self,
        list: List<'m>,
        (mut start, mut passed): (usize, usize),
        eligible: Eligible,
        what: (Order, Access),
        point: impl Fn(),
        mut take: impl FnMut(ZoneId, usize) -> Option<Pfn>,
    ) -> Option<Pfn> {
        loop {
            let found = self.first_above(list, start, eligible, what, &point)?;
            passed = passed.wrapping_add(found.passed.into());
            if self.passes_reserve(found.zone, what)
                && let Some(pfn) = take(found.zone, passed)
            {
                return Some(pfn);
            }
            (start, passed) = (found.next.into(), passed.wrapping_add(1));
        }
    }
}
