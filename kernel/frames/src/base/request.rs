//! What a caller asks for.

use crate::base::{
    owner::{Entry, Owner},
    types::{NodeId, NodeMask, Order, ZoneKind},
};
use core::ops::BitOr;

/// Request flags, with the names that Linux uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gfp(pub(crate) u32);

impl Gfp {
    /// Uses zones of kind DMA only.
    pub const DMA: Self = Self(1 << 0);
    /// Uses zones up to DMA32.
    pub const DMA32: Self = Self(1 << 1);
    /// The owner can be asked to move the block, so MOVABLE zones may be used.
    pub const MOVABLE: Self = Self(1 << 2);
    /// Leaves less of the MIN watermark free than other requests must.
    pub const HIGH: Self = Self(1 << 3);
    /// Wakes the background reclaimer.
    pub const KSWAPD_RECLAIM: Self = Self(1 << 4);
    /// May reclaim and compact itself. It acts only in a call with a task token.
    pub const DIRECT_RECLAIM: Self = Self(1 << 5);
    /// Reclaim may start I/O.
    pub const IO: Self = Self(1 << 6);
    /// Reclaim may enter the file layer.
    pub const FS: Self = Self(1 << 7);
    /// A failure is not reported to the platform.
    pub const NOWARN: Self = Self(1 << 8);
    /// Gives up after one round of reclaim.
    pub const NORETRY: Self = Self(1 << 9);
    /// Tries hard, but fails rather than kill an OOM victim.
    pub const RETRY_MAYFAIL: Self = Self(1 << 10);
    /// Does not fail in a task, which waits instead.
    pub const NOFAIL: Self = Self(1 << 11);
    /// Uses the wanted node only.
    pub const THISNODE: Self = Self(1 << 12);
    /// Fills the block with zeroes.
    pub const ZERO: Self = Self(1 << 13);
    /// Does not use the reserves, whatever the task's memalloc role or MEMALLOC says.
    pub const NOMEMALLOC: Self = Self(1 << 14);
    /// Ignores the watermarks. It is for requests that free more memory soon.
    pub const MEMALLOC: Self = Self(1 << 15);
    /// Uses only the nodes of the task's cpuset, not those of its wall.
    pub const HARDWALL: Self = Self(1 << 16);

    /// No flag.
    pub const NONE: Self = Self(0);
    /// Ordinary kernel memory, asked for by a task that may wait.
    pub const KERNEL: Self =
        Self(Self::DIRECT_RECLAIM.0 | Self::KSWAPD_RECLAIM.0 | Self::IO.0 | Self::FS.0);
    /// For contexts that cannot wait.
    pub const ATOMIC: Self = Self(Self::HIGH.0 | Self::KSWAPD_RECLAIM.0);
    /// For contexts that cannot wait, and for requests that may fail without harm.
    pub const NOWAIT: Self = Self(Self::KSWAPD_RECLAIM.0 | Self::NOWARN.0);

    /// Returns whether every flag of `flags` is set.
    #[inline]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Returns these flags without those of `flags`.
    #[must_use]
    #[inline]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }

    /// Returns the highest zone that a request with these flags may use.
    #[inline]
    pub const fn highest_zone(self) -> ZoneKind {
        const OF: [ZoneKind; 8] = [
            ZoneKind::Normal,
            ZoneKind::Dma,
            ZoneKind::Dma32,
            ZoneKind::Dma,
            ZoneKind::Movable,
            ZoneKind::Dma,
            ZoneKind::Dma32,
            ZoneKind::Dma,
        ];
        // The three flags are the lowest bits.
        OF[self.0 as usize % OF.len()]
    }
}

impl BitOr for Gfp {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A request for one block of frames.
#[derive(Clone, Copy, Debug)]
#[must_use = "a request does nothing until it is handed to `Frames::alloc`"]
pub struct Request {
    gfp: Gfp,
    order: Order,
    /// Wanted node; `None` is the node of the CPU that runs the request.
    node: Option<NodeId>,
    /// Nodes that may be used.
    nodes: NodeMask,
    /// The block's entry: its order and its future owner. [`Owner::NONE`] says that the owner is
    /// not set yet.
    entry: Entry,
    /// The class, computed from the fields above after each change of them.
    class: Class,
    /// The class that the request would have at order 0.
    zones: Class,
}

/// What the hot path tests of a request: the zones that it asks for, if it is plain. A plain
/// request is for a single frame of any node, and has none of THISNODE, ZERO and HARDWALL.
///
/// Each combination of the three zone flags is a variant. So the compiler knows that a table with
/// one entry for each class has a place for every class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    Plain,
    Dma,
    Dma32,
    DmaDma32,
    Movable,
    DmaMovable,
    Dma32Movable,
    DmaDma32Movable,
    /// The class of requests that are not plain.
    Other,
}

impl Class {
    /// Entries of a table by class.
    pub(crate) const TABLE: usize = Self::Other as usize + 1;
    const NOT_PLAIN: u32 = Gfp::THISNODE.0 | Gfp::ZERO.0 | Gfp::HARDWALL.0;

    const fn of(request: &Request) -> Self {
        if request.order.get() == 0 {
            Self::of_any_size(request)
        } else {
            Self::Other
        }
    }

    const fn of_any_size(request: &Request) -> Self {
        let is_plain = request.node.is_none()
            && request.nodes.0 == NodeMask::ALL.0
            && request.gfp.0 & Self::NOT_PLAIN == 0;
        if !is_plain {
            return Self::Other;
        }
        let gfp = request.gfp;
        let zones = (
            gfp.contains(Gfp::DMA),
            gfp.contains(Gfp::DMA32),
            gfp.contains(Gfp::MOVABLE),
        );
        match zones {
            (false, false, false) => Self::Plain,
            (true, false, false) => Self::Dma,
            (false, true, false) => Self::Dma32,
            (true, true, false) => Self::DmaDma32,
            (false, false, true) => Self::Movable,
            (true, false, true) => Self::DmaMovable,
            (false, true, true) => Self::Dma32Movable,
            (true, true, true) => Self::DmaDma32Movable,
        }
    }

    pub(crate) fn is_plain(self) -> bool {
        self != Self::Other
    }

    /// Returns the class's index into a table by class.
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl Request {
    /// Returns a request with these flags and this order. It tries the local node first, may use
    /// any node, and has no owner yet.
    #[inline]
    pub const fn new(gfp: Gfp, order: Order) -> Self {
        Self {
            gfp,
            order,
            node: None,
            nodes: NodeMask::ALL,
            entry: Entry::allocated(order, Owner::NONE),
            class: Class::Other,
            zones: Class::Other,
        }
        .classified()
    }

    const fn classified(self) -> Self {
        Self {
            class: Class::of(&self),
            zones: Class::of_any_size(&self),
            ..self
        }
    }

    #[inline]
    pub(crate) const fn class(&self) -> Class {
        self.class
    }

    /// Returns the class that the request would have at order 0.
    #[inline]
    pub(crate) const fn class_of_any_size(&self) -> Class {
        self.zones
    }

    /// Returns the flags.
    pub const fn gfp(&self) -> Gfp {
        self.gfp
    }

    /// Returns the order.
    pub const fn order(&self) -> Order {
        self.order
    }

    /// Returns the wanted node; `None` is the node of the CPU that runs the request.
    pub const fn node(&self) -> Option<NodeId> {
        self.node
    }

    /// Returns the nodes that may be used.
    pub const fn nodes(&self) -> NodeMask {
        self.nodes
    }

    /// Returns the owner that the block will get.
    pub const fn owner(&self) -> Owner {
        self.entry.owner()
    }

    /// Returns the entry that the block will get.
    #[inline]
    pub(crate) const fn entry(&self) -> Entry {
        self.entry
    }

    /// Makes a GFP_KERNEL request.
    #[inline]
    pub const fn kernel(order: Order) -> Self {
        Self::new(Gfp::KERNEL, order)
    }

    /// Makes a GFP_ATOMIC request.
    #[inline]
    pub const fn atomic(order: Order) -> Self {
        Self::new(Gfp::ATOMIC, order)
    }

    /// Makes a GFP_NOWAIT request.
    #[inline]
    pub const fn nowait(order: Order) -> Self {
        Self::new(Gfp::NOWAIT, order)
    }

    /// Makes a GFP_KERNEL request that may use MOVABLE zones. Its owner must be movable.
    #[inline]
    pub const fn movable(order: Order) -> Self {
        Self::new(Gfp(Gfp::KERNEL.0 | Gfp::MOVABLE.0), order)
    }

    /// Returns the request with this owner.
    #[inline]
    pub const fn owned_by(self, owner: Owner) -> Self {
        Self {
            entry: Entry::allocated(self.order, owner),
            ..self
        }
    }

    /// Returns the request with this node tried first.
    #[inline]
    pub const fn on_node(self, node: NodeId) -> Self {
        Self {
            node: Some(node),
            ..self
        }
        .classified()
    }

    /// Returns the request confined to these nodes.
    #[inline]
    pub const fn among(self, nodes: NodeMask) -> Self {
        Self { nodes, ..self }.classified()
    }

    /// Returns the request with these flags, too.
    #[inline]
    pub const fn with(self, gfp: Gfp) -> Self {
        Self {
            gfp: Gfp(self.gfp.0 | gfp.0),
            ..self
        }
        .classified()
    }

    /// Returns the request without these flags.
    #[inline]
    pub const fn without(self, gfp: Gfp) -> Self {
        Self {
            gfp: self.gfp.without(gfp),
            ..self
        }
        .classified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_hold_what_the_table_says_and_every_flag_is_a_bit_of_its_own() {
        let kernel = Gfp::DIRECT_RECLAIM | Gfp::KSWAPD_RECLAIM | Gfp::IO | Gfp::FS;
        assert_eq!(Gfp::KERNEL, kernel);
        assert_eq!(Gfp::ATOMIC, Gfp::HIGH | Gfp::KSWAPD_RECLAIM);
        assert_eq!(Gfp::NOWAIT, Gfp::KSWAPD_RECLAIM | Gfp::NOWARN);
        let flags = [
            Gfp::DMA,
            Gfp::DMA32,
            Gfp::MOVABLE,
            Gfp::HIGH,
            Gfp::KSWAPD_RECLAIM,
            Gfp::DIRECT_RECLAIM,
            Gfp::IO,
            Gfp::FS,
            Gfp::NOWARN,
            Gfp::NORETRY,
            Gfp::RETRY_MAYFAIL,
            Gfp::NOFAIL,
            Gfp::THISNODE,
            Gfp::ZERO,
            Gfp::NOMEMALLOC,
            Gfp::MEMALLOC,
            Gfp::HARDWALL,
        ];
        let all = flags.into_iter().fold(Gfp::NONE, Gfp::bitor);
        assert_eq!(all.0.count_ones() as usize, flags.len());
    }

    #[test]
    fn the_lowest_zone_bit_names_the_highest_zone() {
        let highest = |gfp: Gfp| gfp.highest_zone();
        assert_eq!(highest(Gfp::KERNEL), ZoneKind::Normal);
        assert_eq!(highest(Gfp::KERNEL | Gfp::MOVABLE), ZoneKind::Movable);
        assert_eq!(highest(Gfp::DMA32 | Gfp::MOVABLE), ZoneKind::Dma32);
        assert_eq!(highest(Gfp::DMA | Gfp::DMA32), ZoneKind::Dma);
    }
}
