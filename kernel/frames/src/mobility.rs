//! Which requests may share an area: movable ones keep to theirs, unmovable ones to theirs, so that
//! areas can become whole again by migration.
//!
//! An area's kind is a byte beside its state: a policy, not a promise. The request that takes the
//! first frame of a wholly free area decides it. When a zone has neither room in areas of a
//! request's own kind nor a wholly free one, the request steals from another kind's area; that is
//! counted, and an area of which half is still free changes sides.

use crate::{
    CpuCaches, Frames, Gfp, Order, Owner, Pfn, Platform, ZoneId, ZoneKind,
    alloc::Wanted,
    memory::{AREA_FRAMES, AreaRef},
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

    /// The kind with this number; numbers that nobody stored are unmovable.
    #[inline]
    pub(crate) const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Movable,
            2 => Self::HighAtomic,
            _ => Self::Unmovable,
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

impl<'m, P: Platform> Frames<'m, P> {
    /// Takes a block of order 0 to 8 from areas, or this CPU's cache, of another kind: nothing of
    /// its own is left. Pinned on the CPU of `cpu`.
    #[cold]
    pub(crate) fn steal(&self, zone: ZoneId, wanted: Wanted, cpu: &CpuCaches) -> Option<Pfn> {
        let Wanted {
            order, mobility, ..
        } = wanted;
        if order >= Order::HUGE {
            return None;
        }
        let stolen = self.take_foreign(zone, order, mobility, cpu).or_else(|| {
            let other = cpu.cache(zone, mobility.other());
            (order == Order::ZERO)
                .then(|| self.take_left_over(zone, other, cpu))
                .flatten()
        })?;
        let share = cpu.events[zone.index()].of(wanted.context);
        share.steals.add(1);
        Some(stolen)
    }

    /// Lets an area change sides if at least half of it is free after something was stolen.
    pub(crate) fn convert(&self, area: AreaRef<'m>, mobility: Mobility) {
        if area.core().state().free() as usize >= AREA_FRAMES / 2 {
            area.turn_to(mobility);
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "mobility_tests.rs"]
mod tests;
