//! Which requests may share an area: movable ones keep to theirs, unmovable ones to theirs, so that
//! areas can become whole again by migration.
//!
//! Blocks of like sizes share areas as well: a large hole that a small block breaks up is gone for as
//! long as that block lives, and areas in which all sizes mix are never whole again.
//!
//! An area's kind is a few bits beside its state (`home`): a policy, not a promise. The request that takes the
//! first frame of a wholly free area decides it. When a zone has neither room in areas of a
//! request's own kind nor a wholly free one, the request takes from areas of other sizes; and when
//! there is none of its mobility either, it steals from the other one's. That is counted, and an area
//! of which half is still free changes sides.

use crate::{
    alloc::context::Wanted,
    base::{
        mutant::{self, Mutant},
        owner::Owner,
        platform::{Platform, step},
        request::Gfp,
        types::{Order, Pfn, ZoneId, ZoneKind},
    },
    cache::cpu::CpuCaches,
    frames::Frames,
    pageblock::memory::{AREA_FRAMES, AreaRef},
};

/// Number of kinds that per-CPU caches tell apart.
pub(crate) const CACHED_KINDS: usize = 2;

/// Whether what is allocated can be asked to move; and the kind of areas that hold such blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mobility {
    #[default]
    Unmovable,
    Movable,
    /// Of areas only: kept for requests that cannot wait.
    HighAtomic,
}

impl Mobility {
    /// What the flags say.
    #[inline]
    pub(crate) const fn of(gfp: Gfp) -> Self {
        if gfp.contains(Gfp::MOVABLE) {
            Self::Movable
        } else {
            Self::Unmovable
        }
    }

    /// What the owner says.
    pub(crate) const fn of_owner(owner: Owner) -> Self {
        if owner.kind().is_movable() {
            Self::Movable
        } else {
            Self::Unmovable
        }
    }

    /// The kind that a request is of in this zone: MOVABLE zones have one only.
    #[inline]
    pub(crate) const fn within(self, zone: ZoneId) -> Self {
        match zone.kind() {
            ZoneKind::Movable => Self::Movable,
            _ => self,
        }
    }

    /// The other kind that caches know.
    const fn other(self) -> Self {
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
    /// Orders 4 to 6: up to a word of an area.
    Medium,
    /// Orders 7 and 8: a quarter of an area, and half of one.
    Large,
}

/// Number of sizes.
pub(crate) const SIZES: usize = 3;

/// The kind of an area: what the blocks in it are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) mobility: Mobility,
    pub(crate) size: Size,
}

impl Size {
    /// Of a block of this order. What is whole may be split: it counts as small.
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

impl Kind {
    #[inline]
    pub(crate) fn of(mobility: Mobility, order: Order) -> Self {
        let size = Size::of(order);
        Self { mobility, size }
    }

    /// The same for the other mobility, or the reserve.
    pub(crate) const fn turned_to(self, mobility: Mobility) -> Self {
        Self { mobility, ..self }
    }
}

impl<'m, P: Platform> Frames<'m, P> {
    /// Takes a block that is there only if this CPU gives up what it keeps in larger ones, or else one
    /// of order 0 to 8 from areas, or this CPU's cache, of another kind: nothing of its own is left. Pinned on the CPU of `cpu`.
    #[cold]
    pub(crate) fn steal(&self, zone: ZoneId, wanted: Wanted, cpu: &CpuCaches) -> Option<Pfn> {
        let Wanted {
            order, mobility, ..
        } = wanted;
        if self.give_up_blocks(zone, cpu)
            && let Some(pfn) = self.take_from_zone(zone, order, mobility, cpu)
        {
            return Some(pfn);
        }
        if order >= Order::HUGE {
            return None;
        }
        step!(self);
        let stolen = self.take_foreign(zone, order, mobility, cpu).or_else(|| {
            let other = cpu.cache(zone, mobility.other());
            (order == Order::ZERO)
                .then(|| self.take_left_over(zone, other, cpu))
                .flatten()
        });
        let Some(stolen) = stolen else {
            // A handler that stole between the two searches may have turned the last area of the
            // other mobility to this one: no longer foreign, and not looked at before.
            return self.take_from_zone(zone, order, mobility, cpu);
        };
        step!(self);
        let share = cpu.events[zone.index()].of(wanted.context);
        share.steals.add(1);
        Some(stolen)
    }

    /// Lets an area change sides if at least half of it is free after something was stolen.
    pub(crate) fn convert(&self, area: AreaRef<'m>, kind: Kind) {
        if area.core().state().free() as usize >= AREA_FRAMES / 2 {
            area.turn_to(kind);
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "mobility_tests.rs"]
mod tests;
