//! Cpusets: the nodes that a task's requests may use, apart from those that each request permits.
//!
//! The fast path keeps to the task's own nodes. On the slow path a request without HARDWALL keeps
//! to the wall around them. Some requests ignore the cpuset there: HIGH that cannot block, those of
//! an OOM victim, and those with MEMALLOC. Requests of interrupt handlers and NMIs have no cpuset.

use crate::{
    alloc::context::AllocContext,
    base::{
        cpuset::Cpuset,
        mutant::{self, Mutant},
        platform::{MemallocRole, Platform},
        request::Gfp,
        types::NodeMask,
    },
};
use tidemark_sync::{Context, ContextKind, Task};

/// The cpuset of a request on the slow path, as it was at the request's begin.
#[doc(alias = "cpuset_mems_cookie")]
#[derive(Clone, Copy)]
pub(crate) struct Confinement {
    /// Nodes that the walks may use.
    pub(crate) nodes: NodeMask,
    /// Nodes that the last walk before OOM may use, as on the fast path.
    pub(crate) own_nodes: NodeMask,
    /// Generation of the cpuset, if there is one that this request heeds.
    heeded: Option<u32>,
}

impl Confinement {
    /// Returns the nodes of a request that heeds no cpuset.
    #[inline]
    pub(crate) fn none(ac: &AllocContext) -> Self {
        Self {
            nodes: ac.nodes,
            own_nodes: ac.nodes,
            heeded: None,
        }
    }

    /// Reads the cpuset for a request that begins now.
    #[inline]
    pub(crate) fn begin<P: Platform>(platform: &P, task: Option<&Task>, ac: &AllocContext) -> Self {
        let free = Self::none(ac);
        let Some((task, cpuset)) = in_force(platform, task) else {
            return free;
        };
        let is_urgent = ac.gfp.contains(Gfp::HIGH) && !ac.gfp.contains(Gfp::DIRECT_RECLAIM);
        if is_urgent || platform.memalloc_role(task) == MemallocRole::Victim {
            return free;
        }
        let is_hard = ac.gfp.contains(Gfp::HARDWALL);
        let nodes = if is_hard { cpuset.nodes } else { cpuset.wall };
        Self {
            nodes: ac.nodes.and(nodes),
            own_nodes: ac.nodes.and(cpuset.nodes),
            heeded: Some(cpuset.generation),
        }
    }

    /// Returns whether the request's cpuset has changed since its begin.
    #[inline]
    pub(crate) fn has_changed<P: Platform>(&self, platform: &P, task: Option<&Task>) -> bool {
        let now = || in_force(platform, task).map(|(_, cpuset)| cpuset.generation);
        let is_looked_at = self.heeded.is_some() && !mutant::is(Mutant::CpusetNotRechecked);
        is_looked_at && self.heeded != now()
    }
}

/// Returns the task and its cpuset, if there are both.
#[inline]
fn in_force<'t, P: Platform>(platform: &P, task: Option<&'t Task>) -> Option<(&'t Task, Cpuset)> {
    let task = task?;
    Some((task, platform.cpuset(task)?))
}

/// Returns whether a cpuset may confine the caller. If so, the hot path declines the request.
#[inline]
pub(crate) fn may_confine<P: Platform>(platform: &P, context: &impl Context) -> bool {
    context.kind() == ContextKind::Task && platform.any_cpuset()
}

/// Returns the nodes that a request may use on the fast path: those that its caller permits, within
/// the task's cpuset.
#[inline]
pub(crate) fn own_nodes<P: Platform>(
    platform: &P,
    context: &impl Context,
    nodes: NodeMask,
) -> NodeMask {
    match in_force(platform, context.task()) {
        None => nodes,
        Some((_, cpuset)) => nodes.and(cpuset.nodes),
    }
}

#[cfg(all(test, not(loom)))]
#[path = "cpuset_tests.rs"]
mod tests;
