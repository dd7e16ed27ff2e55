//! The limits of the slow path's walks: watermarks, reserves, and the nodes of the cpuset.

use crate::{
    alloc::slow::SlowPath,
    base::{platform::MemallocRole, request::Gfp, types::NodeMask},
    cache::cpu::PerCpu,
    zone::{AllocFlags, high_atomic::HighAtomic, watermark_floor::WatermarkFloor},
    zonelist::{Eligible, Protocol},
};
use tidemark_sync::Task;

/// The floor, the reserve and the nodes of a walk.
#[derive(Clone, Copy)]
pub(crate) struct WalkLimits {
    pub(crate) alloc_flags: AllocFlags,
    pub(crate) nodes: NodeMask,
}

impl WalkLimits {
    pub(crate) fn eligible(self) -> Eligible {
        Eligible {
            highest: self.alloc_flags.highest,
            nodes: self.nodes,
        }
    }
}

impl<'a, P: PerCpu, R: Protocol<P> + ?Sized> SlowPath<'a, '_, P, R> {
    /// Returns the request's share of the reserves. A handler has no role: that of the task that it
    /// interrupted is not its own.
    #[inline]
    pub(crate) fn role(&self) -> MemallocRole {
        match self.task {
            _ if self.ac.gfp.contains(Gfp::MEMALLOC) => MemallocRole::Reclaimer,
            Some(task) => self.frames.platform().memalloc_role(task),
            None => MemallocRole::Ordinary,
        }
    }

    /// Returns the task token of a request that may reclaim, and is not a reclaimer's.
    pub(crate) fn reclaims(&self, role: MemallocRole) -> Option<&'a Task> {
        let may = self.ac.gfp.contains(Gfp::DIRECT_RECLAIM) && role != MemallocRole::Reclaimer;
        self.task.filter(|_| may)
    }

    /// Returns the limits of the first walk: MIN, less the discount for HIGH.
    #[doc(alias = "gfp_to_alloc_flags")]
    #[inline]
    pub(crate) fn limits(&self) -> WalkLimits {
        WalkLimits {
            alloc_flags: AllocFlags {
                floor: WatermarkFloor::of(self.ac.gfp),
                highest: self.ac.eligible.highest,
                high_atomic: HighAtomic::of(self.ac.gfp, self.ac.order),
            },
            nodes: self.state.confinement.nodes,
        }
    }

    /// Returns the limits of a round's walks. Tasks with a memalloc role may use the reserves, and
    /// then heed no cpuset.
    #[doc(alias = "__gfp_pfmemalloc_flags")]
    pub(crate) fn limits_of_round(&self, role: MemallocRole) -> WalkLimits {
        let mut limits = self.limits();
        if self.ac.gfp.contains(Gfp::NOMEMALLOC) || role == MemallocRole::Ordinary {
            return limits;
        }
        limits.nodes = self.ac.nodes;
        limits.alloc_flags.floor = match role {
            MemallocRole::Reclaimer => WatermarkFloor::Nothing,
            _ => limits.alloc_flags.floor.of_victim(),
        };
        limits
    }

    /// Returns the limits of the last try before OOM: HIGH, so that it succeeds only if much memory
    /// was freed meanwhile, as by another task's victim. As on the fast path it keeps to the task's
    /// own nodes.
    pub(crate) fn limits_of_last_try(&self) -> WalkLimits {
        WalkLimits {
            alloc_flags: AllocFlags {
                floor: WatermarkFloor::High,
                highest: self.ac.eligible.highest,
                high_atomic: HighAtomic::Spared,
            },
            nodes: self.state.confinement.own_nodes,
        }
    }

    /// Returns the limits of the walks of NOFAIL at `nopage`: first within the cpuset, then
    /// anywhere. They keep half of MIN for tasks that free memory.
    pub(crate) fn limits_of_nofail(&self) -> [WalkLimits; 2] {
        let mut within = self.limits();
        within.alloc_flags.floor = WatermarkFloor::Half;
        let anywhere = WalkLimits {
            nodes: self.ac.nodes,
            ..within
        };
        [within, anywhere]
    }
}

#[cfg(all(test, not(loom)))]
#[path = "limits_tests.rs"]
mod tests;
