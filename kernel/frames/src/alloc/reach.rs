//! What a walk of the slow path may take, and of which zones: marks, reserves, cpuset.

use crate::{
    alloc::{context::Walk, cpuset::Confinement},
    base::{platform::Standing, request::Gfp, types::NodeMask},
    cache::cpu::PerCpu,
    frames::Frames,
    zone::{Access, floor::Floor, high_atomic::HighAtomic},
    zonelist::Eligible,
};
use tidemark_sync::Task;

/// What a walk may take, and of which zones.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) access: Access,
    pub(crate) nodes: NodeMask,
}

impl Reach {
    /// Returns the reach of the first walk: MIN, less the discount for HIGH.
    #[inline]
    pub(crate) fn of(walk: &Walk, confinement: &Confinement) -> Self {
        Self {
            access: Access {
                floor: Floor::of(walk.gfp),
                highest: walk.eligible.highest,
                high_atomic: HighAtomic::of(walk.gfp, walk.order),
            },
            nodes: confinement.nodes,
        }
    }

    /// Returns the reach of a round's walks: with the reserves, for whom they are. Those who may
    /// use them heed no cpuset.
    pub(crate) fn of_round(walk: &Walk, confinement: &Confinement, standing: Standing) -> Self {
        let mut reach = Self::of(walk, confinement);
        if walk.gfp.contains(Gfp::NOMEMALLOC) || standing == Standing::Ordinary {
            return reach;
        }
        reach.nodes = walk.nodes;
        reach.access.floor = match standing {
            Standing::Reclaimer => Floor::Nothing,
            _ => reach.access.floor.of_victim(),
        };
        reach
    }

    /// Returns the reach of the last try before OOM: HIGH, so that only memory that somebody else's
    /// victim gave back is taken, and as on the fast path the task's own nodes.
    pub(crate) fn of_last_try(walk: &Walk, confinement: &Confinement) -> Self {
        Self {
            access: Access {
                floor: Floor::High,
                highest: walk.eligible.highest,
                high_atomic: HighAtomic::Spared,
            },
            nodes: confinement.own_nodes,
        }
    }

    /// Returns what NOFAIL may take at `nopage`: half of MIN, and not all of it, which those need
    /// that free memory. First within the cpuset, then anywhere.
    pub(crate) fn of_nofail(walk: &Walk, confinement: &Confinement) -> [Self; 2] {
        let mut within = Self::of(walk, confinement);
        within.access.floor = Floor::Half;
        let anywhere = Self {
            nodes: walk.nodes,
            ..within
        };
        [within, anywhere]
    }

    pub(crate) fn eligible(self) -> Eligible {
        Eligible {
            highest: self.access.highest,
            nodes: self.nodes,
        }
    }
}

impl<P: PerCpu> Frames<'_, P> {
    /// Returns what the request is to the reserves. A handler has no standing of its own: it
    /// interrupted somebody.
    #[inline]
    pub(crate) fn standing(&self, task: Option<&Task>, walk: &Walk) -> Standing {
        match task {
            _ if walk.gfp.contains(Gfp::MEMALLOC) => Standing::Reclaimer,
            Some(task) => self.platform().standing(task),
            None => Standing::Ordinary,
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "reach_tests.rs"]
mod tests;
