//! Answers of the platform that may change at any time: how frees claim their block, the tasks'
//! cpuset, and the nodes that want background reclaim.

use crate::args::Exchange;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use tidemark_frames::{Cpuset, NodeId, NodeMask};

static BY_EXCHANGE: AtomicBool = AtomicBool::new(false);
/// Nodes that want background reclaim.
static RECLAIM: AtomicU8 = AtomicU8::new(0);
/// The cpuset of all tasks in one word: its generation in the upper 16 bits, its nodes and its wall
/// in 8 bits each. A word without nodes is no cpuset.
static CPUSET: AtomicU32 = AtomicU32::new(0);

/// Sets how frees claim their block in this cycle of the hot-plug thread.
pub fn set_exchange(exchange: Exchange, cycle: usize) {
    let is_on = match exchange {
        Exchange::On => true,
        Exchange::Off => false,
        Exchange::Alternate => cycle.is_multiple_of(2),
    };
    BY_EXCHANGE.store(is_on, Relaxed);
}

/// Returns whether frees claim their block by a locked exchange now.
pub fn is_by_exchange() -> bool {
    BY_EXCHANGE.load(Relaxed)
}

/// Confines all tasks to nodes and a wall around them, or ends that. Only the hot-plug thread calls
/// it.
pub fn set_cpuset(nodes: Option<(NodeMask, NodeMask)>) {
    let generation = (CPUSET.load(Relaxed) >> 16).wrapping_add(1);
    let (nodes, wall) = nodes.unwrap_or((NodeMask::NONE, NodeMask::NONE));
    let word = generation << 16 | u32::from(nodes.0) << 8 | u32::from(wall.0);
    CPUSET.store(word, Relaxed);
}

/// Returns the cpuset of all tasks, if one is in force.
pub fn cpuset() -> Option<Cpuset> {
    let word = CPUSET.load(Relaxed);
    let cpuset = Cpuset {
        nodes: NodeMask((word >> 8) as u8),
        wall: NodeMask(word as u8),
        generation: word >> 16,
    };
    (cpuset.nodes != NodeMask::NONE).then_some(cpuset)
}

/// Asks for background reclaim on a node. Any context.
pub fn want_reclaim(node: NodeId) {
    RECLAIM.fetch_or(NodeMask::only(node).0, Relaxed);
}

/// Returns the nodes that want background reclaim.
pub fn reclaim_wanted() -> NodeMask {
    NodeMask(RECLAIM.load(Relaxed))
}

/// Takes one node's request for background reclaim, if there is any.
pub fn take_reclaim() -> Option<NodeId> {
    let node = reclaim_wanted().iter().next()?;
    RECLAIM.fetch_and(!NodeMask::only(node).0, Relaxed);
    Some(node)
}
