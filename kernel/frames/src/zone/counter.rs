//! Changes of a zone's counter of free frames, and what must follow them.

use crate::{
    base::{
        platform::{Platform, step},
        types::ZoneId,
    },
    pageblock::{bits::State, section_meta::PAGEBLOCK_FRAMES},
    zone::Zones,
};

/// What frames that were given back to pageblocks change in their zone.
#[derive(Clone, Copy)]
pub(crate) struct Returned {
    /// Frames added to the zone's counter.
    pub(crate) counted: u32,
    /// Whether a pageblock is wholly free now.
    pub(crate) completes: bool,
}

impl Returned {
    /// Returns what `frames` more change in the zone, by the pageblock's state before.
    #[inline]
    pub(crate) fn to(before: State, frames: u32) -> Self {
        Self {
            counted: if before.is_isolated() { 0 } else { frames },
            completes: u32::from(before.0).wrapping_add(frames) == u32::from(State::EMPTY.0),
        }
    }

    /// Returns what the free frames of a pageblock change in the zone when its isolation ends.
    #[inline]
    pub(crate) fn unisolated(frames: u32) -> Self {
        Self::to(State::FULL, frames)
    }

    /// Returns what whole pageblocks that came back change in the zone, by their states before.
    #[inline]
    pub(crate) fn whole(before: &[State]) -> Self {
        let counted = before.iter().filter(|state| !state.is_isolated()).count();
        Self {
            counted: (counted * PAGEBLOCK_FRAMES) as u32,
            completes: counted > 0,
        }
    }
}

impl<P: Platform> Zones<'_, P> {
    /// Adds frames to a zone's counter.
    #[inline]
    pub(crate) fn gain(&self, id: ZoneId, frames: u32) {
        let returned = Returned {
            counted: frames,
            completes: false,
        };
        self.gain_returned(id, returned);
    }

    /// Adds frames that were returned to pageblocks to their zone's counter. Also counts a
    /// completed pageblock, and updates what follows the watermarks.
    #[inline]
    pub(crate) fn gain_returned(&self, id: ZoneId, returned: Returned) {
        let zone = self.zone(id);
        let before = zone.add_free(returned.counted);
        if before <= zone.highest_followed() || returned.completes {
            self.note_returned(id, before, returned);
        }
    }

    #[cold]
    #[inline(never)]
    fn note_returned(&self, id: ZoneId, before: i64, returned: Returned) {
        step!(self);
        if returned.completes {
            self.zone(id).free_huge.note();
        }
        self.crossed(id, before, before + i64::from(returned.counted));
    }

    /// Subtracts frames from a zone's counter, and updates what follows the watermarks.
    #[inline]
    pub(crate) fn lose(&self, id: ZoneId, frames: u32) {
        let zone = self.zone(id);
        let before = zone.subtract_free(frames);
        let after = before - i64::from(frames);
        if after <= zone.highest_followed() {
            self.crossed(id, before, after);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pageblocks_that_come_back_are_counted_unless_they_are_isolated() {
        let states = [State::EMPTY, State::COMPACTED_EMPTY];
        for (before, pageblocks) in [
            (&[states[0]; 2][..], 2),
            (&states, 1),
            (&states[..1], 1),
            (&states[1..], 0),
        ] {
            let returned = Returned::whole(before);
            assert_eq!(returned.counted, pageblocks * PAGEBLOCK_FRAMES as u32);
            assert_eq!(returned.completes, pageblocks > 0);
        }
    }
}
