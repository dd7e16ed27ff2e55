//! Cpusets: the nodes that a task's requests may use, apart from what each request says.
//!
//! The fast path keeps to the task's own nodes. On the slow path a request without HARDWALL may go
//! as far as the wall around them, and one that must not fail for such a reason ignores them: HIGH
//! that cannot block, an OOM victim's, one with MEMALLOC. Interrupt handlers and NMIs have no task
//! whose set would apply.

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

/// The cpuset of a request on the slow path, as it was when the request began: its cookie.
#[derive(Clone, Copy)]
pub(crate) struct Confinement {
    /// Nodes that the walks may use.
    pub(crate) nodes: NodeMask,
    /// Nodes that the walks of the fast path, and the last one before OOM, may use.
    pub(crate) own_nodes: NodeMask,
    /// Whose generation it is, if there is a cpuset that this request heeds.
    heeded: Option<u32>,
}

impl Confinement {
    /// Returns what a request may use that heeds no cpuset.
    #[inline]
    pub(crate) fn none(ac: &AllocContext) -> Self {
        Self {
            nodes: ac.nodes,
            own_nodes: ac.nodes,
            heeded: None,
        }
    }

    /// Notes what a request may use that begins now.
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

    /// Returns whether the cpuset that the request began with is another one now.
    #[inline]
    pub(crate) fn has_changed<P: Platform>(&self, platform: &P, task: Option<&Task>) -> bool {
        let now = || in_force(platform, task).map(|(_, cpuset)| cpuset.generation);
        let is_looked_at = self.heeded.is_some() && !mutant::is(Mutant::CpusetNotRechecked);
        is_looked_at && self.heeded != now()
    }
}

/// Returns the cpuset of the task that asks.
#[inline]
fn in_force<'t, P: Platform>(platform: &P, task: Option<&'t Task>) -> Option<(&'t Task, Cpuset)> {
    let task = task?;
    Some((task, platform.cpuset(task)?))
}

/// Returns whether a cpuset may say which nodes the caller may use: the hot path does not look
/// closer.
#[inline]
pub(crate) fn may_confine<P: Platform>(platform: &P, context: &impl Context) -> bool {
    context.kind() == ContextKind::Task && platform.any_cpuset()
}

/// Returns the nodes that a request may use on the fast path: what its caller says, within the
/// task's cpuset. Nothing to do where no cpuset is in force.
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
