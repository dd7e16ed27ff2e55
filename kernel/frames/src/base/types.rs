//! Numbers of frames, orders, nodes, zones, CPUs and memory sections.

use core::fmt;

/// Size of a frame in bytes.
pub const FRAME_SIZE: u64 = 4096;
/// Most nodes that a machine may have.
pub const MAX_NODES: usize = 8;
/// Most CPUs that a machine may have.
pub const MAX_CPUS: usize = 64;
/// Zones of a machine: four kinds on each node.
pub const MAX_ZONES: usize = MAX_NODES * ZoneKind::ALL.len();

/// Physical frame number: the physical address divided by [`FRAME_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(pub u64);

impl Pfn {
    /// Returns the frame that holds a physical address.
    pub const fn containing(address: u64) -> Self {
        Self(address / FRAME_SIZE)
    }

    /// Returns the physical address of the frame's first byte.
    pub const fn address(self) -> u64 {
        self.0 * FRAME_SIZE
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Frames from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PfnRange {
    /// First frame.
    pub start: Pfn,
    /// Frame after the last one.
    pub end: Pfn,
}

impl PfnRange {
    /// Makes the range from `start` up to, not including, `end`.
    pub const fn new(start: Pfn, end: Pfn) -> Self {
        Self { start, end }
    }

    /// Returns the number of frames.
    pub const fn len(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Returns whether the range holds no frame.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns whether `pfn` is in the range.
    pub const fn contains(self, pfn: Pfn) -> bool {
        self.start.0 <= pfn.0 && pfn.0 < self.end.0
    }
}

/// Size of a block of frames, as a power of two: 0 to [`Order::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order(u8);

impl Order {
    /// One frame.
    pub const ZERO: Self = Self(0);
    pub(crate) const ONE: Self = Self(1);
    pub(crate) const TWO: Self = Self(2);
    /// 512 frames, 2 MiB.
    pub const HUGE: Self = Self(9);
    /// 1,024 frames, 4 MiB: the largest.
    pub const MAX: Self = Self(10);
    /// Orders above this one are costly: the slow path gives up on them early.
    pub const COSTLY: Self = Self(3);

    /// Returns the order, or nothing if it is above [`Order::MAX`].
    pub const fn new(order: u8) -> Option<Self> {
        if order <= Self::MAX.0 {
            Some(Self(order))
        } else {
            None
        }
    }

    /// Returns the order of a number that [`Order::get`] has returned.
    #[inline]
    pub(crate) const fn truncated(order: u8) -> Self {
        Self(order)
    }

    /// Returns the exponent, 0 to 10.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns the number of frames, 1 to 1,024.
    #[inline]
    pub const fn frames(self) -> u64 {
        1 << self.0
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a NUMA node, 0 to [`MAX_NODES`] − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u8);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMask(pub u8);

impl NodeMask {
    /// Every node.
    pub const ALL: Self = Self(u8::MAX);
    /// No node.
    pub const NONE: Self = Self(0);

    /// Returns the set of this node alone.
    ///
    /// # Panics
    ///
    /// Panics if the node's number is [`MAX_NODES`] or more.
    pub const fn only(node: NodeId) -> Self {
        Self::NONE.with(node)
    }

    /// Returns whether `node` is in the set. Numbers from [`MAX_NODES`] on are in no set.
    pub const fn contains(self, node: NodeId) -> bool {
        (node.0 as usize) < MAX_NODES && self.0 >> node.0 & 1 == 1
    }

    /// Returns the set with `node`.
    ///
    /// # Panics
    ///
    /// Panics if the node's number is [`MAX_NODES`] or more.
    #[must_use]
    pub const fn with(self, node: NodeId) -> Self {
        assert!((node.0 as usize) < MAX_NODES, "no such node");
        Self(self.0 | 1 << node.0)
    }

    /// Returns the nodes that are in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the nodes of this set that are not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the set's nodes, in ascending order.
    pub fn iter(self) -> impl Iterator<Item = NodeId> {
        (0..MAX_NODES as u8)
            .map(NodeId)
            .filter(move |&node| self.contains(node))
    }
}

/// The kinds of zone, lowest first. A kind's number is its zones' index in zonelists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ZoneKind {
    /// Below 16 MiB.
    Dma,
    /// Below 4 GiB.
    Dma32,
    /// All other boot memory, and some hot-plugged memory.
    Normal,
    /// Memory that is meant to leave. Only movable requests may use it.
    Movable,
}

impl ZoneKind {
    /// Every kind, lowest first.
    pub const ALL: [Self; 4] = [Self::Dma, Self::Dma32, Self::Normal, Self::Movable];

    /// Returns the name used in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dma => "DMA",
            Self::Dma32 => "DMA32",
            Self::Normal => "Normal",
            Self::Movable => "Movable",
        }
    }

    /// Returns the kind of zone for boot memory at `pfn`.
    pub const fn of_boot_memory(pfn: Pfn) -> Self {
        match pfn.address() {
            0..0x100_0000 => Self::Dma,
            0x100_0000..0x1_0000_0000 => Self::Dma32,
            _ => Self::Normal,
        }
    }
}

impl fmt::Display for ZoneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A zone of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneId(u8);

impl ZoneId {
    /// Returns the zone of this kind on this node.
    ///
    /// # Panics
    ///
    /// Panics if the node's number is [`MAX_NODES`] or more.
    pub const fn new(node: NodeId, kind: ZoneKind) -> Self {
        assert!((node.0 as usize) < MAX_NODES, "no such node");
        Self(node.0 * ZoneKind::ALL.len() as u8 + kind as u8)
    }

    /// Returns the zone of this number; the inverse of [`ZoneId::index`]. Numbers above 255 are
    /// truncated, and those from [`MAX_ZONES`] on name no zone.
    pub const fn from_index(index: usize) -> Self {
        Self(index as u8)
    }

    /// Returns the number, 0 to [`MAX_ZONES`] − 1.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the node.
    pub const fn node(self) -> NodeId {
        NodeId(self.0 / ZoneKind::ALL.len() as u8)
    }

    /// Returns the kind.
    pub const fn kind(self) -> ZoneKind {
        ZoneKind::ALL[self.0 as usize % ZoneKind::ALL.len()]
    }
}

impl fmt::Display for ZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} {}", self.node(), self.kind())
    }
}

/// The number of a CPU, 0 to [`MAX_CPUS`] − 1. It is not the APIC id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(pub usize);

/// The number of a memory section, which has 128 MiB and is the unit of hot-plug: the physical
/// address divided by that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionNo(pub usize);

impl SectionNo {
    /// Returns the section that holds a frame.
    pub const fn containing(pfn: Pfn) -> Self {
        Self((pfn.0 / crate::SECTION_FRAMES as u64) as usize)
    }

    /// The first section that the allocator cannot manage. Caches keep frame numbers in 32 bits,
    /// which is enough for 16 TiB.
    pub const END: Self = Self((1 << 32) / crate::SECTION_FRAMES);

    /// Returns the section's first frame. Frame numbers saturate at the largest `u64`.
    pub const fn start(self) -> Pfn {
        Pfn(self.0.saturating_mul(crate::SECTION_FRAMES) as u64)
    }
}

/// Number of orders.
pub const ORDERS: usize = Order::MAX.get() as usize + 1;
