//! Each node's order of nodes.

use crate::base::{
    platform::Topology,
    types::{MAX_NODES, NodeId, NodeMask},
};

/// Computes each node's order of nodes: itself, then repeatedly the nearest that is left. A node
/// counts as farther by 1 if its number is lower than the list's own, and by 1 if it has CPUs. Ties
/// rotate among the lists, so that not every node's fallbacks go to the same neighbour.
pub(crate) fn node_orders(topology: &Topology) -> [[Option<NodeId>; MAX_NODES]; MAX_NODES] {
    let mut load = [0_u32; MAX_NODES];
    let mut orders = [[None; MAX_NODES]; MAX_NODES];
    for local in topology.nodes.iter() {
        let order = &mut orders[local.0 as usize];
        let distance = |node: NodeId| topology.distance[local.0 as usize][node.0 as usize];
        order[0] = Some(local);
        let mut used = NodeMask::only(local);
        let mut previous = local;
        for place in &mut order[1..] {
            let cost = |node: &NodeId| {
                let near = u32::from(distance(*node))
                    + u32::from(*node < local)
                    + u32::from(topology.with_cpus.contains(*node));
                near * MAX_NODES as u32 * MAX_NODES as u32 + load[node.0 as usize]
            };
            let left = topology.nodes.iter().filter(|node| !used.contains(*node));
            let Some(next) = left.min_by_key(cost) else {
                break;
            };
            // The first of a group of equally distant nodes gets more load, so that other lists
            // prefer another one.
            if distance(next) != distance(previous) {
                load[next.0 as usize] += 1;
            }
            used = used.with(next);
            previous = next;
            *place = Some(next);
        }
    }
    orders
}

#[cfg(all(test, not(loom)))]
#[path = "order_tests.rs"]
mod tests;
