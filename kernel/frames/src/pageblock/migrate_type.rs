//! Which blocks may share a pageblock. Movable and unmovable ones are kept apart, so that migration
//! can make pageblocks whole again.
//!
//! Blocks of different size classes are kept apart as well. A small block in a large hole breaks up
//! the hole for as long as the block lives, and pageblocks in which all sizes mix are never whole
//! again.
//!
//! A pageblock's kind is in its flags; it is a policy, not a promise. The first block in a wholly
//! free pageblock decides it. A request looks in pageblocks of its own kind first, then in wholly
//! free ones, then in those of its migrate type and other sizes. At last it steals from those of
//! the other migrate type. Steals are counted, and a pageblock that is still half free after one
//! changes its kind.

use crate::base::{
    mutant::{self, Mutant},
    owner::Owner,
    request::Gfp,
    types::{Order, ZoneId, ZoneKind},
};

/// Number of migrate types that per-CPU caches tell apart.
pub(crate) const CACHED_KINDS: usize = 2;

/// Whether a block can be moved; and which of these blocks a pageblock is for.
#[doc(alias = "migratetype")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum MigrateType {
    #[default]
    Unmovable,
    Movable,
    /// A migrate type of pageblocks only: they are kept for urgent requests that cannot wait.
    HighAtomic,
}

impl MigrateType {
    /// Returns the migrate type of a request with these flags.
    #[inline]
    pub(crate) const fn of(gfp: Gfp) -> Self {
        if gfp.contains(Gfp::MOVABLE) {
            Self::Movable
        } else {
            Self::Unmovable
        }
    }

    /// Returns the migrate type of a block of this owner.
    pub(crate) const fn of_owner(owner: Owner) -> Self {
        if owner.kind().is_movable() {
            Self::Movable
        } else {
            Self::Unmovable
        }
    }

    /// Returns the migrate type of a request in this zone. In MOVABLE zones all are movable.
    #[inline]
    pub(crate) const fn within(self, zone: ZoneId) -> Self {
        match zone.kind() {
            ZoneKind::Movable => Self::Movable,
            _ => self,
        }
    }

    /// Returns the other migrate type that is cached.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Unmovable => Self::Movable,
            Self::Movable | Self::HighAtomic => Self::Unmovable,
        }
    }
}

/// The size class of a block, or of the blocks that a pageblock is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Size {
    /// Orders 0 to 3, which are not costly.
    Small,
    /// Orders 4 to 6, up to a word of bits.
    Medium,
    /// Orders 7 and 8: a quarter of a pageblock, and half of one.
    Large,
}

/// Number of size classes.
pub(crate) const SIZES: usize = 3;

/// The kind of a pageblock: migrate type and size class of the blocks that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageblockKind {
    pub(crate) migrate_type: MigrateType,
    pub(crate) size: Size,
}

impl Size {
    /// Returns the size class of a block of this order. Orders 9 and 10 count as small, since their
    /// owner may split them.
    #[inline]
    pub(crate) fn of(order: Order) -> Self {
        match order.get() {
            _ if mutant::is(Mutant::SizesMix) => Self::Small,
            4..=6 => Self::Medium,
            7 | 8 => Self::Large,
            _ => Self::Small,
        }
    }
}

impl PageblockKind {
    #[inline]
    pub(crate) fn of(migrate_type: MigrateType, order: Order) -> Self {
        let size = Size::of(order);
        Self { migrate_type, size }
    }

    /// Returns the kind with this migrate type.
    pub(crate) const fn turned_to(self, migrate_type: MigrateType) -> Self {
        Self {
            migrate_type,
            ..self
        }
    }
}
