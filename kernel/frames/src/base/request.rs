//! What a caller asks for.

use crate::base::{
    owner::{Entry, Owner},
    types::{NodeId, NodeMask, Order, ZoneKind},
};
use core::ops::BitOr;

/// Request flags, with the field's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gfp(pub(crate) u32);

impl Gfp {
    /// Only the DMA zone.
    pub const DMA: Self = Self(1 << 0);
    /// DMA32 or lower.
    pub const DMA32: Self = Self(1 << 1);
    /// The owner can be asked to move the frame: MOVABLE zones may be used.
    pub const MOVABLE: Self = Self(1 << 2);
    /// May go below the MIN watermark.
    pub const HIGH: Self = Self(1 << 3);
    /// Wakes the background reclaimer.
    pub const KSWAPD_RECLAIM: Self = Self(1 << 4);
    /// May reclaim itself; acts only with a task token.
    pub const DIRECT_RECLAIM: Self = Self(1 << 5);
    /// Reclaim may start I/O.
    pub const IO: Self = Self(1 << 6);
    /// Reclaim may enter the file layer.
    pub const FS: Self = Self(1 << 7);
    /// Failure is not reported.
    pub const NOWARN: Self = Self(1 << 8);
    /// Gives up after one round of reclaim.
    pub const NORETRY: Self = Self(1 << 9);
    /// Tries hard, but fails rather than kill.
    pub const RETRY_MAYFAIL: Self = Self(1 << 10);
    /// Never fails; waits in a task.
    pub const NOFAIL: Self = Self(1 << 11);
    /// Only the wanted node.
    pub const THISNODE: Self = Self(1 << 12);
    /// The frames are zeroed.
    pub const ZERO: Self = Self(1 << 13);
    /// Never uses the reserves.
    pub const NOMEMALLOC: Self = Self(1 << 14);
    /// Ignores the watermarks: the request itself frees memory soon.
    pub const MEMALLOC: Self = Self(1 << 15);
    /// Only nodes of the task's cpuset.
    pub const HARDWALL: Self = Self(1 << 16);

    /// No flag.
    pub const NONE: Self = Self(0);
    /// Ordinary kernel memory.
    pub const KERNEL: Self =
        Self(Self::DIRECT_RECLAIM.0 | Self::KSWAPD_RECLAIM.0 | Self::IO.0 | Self::FS.0);
    /// From contexts that cannot wait.
    pub const ATOMIC: Self = Self(Self::HIGH.0 | Self::KSWAPD_RECLAIM.0);
    /// From contexts that cannot wait and can do without.
    pub const NOWAIT: Self = Self(Self::KSWAPD_RECLAIM.0 | Self::NOWARN.0);

    /// Returns whether every flag of `flags` is set.
    #[inline]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Returns these without the other's.
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
    /// Wanted node; `None` is the node of the CPU that asks.
    node: Option<NodeId>,
    /// Nodes that may be used.
    nodes: NodeMask,
    /// The block's entry: size, and who will own it. [`Owner::NONE`] until the owner is set means
    /// "in flight".
    entry: Entry,
    /// What of the above the hot path wants to know; whoever changes them computes it anew.
    class: Class,
    /// The class that the request would have if it were for a single frame.
    zones: Class,
}

/// What the hot path wants to know of a request: the zones that it may use if it is plain, that is
/// for a single frame from anywhere, as it is.
///
/// The plain ones are named by the zones that they ask for: the compiler then knows that a table
/// with one entry each has a place for any of them.
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
    /// Of requests that are not plain.
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

    /// Returns the index into a table.
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl Request {
    /// Returns a request with these flags: local node first, any node allowed, no owner yet.
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

    /// Returns the class that it would have if it were for a single frame.
    #[inline]
    pub(crate) const fn class_of_any_size(&self) -> Class {
        self.zones
    }

    /// Flags.
    pub const fn gfp(&self) -> Gfp {
        self.gfp
    }

    /// Returns the size.
    pub const fn order(&self) -> Order {
        self.order
    }

    /// Returns the wanted node; `None` is the node of the CPU that asks.
    pub const fn node(&self) -> Option<NodeId> {
        self.node
    }

    /// Returns the nodes that may be used.
    pub const fn nodes(&self) -> NodeMask {
        self.nodes
    }

    /// Returns the owner that the block will have.
    pub const fn owner(&self) -> Owner {
        self.entry.owner()
    }

    /// Returns what the block's entry will say.
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

    /// Makes a GFP_KERNEL request that may use MOVABLE zones: the owner must be movable.
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

    /// Returns the request with more flags.
    #[inline]
    pub const fn with(self, gfp: Gfp) -> Self {
        Self {
            gfp: Gfp(self.gfp.0 | gfp.0),
            ..self
        }
        .classified()
    }

    /// Returns these without the other's.
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
