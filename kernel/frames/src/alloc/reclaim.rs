//! Reclaim on the slow path: in the background, directly, and the test whether it could help.

use crate::{
    alloc::{context::AllocContext, limits::WalkLimits, slow::AnySlowPath},
    base::{
        pin::Pinned,
        request::Gfp,
        types::{MAX_NODES, NodeId, NodeMask, ZoneId, ZoneKind},
    },
    cache::cpu::PerCpu,
    frames::Frames,
    zone::Watermark,
    zonelist::{Eligible, List},
};
use tidemark_sync::Task;

/// The fewest frames that direct reclaim asks for.
const RECLAIM_FRAMES: usize = 32;

impl<P: PerCpu> Frames<'_, P> {
    /// Wakes the background reclaimers of the nodes of a list's usable zones, from a position on.
    /// Reclaimers that have been asked and have not begun yet are left out. It does not sleep.
    #[doc(alias = "wake_all_kswapds")]
    #[inline]
    pub(crate) fn wake_nodes(
        &self,
        ac: &AllocContext,
        list: List<'_>,
        from: usize,
        eligible: Eligible,
    ) {
        // Reclaimers that have been asked still have to look at the watermarks. They would do no
        // more if asked again.
        let nodes = eligible.nodes.without(self.platform().reclaimers_asked());
        if nodes != NodeMask::NONE {
            self.wake_unasked(ac, list, from, Eligible { nodes, ..eligible });
        }
    }

    #[inline(never)]
    fn wake_unasked(&self, ac: &AllocContext, list: List<'_>, from: usize, eligible: Eligible) {
        let mut unasked = eligible.nodes;
        for (_, zone) in list.walk(from, eligible, || ()) {
            let node = zone.node();
            if unasked.contains(node) {
                unasked = unasked.without(NodeMask::only(node));
                self.platform().wake_reclaim(node, ac.context);
            }
        }
    }

    /// Returns how many frames the background reclaimer of `node` should free, so that each of its
    /// zones has as many free as its HIGH watermark. Any context.
    ///
    /// # Panics
    ///
    /// Panics if the allocator has no node of this number.
    pub fn reclaim_wanted(&self, node: NodeId) -> u64 {
        ZoneKind::ALL
            .into_iter()
            .map(|kind| self.zone_table().zone(ZoneId::new(node, kind)))
            .map(|zone| zone.watermark(Watermark::High).saturating_sub(zone.free()))
            .sum()
    }
}

impl<P: PerCpu> AnySlowPath<'_, '_, P> {
    /// Wakes the background reclaimer of each node that the request may use.
    pub(crate) fn wake_reclaimers(&self) {
        let Self { frames, ac, .. } = *self;
        if !ac.gfp.contains(Gfp::KSWAPD_RECLAIM) {
            return;
        }
        let pinned = Pinned::new(frames.platform());
        let (list, _) = frames.list_in_force(ac, pinned.on_cpu());
        frames.wake_nodes(ac, list, 0, self.limits().eligible());
    }

    /// Reclaims from each node that the request may use; returns how many frames were freed.
    #[doc(alias = "__alloc_pages_direct_reclaim")]
    pub(crate) fn reclaim(&self, task: &Task) -> usize {
        let want = RECLAIM_FRAMES.max(self.ac.order.frames() as usize);
        let highest = self.ac.eligible.highest;
        self.usable_nodes()
            .map(|node| self.frames.platform().shrink(node, highest, want, task))
            .sum()
    }

    /// Returns whether a zone would be above its floor if everything reclaimable in it were free.
    /// It looks at the whole list, as Linux does, wherever the request's walks start (H8).
    #[doc(alias = "should_reclaim_retry")]
    pub(crate) fn could_progress(&self, limits: WalkLimits) -> bool {
        let Self { frames, ac, .. } = *self;
        let highest = ac.eligible.highest;
        let pinned = Pinned::new(frames.platform());
        let (list, _) = frames.list_in_force(ac, pinned.on_cpu());
        list.walk(0, limits.eligible(), || ()).any(|(_, zone)| {
            let reclaimable = frames.platform().reclaimable(zone.node(), highest) as u64;
            let zones = frames.zone_table();
            zones.watermark_ok_with_more(zone, reclaimable, ac.order, limits.alloc_flags)
        })
    }

    /// Returns the nodes of the zones that the request may use, each once, in the order of the
    /// list. They are copied from the list as it is now, since their reclaim may sleep.
    fn usable_nodes(&self) -> impl Iterator<Item = NodeId> + use<P> {
        let mut found = [None; MAX_NODES];
        let mut seen = NodeMask::NONE;
        let mut places = found.iter_mut();
        let pinned = Pinned::new(self.frames.platform());
        let (list, _) = self.frames.list_in_force(self.ac, pinned.on_cpu());
        for (_, zone) in list.walk(0, self.limits().eligible(), || ()) {
            let node = zone.node();
            if !seen.contains(node)
                && let Some(place) = places.next()
            {
                *place = Some(node);
                seen = seen.with(node);
            }
        }
        drop(pinned);
        found.into_iter().flatten()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::testing::*;

    const NORMAL: ZoneId = zone(0, ZoneKind::Normal);

    #[test]
    fn the_reclaimer_is_to_free_what_each_zone_is_short_of_high() {
        let frames = normal_machine(1, 2);
        assert_eq!(frames.reclaim_wanted(NodeId(0)), 0);
        let high = frames.zone_info(NORMAL).high;
        let held = press(frames, NORMAL, high - 7);
        assert_eq!(frames.reclaim_wanted(NodeId(0)), 7);
        drop(held);
        frames.drain_all(&task());
        assert_sound(frames);
    }
}
