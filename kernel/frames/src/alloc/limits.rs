//! What a walk of the slow path may take, and of which zones: watermarks, reserves, cpuset.

use crate::{
    alloc::slow::SlowPath,
    base::{platform::MemallocRole, request::Gfp, types::NodeMask},
    cache::cpu::PerCpu,
    zone::{AllocFlags, high_atomic::HighAtomic, watermark_floor::WatermarkFloor},
    zonelist::{Eligible, Protocol},
};
use tidemark_sync::Task;

/// What a walk may take, and of which zones.
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
    /// Returns what the request is to the reserves. A handler has no role of its own: it
    /// interrupted a task.
    #[inline]
    pub(crate) fn role(&self) -> MemallocRole {
        match self.task {
            _ if self.ac.gfp.contains(Gfp::MEMALLOC) => MemallocRole::Reclaimer,
            Some(task) => self.frames.platform().memalloc_role(task),
            None => MemallocRole::Ordinary,
        }
    }

    /// Returns the token of a request that may reclaim for itself, and is not a reclaimer already.
    pub(crate) fn reclaims(&self, role: MemallocRole) -> Option<&'a Task> {
        let may = self.ac.gfp.contains(Gfp::DIRECT_RECLAIM) && role != MemallocRole::Reclaimer;
        self.task.filter(|_| may)
    }

    /// Returns the limits of the first walk: MIN, less the discount for HIGH.
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

    /// Returns the limits of a round's walks: with the reserves, for the tasks that may use them.
    /// Those heed no cpuset.
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

    /// Returns the limits of the last try before OOM: HIGH, so that only memory that another task's
    /// victim gave back is taken, and as on the fast path the task's own nodes.
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

    /// Returns what NOFAIL may take at `nopage`: half of MIN. The rest is for tasks that free
    /// memory. First within the cpuset, then anywhere.
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
