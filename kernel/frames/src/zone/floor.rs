//! How low a request may take a zone: the marks, and what is left of MIN for those who may go
//! below.

use crate::{
    base::{request::Gfp, types::ZoneKind},
    zone::marks::Marks,
};

/// What a request leaves of a zone, but for the lowmem reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Floor {
    /// The HIGH mark: the last try before OOM.
    High,
    /// The LOW mark: the fast path.
    Low,
    /// The MIN mark: the slow path.
    Min,
    /// Half of MIN: HIGH, or an OOM victim.
    Half,
    /// Three eighths: HIGH that cannot block.
    ThreeEighths,
    /// A quarter: HIGH of an OOM victim.
    Quarter,
    /// Three sixteenths: HIGH of an OOM victim, if it cannot block either.
    ThreeSixteenths,
    /// Nothing at all, and no lowmem reserve: MEMALLOC.
    Nothing,
}

/// Number of floors, a power of two.
pub(crate) const FLOORS: usize = Floor::Nothing as usize + 1;

/// A zone's floors with its lowmem reserves, by the highest zone of the request, in frames.
pub(crate) type Floors = [[u32; FLOORS]; ZoneKind::ALL.len()];

impl Floor {
    const ALL: [Self; FLOORS] = [
        Self::High,
        Self::Low,
        Self::Min,
        Self::Half,
        Self::ThreeEighths,
        Self::Quarter,
        Self::ThreeSixteenths,
        Self::Nothing,
    ];

    /// Returns what the flags permit on the slow path. NOMEMALLOC takes back what HIGH gets for not
    /// being able to block.
    pub(crate) const fn of(gfp: Gfp) -> Self {
        let may_block = gfp.contains(Gfp::DIRECT_RECLAIM);
        match (gfp.contains(Gfp::HIGH), may_block) {
            (false, _) => Self::Min,
            (true, false) if !gfp.contains(Gfp::NOMEMALLOC) => Self::ThreeEighths,
            (true, _) => Self::Half,
        }
    }

    /// Returns what an OOM victim may do: it halves what is left.
    pub(crate) const fn of_victim(self) -> Self {
        match self {
            Self::Min => Self::Half,
            Self::Half => Self::Quarter,
            Self::ThreeEighths => Self::ThreeSixteenths,
            other => other,
        }
    }

    /// Counts the frames that stay, lowmem reserve aside. Each step takes its part off, rounded
    /// down.
    fn frames(self, marks: &Marks) -> u64 {
        let half = |mark| mark - mark / 2;
        let three_quarters = |mark| mark - mark / 4;
        match self {
            Self::High => marks.high,
            Self::Low => marks.low,
            Self::Min => marks.min,
            Self::Half => half(marks.min),
            Self::ThreeEighths => three_quarters(half(marks.min)),
            Self::Quarter => half(half(marks.min)),
            Self::ThreeSixteenths => half(three_quarters(half(marks.min))),
            Self::Nothing => 0,
        }
    }
}

/// Computes a zone's floors.
pub(crate) fn floors(marks: &Marks, reserve: &[u64; ZoneKind::ALL.len()]) -> Floors {
    let with = |floor: Floor, reserve| match floor {
        Floor::Nothing => 0,
        // 16 TiB of frames at most: no mark and no reserve of a real zone comes near.
        floor => u32::try_from(floor.frames(marks) + reserve).unwrap_or(u32::MAX),
    };
    reserve.map(|reserve| Floor::ALL.map(|floor| with(floor, reserve)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_lead_to_the_floors_of_the_table() {
        let high = Gfp::KERNEL | Gfp::HIGH;
        let table = [
            (Gfp::NONE, Floor::Min, Floor::Half),
            (Gfp::NOWAIT, Floor::Min, Floor::Half),
            (Gfp::KERNEL, Floor::Min, Floor::Half),
            (high, Floor::Half, Floor::Quarter),
            (Gfp::ATOMIC, Floor::ThreeEighths, Floor::ThreeSixteenths),
            (Gfp::ATOMIC | Gfp::NOMEMALLOC, Floor::Half, Floor::Quarter),
            (high | Gfp::NOMEMALLOC, Floor::Half, Floor::Quarter),
        ];
        for (gfp, floor, of_victim) in table {
            assert_eq!(Floor::of(gfp), floor, "{gfp:?}");
            assert_eq!(floor.of_victim(), of_victim, "{gfp:?}");
        }
        for floor in [Floor::High, Floor::Low, Floor::Nothing] {
            assert_eq!(floor.of_victim(), floor);
        }
    }

    /// Worked by hand: MIN 1,763, so that every step rounds.
    #[test]
    fn floors_are_rounded_step_by_step_and_have_the_reserve_on_top() {
        let marks = Marks {
            min: 1_763,
            low: 2_545,
            high: 3_327,
        };
        let floors = floors(&marks, &[0, 0, 256, 384]);
        // 1,763 − 881; 882 − 220; 882 − 441; 662 − 331.
        let bare = [3_327, 2_545, 1_763, 882, 662, 441, 331, 0];
        assert_eq!(floors[0], bare);
        assert_eq!(floors[1], bare);
        let with = |more| bare.map(|frames| if frames == 0 { 0 } else { frames + more });
        assert_eq!(floors[2], with(256));
        assert_eq!(floors[3], with(384));
    }
}
