//! What the slow path asks of reclaim: in the background, directly, and whether it could help.

use crate::{
    alloc::{context::AllocContext, limits::WalkLimits},
    base::{
        platform::Pinned,
        request::Gfp,
        types::{MAX_NODES, NodeId, NodeMask},
    },
    cache::cpu::PerCpu,
    frames::Frames,
    zonelist::{Eligible, List},
};
use tidemark_sync::Task;

/// Frames that direct reclaim asks for at least.
const BATCH: usize = 32;

fn usable_by(ac: &AllocContext, nodes: NodeMask) -> Eligible {
    Eligible {
        highest: ac.eligible.highest,
        nodes,
    }
}

impl<P: PerCpu> Frames<'_, P> {
    /// Wakes the background reclaimers of the nodes of those zones of a list from a position on
    /// that a request may use, but for reclaimers that have been asked and not begun yet. That does
    /// not sleep: the caller is pinned.
    #[inline]
    pub(crate) fn wake_nodes(
        &self,
        ac: &AllocContext,
        list: List<'_>,
        from: usize,
        eligible: Eligible,
    ) {
        // They have yet to look at the watermarks: asked again, they would do no more.
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

    /// Wakes the background reclaimer of each node that the request may use.
    pub(crate) fn wake_reclaimers(&self, ac: &AllocContext, nodes: NodeMask) {
        if !ac.gfp.contains(Gfp::KSWAPD_RECLAIM) {
            return;
        }
        let eligible = usable_by(ac, nodes);
        let _pinned = Pinned::new(self.platform());
        let (list, _) = self.list_in_force(ac);
        self.wake_nodes(ac, list, 0, eligible);
    }

    /// Reclaims from each node that the request may use; returns how many frames came free.
    pub(crate) fn reclaim(&self, ac: &AllocContext, nodes: NodeMask, task: &Task) -> usize {
        let want = BATCH.max(ac.order.frames() as usize);
        let highest = ac.eligible.highest;
        self.nodes_of(ac, nodes)
            .map(|node| self.platform().shrink(node, highest, want, task))
            .sum()
    }

    /// Returns whether some zone would pass its watermark if everything reclaimable in it were
    /// free. It looks at the whole list, as the field's test does, wherever the request's walks
    /// start.
    pub(crate) fn could_progress(&self, ac: &AllocContext, limits: WalkLimits) -> bool {
        let highest = ac.eligible.highest;
        let _pinned = Pinned::new(self.platform());
        let (list, _) = self.list_in_force(ac);
        list.walk(0, limits.eligible(), || ()).any(|(_, zone)| {
            let reclaimable = self.platform().reclaimable(zone.node(), highest) as u64;
            self.zone_table()
                .watermark_ok_with(zone, reclaimable, ac.order, limits.alloc_flags)
        })
    }

    /// Returns the nodes of the zones that the request may use, each once, in the order of the list
    /// as it is now: what follows may sleep, and the list is not looked at any more.
    fn nodes_of(
        &self,
        ac: &AllocContext,
        nodes: NodeMask,
    ) -> impl Iterator<Item = NodeId> + use<P> {
        let mut found = [None; MAX_NODES];
        let mut seen = NodeMask::NONE;
        let mut places = found.iter_mut();
        let pinned = Pinned::new(self.platform());
        let (list, _) = self.list_in_force(ac);
        let eligible = usable_by(ac, nodes);
        for (_, zone) in list.walk(0, eligible, || ()) {
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
