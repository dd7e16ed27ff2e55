//! What the slow path asks of reclaim: in the background, directly, and whether it could help.

use crate::{
    Frames, Gfp, MAX_NODES, NodeId, NodeMask, Platform, ZoneId, alloc::Walk, platform::Pinned,
    reach::Reach, zonelist::Eligible,
};
use tidemark_sync::{Context, Task};

/// Frames that direct reclaim asks for at least.
const BATCH: usize = 32;

fn usable_by(walk: &Walk, nodes: NodeMask) -> Eligible {
    Eligible {
        highest: walk.eligible.highest,
        nodes,
    }
}

impl<P: Platform> Frames<'_, P> {
    /// Wakes the background reclaimers of a zone's node and of the nodes of the zones after it. That
    /// does not sleep: the caller is pinned.
    pub(crate) fn wake_nodes(
        &self,
        context: &impl Context,
        first: ZoneId,
        others: impl Iterator<Item = (usize, ZoneId)>,
    ) {
        let kind = context.kind();
        let mut woken = NodeMask::only(first.node());
        self.platform.wake_reclaim(first.node(), kind);
        for node in others.map(|(_, zone)| zone.node()) {
            if !woken.contains(node) {
                woken = woken.with(node);
                self.platform.wake_reclaim(node, kind);
            }
        }
    }

    /// Wakes the background reclaimer of each node that the request may use.
    pub(crate) fn wake_reclaimers(&self, context: &impl Context, walk: &Walk, nodes: NodeMask) {
        if !walk.gfp.contains(Gfp::KSWAPD_RECLAIM) {
            return;
        }
        let eligible = usable_by(walk, nodes);
        let _pinned = Pinned::new(&self.platform);
        let (list, _) = self.list_in_force(walk);
        let mut usable = list.walk(0, eligible, || ());
        if let Some((_, zone)) = usable.next() {
            self.wake_nodes(context, zone, usable);
        }
    }

    /// Reclaims from each node that the request may use; returns how many frames came free.
    pub(crate) fn reclaim(&self, walk: &Walk, nodes: NodeMask, task: &Task) -> usize {
        let want = BATCH.max(walk.order.frames() as usize);
        let highest = walk.eligible.highest;
        self.nodes_of(walk, nodes)
            .map(|node| self.platform.shrink(node, highest, want, task))
            .sum()
    }

    /// Whether some zone would pass its mark if everything reclaimable in it were free. It looks at
    /// the whole list, as the field's test does, wherever the request's walks start.
    pub(crate) fn could_progress(&self, walk: &Walk, reach: Reach) -> bool {
        let highest = walk.eligible.highest;
        let _pinned = Pinned::new(&self.platform);
        let (list, _) = self.list_in_force(walk);
        list.walk(0, reach.eligible(), || ()).any(|(_, zone)| {
            let reclaimable = self.platform.reclaimable(zone.node(), highest) as u64;
            self.passes_with(zone, reclaimable, walk.order, reach.access)
        })
    }

    /// The nodes of the zones that the request may use, each once, in the order of the list as it
    /// is now: what follows may sleep, and the list is not looked at any more.
    fn nodes_of(&self, walk: &Walk, nodes: NodeMask) -> impl Iterator<Item = NodeId> + use<P> {
        let mut found = [None; MAX_NODES];
        let mut seen = NodeMask::NONE;
        let mut places = found.iter_mut();
        let pinned = Pinned::new(&self.platform);
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
