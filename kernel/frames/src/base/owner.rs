//! The frame's entry: its state, its order and its owner.

use crate::base::types::Order;

/// What kind of user holds a frame. `None` marks a birth or a death under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OwnerKind {
    /// No owner yet, or no longer one: an offline waits for the frame instead of naming its owner.
    None,
    /// The kernel itself; not movable. Its users choose the number.
    Kernel,
    /// The page cache; movable. The number is the page's index.
    PageCache,
    /// A demonstration's interrupt source.
    Interrupt,
    /// The demonstration's balloon.
    Balloon,
    /// A thread's stack.
    Stack,
    /// A page table.
    PageTable,
    /// A test.
    Test,
    /// A demonstration's task.
    Task,
}

impl OwnerKind {
    pub(crate) const ALL: [Self; 9] = [
        Self::None,
        Self::Kernel,
        Self::PageCache,
        Self::Interrupt,
        Self::Balloon,
        Self::Stack,
        Self::PageTable,
        Self::Test,
        Self::Task,
    ];

    /// Returns whether the platform can be asked to move a frame of this owner.
    pub const fn is_movable(self) -> bool {
        matches!(self, Self::PageCache)
    }

    /// Returns the name used in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "nobody",
            Self::Kernel => "kernel",
            Self::PageCache => "page cache",
            Self::Interrupt => "interrupt",
            Self::Balloon => "balloon",
            Self::Stack => "stack",
            Self::PageTable => "page table",
            Self::Test => "test",
            Self::Task => "task",
        }
    }
}

/// A frame's owner: a kind and a number of 22 bits, packed into the frame's entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(u32);

impl Owner {
    /// A birth or death under way.
    pub const NONE: Self = Self::new(OwnerKind::None, 0);
    /// The largest number.
    pub const MAX_NUMBER: u32 = (1 << 22) - 1;

    /// Makes an owner; only the low 22 bits of `number` are kept.
    pub const fn new(kind: OwnerKind, number: u32) -> Self {
        Self((kind as u32) << 22 | number & Self::MAX_NUMBER)
    }

    /// Returns the kind.
    pub const fn kind(self) -> OwnerKind {
        // No entry holds a kind that was never packed. If one does, it counts as `None`.
        let kind = (self.0 >> 22) as usize;
        OwnerKind::ALL[if kind < OwnerKind::ALL.len() { kind } else { 0 }]
    }

    /// Returns the number.
    pub const fn number(self) -> u32 {
        self.0 & Self::MAX_NUMBER
    }

    /// Packs the owner into 26 bits.
    pub(crate) const fn pack(self) -> u32 {
        self.0
    }

    pub(crate) const fn unpack(bits: u32) -> Self {
        let owner = Self(bits & ((1 << 26) - 1));
        Self::new(owner.kind(), owner.number())
    }
}

impl core::fmt::Debug for Owner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Owner")
            .field("kind", &self.kind())
            .field("number", &self.number())
            .finish()
    }
}

impl core::fmt::Display for Owner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {}", self.kind().name(), self.number())
    }
}

/// A frame's entry: state in bits 30–31, order in 26–29, owner in 0–25. The entry of a block is
/// that of its first frame; those of its other frames say *free*. A word of 0 is *free*.
#[doc(alias("page", "page_owner"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u32);

impl Entry {
    pub(crate) const FREE: Self = Self(0);
    pub(crate) const CACHED: Self = Self(1 << 30);
    pub(crate) const ABSENT: Self = Self(3 << 30);
    const ALLOCATED: u32 = 2 << 30;

    /// Makes the entry of the first frame of a block in a CPU's cache.
    #[inline]
    pub(crate) const fn cached(order: Order) -> Self {
        Self(Self::CACHED.0 | (order.get() as u32) << 26)
    }

    /// Returns the order and the holder of the block that begins here: an owner, or else a CPU's
    /// cache.
    pub(crate) fn block(self) -> Option<(Order, Option<Owner>)> {
        let order = Order::new((self.0 >> 26 & 0xf) as u8)?;
        match self.0 >> 30 {
            1 => Some((order, None)),
            2 => Some((order, Some(Owner::unpack(self.0)))),
            _ => None,
        }
    }

    #[inline]
    pub(crate) const fn allocated(order: Order, owner: Owner) -> Self {
        Self(Self::ALLOCATED | (order.get() as u32) << 26 | owner.pack())
    }

    /// Returns the owner of an allocated block.
    pub(crate) const fn owner(self) -> Owner {
        Owner::unpack(self.0)
    }

    /// Returns whether the entry says *allocated* with this order, by any owner.
    #[inline]
    pub(crate) const fn is_allocated(self, order: Order) -> bool {
        self.0 >> 26 ^ order.get() as u32 == Self::ALLOCATED >> 26
    }

    pub(crate) fn state(self) -> FrameState {
        match (self.0 >> 30, Order::new((self.0 >> 26 & 0xf) as u8)) {
            (0, _) => FrameState::Free,
            (1, _) => FrameState::Cached,
            (2, Some(order)) => FrameState::Allocated {
                order,
                owner: Owner::unpack(self.0),
            },
            _ => FrameState::Absent,
        }
    }
}

/// What a frame's entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameState {
    /// Free, or part of a larger allocated block; the entry of its first frame says so.
    Free,
    /// In a CPU's cache.
    Cached,
    /// First frame of an allocated block.
    Allocated {
        /// Order of the block.
        order: Order,
        /// Owner of the block.
        owner: Owner,
    },
    /// Not managed by the allocator: a hole, memory of the firmware, or the kernel's image.
    Absent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_what_they_are_given() {
        for kind in OwnerKind::ALL {
            for number in [0, 1, 77, Owner::MAX_NUMBER] {
                for order in (0..=10).filter_map(Order::new) {
                    let owner = Owner::new(kind, number);
                    let entry = Entry::allocated(order, owner);
                    assert_eq!(entry.state(), FrameState::Allocated { order, owner });
                    assert!(entry.is_allocated(order));
                    assert!(!entry.is_allocated(Order::new((order.get() + 1) % 11).unwrap()));
                }
            }
        }
        assert_eq!(Entry::FREE.state(), FrameState::Free);
        assert_eq!(Entry::CACHED.state(), FrameState::Cached);
        assert_eq!(Entry::ABSENT.state(), FrameState::Absent);
        for entry in [Entry::FREE, Entry::CACHED, Entry::ABSENT] {
            assert!(!entry.is_allocated(Order::ZERO));
        }
    }
}
