//! What a walk of the slow path may take, and of which zones: watermarks, reserves, cpuset.

use crate::{
    alloc::{context::AllocContext, cpuset::Confinement},
    base::{platform::MemallocRole, request::Gfp, types::NodeMask},
    cache::cpu::PerCpu,
    frames::Frames,
    zone::{AllocFlags, high_atomic::HighAtomic, watermark_floor::WatermarkFloor},
    zonelist::Eligible,
};
use tidemark_sync::Task;

/// What a walk may take, and of which zones.
#[derive(Clone, Copy)]
pub(crate) struct WalkLimits {
    pub(crate) alloc_flags: AllocFlags,
    pub(crate) nodes: NodeMask,
}

impl WalkLimits {
    /// Returns the reach of the first walk: MIN, less the discount for HIGH.
    #[inline]
    pub(crate) fn of(ac: &AllocContext, confinement: &Confinement) -> Self {
        Self {
            alloc_flags: AllocFlags {
                floor: WatermarkFloor::of(ac.gfp),
                highest: ac.eligible.highest,
                high_atomic: HighAtomic::of(ac.gfp, ac.order),
            },
            nodes: confinement.nodes,
        }
    }

    /// Returns the reach of a round's walks: with the reserves, for whom they are. Those who may
    /// use them heed no cpuset.
    pub(crate) fn of_round(
        ac: &AllocContext,
        confinement: &Confinement,
        role: MemallocRole,
    ) -> Self {
        let mut limits = Self::of(ac, confinement);
        if ac.gfp.contains(Gfp::NOMEMALLOC) || role == MemallocRole::Ordinary {
            return limits;
        }
        limits.nodes = ac.nodes;
        limits.alloc_flags.floor = match role {
            MemallocRole::Reclaimer => WatermarkFloor::Nothing,
            _ => limits.alloc_flags.floor.of_victim(),
        };
        limits
    }

    /// Returns the reach of the last try before OOM: HIGH, so that only memory that somebody else's
    /// victim gave back is taken, and as on the fast path the task's own nodes.
    pub(crate) fn of_last_try(ac: &AllocContext, confinement: &Confinement) -> Self {
        Self {
            alloc_flags: AllocFlags {
                floor: WatermarkFloor::High,
                highest: ac.eligible.highest,
                high_atomic: HighAtomic::Spared,
            },
            nodes: confinement.own_nodes,
        }
    }

    /// Returns what NOFAIL may take at `nopage`: half of MIN, and not all of it, which those need
    /// that free memory. First within the cpuset, then anywhere.
    pub(crate) fn of_nofail(ac: &AllocContext, confinement: &Confinement) -> [Self; 2] {
        let mut within = Self::of(ac, confinement);
        within.alloc_flags.floor = WatermarkFloor::Half;
        let anywhere = Self {
            nodes: ac.nodes,
            ..within
        };
        [within, anywhere]
    }

    pub(crate) fn eligible(self) -> Eligible {
        Eligible {
            highest: self.alloc_flags.highest,
            nodes: self.nodes,
        }
    }
}

impl<P: PerCpu> Frames<'_, P> {
    /// Returns what the request is to the reserves. A handler has no standing of its own: it
    /// interrupted somebody.
    #[inline]
    pub(crate) fn memalloc_role(&self, task: Option<&Task>, ac: &AllocContext) -> MemallocRole {
        match task {
            _ if ac.gfp.contains(Gfp::MEMALLOC) => MemallocRole::Reclaimer,
            Some(task) => self.platform().memalloc_role(task),
            None => MemallocRole::Ordinary,
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "limits_tests.rs"]
mod tests;
