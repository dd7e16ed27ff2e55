//! What the slow path asks of reclaim: in the background, directly, and whether it could help.

use crate::{
    alloc::{context::Walk, reach::Reach},
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

fn usable_by(walk: &Walk, nodes: NodeMask) -> Eligible {
    Eligible {
        highest: walk.eligible.highest,
        nodes,
    }
}

impl<P: PerCpu> Frames<'_, P> {
    /// Wakes the background reclaimers of the nodes of those zones of a list from a position on
    /// that a request may use, but for reclaimers that have been asked and not begun yet. That does
    /// not sleep: the caller is pinned.
    #[inline]
    pub(crate) fn wake_nodes(&self, walk: &Walk, list: List<'_>, from: usize, eligible: Eligible) {
        // They have yet to look at the marks: asked again, they would do no more.
        let nodes = eligible.nodes.without(self.platform().reclaimers_asked());
        if nodes != NodeMask::NONE {
            self.wake_unasked(walk, list, from, Eligible { nodes, ..eligible });
        }
    }

    #[inline(never)]
    fn wake_unasked(&self, walk: &Walk, list: List<'_>, from: usize, eligible: Eligible) {
        let mut unasked = eligible.nodes;
        for (_, zone) in list.walk(from, eligible, || ()) {
            let node = zone.node();
            if unasked.contains(node) {
                unasked = unasked.without(NodeMask::only(node));
                self.platform().wake_reclaim(node, walk.context);
            }
        }
    }

    /// Wakes the background reclaimer of each node that the request may use.
    pub(crate) fn wake_reclaimers(&self, walk: &Walk, nodes: NodeMask) {
        if !walk.gfp.contains(Gfp::KSWAPD_RECLAIM) {
            return;
        }
        let eligible = usable_by(walk, nodes);
        let _pinned = Pinned::new(self.platform());
        let (list, _) = self.list_in_force(walk);
        self.wake_nodes(walk, list, 0, eligible);
    }

    /// Reclaims from each node that the request may use; returns how many frames came free.
    pub(crate) fn reclaim(&self, walk: &Walk, nodes: NodeMask, task: &Task) -> usize {
        let want = BATCH.max(walk.order.frames() as usize);
        let highest = walk.eligible.highest;
        self.nodes_of(walk, nodes)
            .map(|node| self.platform().shrink(node, highest, want, task))
            .sum()
    }

    /// Returns whether some zone would pass its mark if everything reclaimable in it were free. It
    /// looks at the whole list, as the field's test does, wherever the request's walks start.
    pub(crate) fn could_progress(&self, walk: &Walk, reach: Reach) -> bool {
        let highest = walk.eligible.highest;
        let _pinned = Pinned::new(self.platform());
        let (list, _) = self.list_in_force(walk);
        list.walk(0, reach.eligible(), || ()).any(|(_, zone)| {
            let reclaimable = self.platform().reclaimable(zone.node(), highest) as u64;
            self.zone_table()
                .passes_with(zone, reclaimable, walk.order, reach.access)
        })
    }

    /// Returns the nodes of the zones that the request may use, each once, in the order of the list
    /// as it is now: what follows may sleep, and the list is not looked at any more.
    fn nodes_of(&self, walk: &Walk, nodes: NodeMask) -> impl Iterator<Item = NodeId> + use<P> {
        let mut found = [None; MAX_NODES];
        let mut seen = NodeMask::NONE;
        let mut places = found.iter_mut();
        let pinned = Pinned::new(self.platform());
        let (list, _) = self.list_in_force(walk);
        let eligible = usable_by(walk, nodes);
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
