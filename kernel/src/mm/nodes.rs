//! NUMA nodes from the firmware's tables. Proximity domains become node numbers.

use super::carve::{Affinity, whole_frames};

pub use tidemark_frames::MAX_NODES;

/// Most ranges of memory that can be kept with their nodes.
pub const MAX_AFFINITIES: usize = 64;

/// Distance of a node to itself (ACPI 6.5, section 5.2.17).
pub const DISTANCE_LOCAL: u8 = 10;
/// Distance to any other node, where no table gives one.
pub const DISTANCE_REMOTE: u8 = 20;

/// One range of memory, as SRAT states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAffinity {
    /// First byte.
    pub start: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Proximity domain.
    pub proximity: u32,
    /// Whether it is a window for DIMMs to come, whose node is in the hot-plug registers instead.
    pub hot_pluggable: bool,
}

/// The machine's nodes, their distances and their memory.
#[derive(Clone, Debug)]
pub struct Nodes {
    proximities: [u32; MAX_NODES],
    len: usize,
    affinities: [Affinity; MAX_AFFINITIES],
    affinities_len: usize,
    distances: [[u8; MAX_NODES]; MAX_NODES],
    ignored: usize,
}

impl Nodes {
    /// Numbers the nodes in the order of their proximity domains. Without any range there is one
    /// node.
    ///
    /// `distance` returns SLIT's entry for two proximity domains. Domains and ranges beyond the
    /// fixed tables are ignored and counted; their memory goes to node 0.
    pub fn new(
        ranges: impl Iterator<Item = MemoryAffinity>,
        cpu_proximities: impl Iterator<Item = u32>,
        distance: impl Fn(u32, u32) -> Option<u8>,
    ) -> Self {
        let mut nodes = Self {
            proximities: [0; MAX_NODES],
            len: 0,
            affinities: [Affinity {
                start: 0,
                end: 0,
                node: 0,
            }; MAX_AFFINITIES],
            affinities_len: 0,
            distances: [[DISTANCE_REMOTE; MAX_NODES]; MAX_NODES],
            ignored: 0,
        };
        let mut proximity_of = [0; MAX_AFFINITIES];
        for range in ranges.filter(|r| r.size_bytes > 0 && !r.hot_pluggable) {
            let known = nodes.add_proximity(range.proximity);
            if !known || nodes.affinities_len == MAX_AFFINITIES {
                nodes.ignored += 1;
                continue;
            }
            let frames = whole_frames(range.start..range.start.saturating_add(range.size_bytes));
            proximity_of[nodes.affinities_len] = range.proximity;
            nodes.affinities[nodes.affinities_len] = Affinity {
                start: frames.start,
                end: frames.end,
                node: 0,
            };
            nodes.affinities_len += 1;
        }
        for proximity in cpu_proximities {
            if !nodes.add_proximity(proximity) {
                nodes.ignored += 1;
            }
        }
        if nodes.len == 0 {
            nodes.add_proximity(0);
        }
        let numbers = proximity_of.map(|p| nodes.node_of_proximity(p).unwrap_or(0));
        for (affinity, node) in nodes.affinities.iter_mut().zip(numbers) {
            affinity.node = node;
        }
        for from in 0..nodes.len {
            for to in 0..nodes.len {
                let stated = distance(nodes.proximities[from], nodes.proximities[to]);
                nodes.distances[from][to] = match stated {
                    _ if from == to => DISTANCE_LOCAL,
                    Some(d) if d > DISTANCE_LOCAL => d,
                    _ => DISTANCE_REMOTE,
                };
            }
        }
        nodes
    }

    /// Inserts a domain in order; returns whether there was a place for it.
    fn add_proximity(&mut self, proximity: u32) -> bool {
        match self.proximities[..self.len].binary_search(&proximity) {
            Ok(_) => true,
            Err(_) if self.len == MAX_NODES => false,
            Err(at) => {
                self.proximities.copy_within(at..self.len, at + 1);
                self.proximities[at] = proximity;
                self.len += 1;
                true
            }
        }
    }

    /// Returns the number of nodes, with memory or without.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of domains and ranges that the fixed tables had no room for.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// Returns the node of a proximity domain.
    pub fn node_of_proximity(&self, proximity: u32) -> Option<u8> {
        let at = self.proximities[..self.len]
            .binary_search(&proximity)
            .ok()?;
        Some(at as u8)
    }

    /// Returns the distance between two nodes, in SLIT's units (10 is local).
    pub fn distance(&self, from: usize, to: usize) -> u8 {
        self.distances[from][to]
    }

    /// Returns the ranges of memory with their nodes.
    pub fn affinities(&self) -> &[Affinity] {
        &self.affinities[..self.affinities_len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, size_bytes: u64, proximity: u32) -> MemoryAffinity {
        MemoryAffinity {
            start,
            size_bytes,
            proximity,
            hot_pluggable: false,
        }
    }

    fn no_slit(_: u32, _: u32) -> Option<u8> {
        None
    }

    #[test]
    fn without_tables_there_is_one_node() {
        let nodes = Nodes::new([].into_iter(), [].into_iter(), no_slit);
        assert_eq!(nodes.len(), 1);
        assert_eq!(nodes.distance(0, 0), 10);
        assert!(nodes.affinities().is_empty());
    }

    #[test]
    fn domains_are_numbered_in_order_with_gaps_closed() {
        let ranges = [range(1 << 20, 1 << 20, 7), range(0, 1 << 20, 2)];
        let nodes = Nodes::new(ranges.into_iter(), [5].into_iter(), no_slit);
        assert_eq!(nodes.len(), 3);
        assert_eq!(nodes.node_of_proximity(2), Some(0));
        assert_eq!(nodes.node_of_proximity(5), Some(1));
        assert_eq!(nodes.node_of_proximity(7), Some(2));
        assert_eq!(nodes.node_of_proximity(3), None);
        assert_eq!(nodes.affinities()[0].node, 2);
        assert_eq!(nodes.affinities()[1].node, 0);
    }

    #[test]
    fn a_hot_plug_window_gives_no_node() {
        let window = MemoryAffinity {
            hot_pluggable: true,
            ..range(1 << 32, 1 << 32, 1)
        };
        let ranges = [range(0, 1 << 30, 0), window];
        let nodes = Nodes::new(ranges.into_iter(), [].into_iter(), no_slit);
        assert_eq!(nodes.len(), 1);
        assert_eq!(nodes.affinities().len(), 1);
    }

    #[test]
    fn distances_come_from_slit_where_they_make_sense() {
        let ranges = [
            range(0, 4096, 0),
            range(4096, 4096, 1),
            range(8192, 4096, 2),
        ];
        let slit = |from, to| match (from, to) {
            (0, 1) => Some(31),
            (1, 0) => Some(5),
            (0, 0) => Some(99),
            _ => None,
        };
        let nodes = Nodes::new(ranges.into_iter(), [].into_iter(), slit);
        assert_eq!(nodes.distance(0, 1), 31);
        assert_eq!(nodes.distance(1, 0), DISTANCE_REMOTE);
        assert_eq!(nodes.distance(0, 0), DISTANCE_LOCAL);
        assert_eq!(nodes.distance(2, 1), DISTANCE_REMOTE);
    }

    #[test]
    fn too_many_domains_are_counted_not_lost() {
        let ranges = (0..MAX_NODES as u32 + 2).map(|p| range(u64::from(p) << 20, 1 << 20, p));
        let nodes = Nodes::new(ranges, [].into_iter(), no_slit);
        assert_eq!(nodes.len(), MAX_NODES);
        assert_eq!(nodes.ignored(), 2);
    }
}
