//! Which requests may share a pageblock: movable ones keep to theirs, unmovable ones to theirs, so
//! that pageblocks can become whole again by migration.
//!
//! Blocks of like sizes share pageblocks as well: a large hole that a small block breaks up is gone
//! for as long as that block lives, and pageblocks in which all sizes mix are never whole again.
//!
//! A pageblock's kind is a few bits beside its state (`flags`): a policy, not a promise. The
//! request that takes the first frame of a wholly free pageblock decides it. When a zone has
//! neither room in pageblocks of a request's own kind nor a wholly free one, the request takes from
//! pageblocks of other sizes; and when there is none of its migrate type either, it steals from the
//! other one's. That is counted, and a pageblock of which half is still free changes sides.

use crate::base::{
    mutant::{self, Mutant},
    owner::Owner,
    request::Gfp,
    types::{Order, ZoneId, ZoneKind},
};

/// Number of kinds that per-CPU caches tell apart.
pub(crate) const CACHED_KINDS: usize = 2;

/// Whether what is allocated can be asked to move; and the kind of pageblocks that hold such
/// blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum MigrateType {
    #[default]
    Unmovable,
    Movable,
    /// Of pageblocks only: kept for requests that cannot wait.
    HighAtomic,
}

impl MigrateType {
    /// Returns what the flags say.
    #[inline]
    pub(crate) const fn of(gfp: Gfp) -> Self {
        if gfp.contains(Gfp::MOVABLE) {
            Self::Movable
        } else {
            Self::Unmovable
        }
    }

    /// Returns what the owner says.
    pub(crate) const fn of_owner(owner: Owner) -> Self {
        if owner.kind().is_movable() {
            Self::Movable
        } else {
            Self::Unmovable
        }
    }

    /// Returns the kind that a request is of in this zone: MOVABLE zones have one only.
    #[inline]
    pub(crate) const fn within(self, zone: ZoneId) -> Self {
        match zone.kind() {
            ZoneKind::Movable => Self::Movable,
            _ => self,
        }
    }

    /// Returns the other kind that caches know.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Unmovable => Self::Movable,
            Self::Movable | Self::HighAtomic => Self::Unmovable,
        }
    }
}

/// What blocks of like sizes have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Size {
    /// Orders 0 to 3: those that are not costly.
    Small,
    /// Orders 4 to 6: up to a word of a pageblock.
    Medium,
    /// Orders 7 and 8: a quarter of a pageblock, and half of one.
    Large,
}

/// Number of sizes.
pub(crate) const SIZES: usize = 3;

/// The kind of a pageblock: what the blocks in it are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageblockKind {
    pub(crate) migrate_type: MigrateType,
    pub(crate) size: Size,
}

impl Size {
    /// Returns the size of a block of this order. What is whole may be split: it counts as small.
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

    /// Returns the kind for the other migrate type, or the reserve.
    pub(crate) const fn turned_to(self, migrate_type: MigrateType) -> Self {
        Self {
            migrate_type,
            ..self
        }
    }
}
