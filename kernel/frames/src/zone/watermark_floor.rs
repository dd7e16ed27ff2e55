//! How low a request may take a zone: a watermark, or a part of MIN for requests that may go below
//! it.
//!
//! # Where watermarks are tested
//!
//! The comparison of the fast path and of `zone/high_atomic` is `Zone::watermark_ok_with`, with the
//! lowmem reserve in the floor. `first_above` writes it out, and `zone/sides` compares for the bits
//! of `zone/above` and for the limits of caches. There is no test by order, as Linux's
//! `__zone_watermark_ok` has: without free lists nothing counts blocks by order.
//!
//! | where | function | what has to hold |
//! |---|---|---|
//! | hot path | `alloc/hot`, `take_hot` | nothing: a cached frame has left the zone's free count |
//! | fast path, at first | `alloc/fast`, `try_list`, by a bit of `zone/above` | free > LOW + lowmem reserve |
//! | fast path, and bulk | `watermark_ok` in `zone/high_atomic` | free > LOW + lowmem reserve + 2^order − 1, frames of the high-atomic reserve not counted |
//! | bulk, how many | `take_batch` in `alloc/bulk`, by `Zone::above` | free > LOW + lowmem reserve + the whole high-atomic reserve |
//! | slow path | `first_above` and `take_found` in `alloc/list_walk` | as above, with the floor that `alloc/limits` chooses for the walk |
//! | before another round | `could_progress` in `alloc/reclaim` | the round's floor, if all that is reclaimable were free |
//! | compaction | `zones_to_compact` in `alloc/compact` | the round's floor |
//! | refill with single frames | `refill` in `cache/batch` | as many as are above LOW; else one, above MIN; reserves are not deducted |
//! | refill with larger blocks | `refill_blocks` in `cache/blocks` | as many as are above HIGH |
//! | free into a cache | `put_into` in `cache/one` and `free_in_row` in `cache/free`, by `zone/cache_limit` | free ≥ LOW; for larger blocks free ≥ HIGH |
//! | background reclaim | `reclaim_wanted` in `alloc/reclaim` | free ≥ HIGH; reserves are not deducted |
//!
//! Linux's `__GFP_HIGH` is [`Gfp::HIGH`] here, and not the HIGH watermark.

use crate::{
    base::{request::Gfp, types::ZoneKind},
    zone::watermark::Watermarks,
};

/// What a request must leave free in a zone, apart from the lowmem reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WatermarkFloor {
    /// The HIGH watermark, for the last try before OOM.
    High,
    /// The LOW watermark, for the fast path.
    Low,
    /// The MIN watermark, for the slow path.
    Min,
    /// Half of MIN, for `Gfp::HIGH`, or an OOM victim.
    Half,
    /// Three eighths of MIN, for `Gfp::HIGH` that cannot block.
    ThreeEighths,
    /// A quarter of MIN, for `Gfp::HIGH` of an OOM victim.
    Quarter,
    /// Three sixteenths of MIN, for `Gfp::HIGH` of an OOM victim that cannot block.
    ThreeSixteenths,
    /// No frame, and no lowmem reserve either, for MEMALLOC.
    Nothing,
}

/// Number of floors, a power of two.
pub(crate) const FLOORS: usize = WatermarkFloor::Nothing as usize + 1;

/// A zone's floors with its lowmem reserves, by the highest zone of the request, in frames.
pub(crate) type Floors = [[u32; FLOORS]; ZoneKind::ALL.len()];

impl WatermarkFloor {
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

    /// Returns what the flags permit on the slow path. With NOMEMALLOC, HIGH keeps half of MIN even
    /// if it cannot block.
    pub(crate) const fn of(gfp: Gfp) -> Self {
        let may_block = gfp.contains(Gfp::DIRECT_RECLAIM);
        match (gfp.contains(Gfp::HIGH), may_block) {
            (false, _) => Self::Min,
            (true, false) if !gfp.contains(Gfp::NOMEMALLOC) => Self::ThreeEighths,
            (true, _) => Self::Half,
        }
    }

    /// Returns the floor of an OOM victim: half of this one, if it is MIN or a part of it.
    pub(crate) const fn of_victim(self) -> Self {
        match self {
            Self::Min => Self::Half,
            Self::Half => Self::Quarter,
            Self::ThreeEighths => Self::ThreeSixteenths,
            other => other,
        }
    }

    /// Returns how many frames stay free, without the lowmem reserve. Each step subtracts its part,
    /// rounded down.
    fn frames(self, watermarks: &Watermarks) -> u64 {
        let half = |watermark| watermark - watermark / 2;
        let three_quarters = |watermark| watermark - watermark / 4;
        match self {
            Self::High => watermarks.high,
            Self::Low => watermarks.low,
            Self::Min => watermarks.min,
            Self::Half => half(watermarks.min),
            Self::ThreeEighths => three_quarters(half(watermarks.min)),
            Self::Quarter => half(half(watermarks.min)),
            Self::ThreeSixteenths => half(three_quarters(half(watermarks.min))),
            Self::Nothing => 0,
        }
    }
}

/// Computes a zone's floors.
pub(crate) fn floors(watermarks: &Watermarks, reserve: &[u64; ZoneKind::ALL.len()]) -> Floors {
    let with = |floor: WatermarkFloor, reserve| match floor {
        WatermarkFloor::Nothing => 0,
        // Memory has 16 TiB at most, so no watermark and no reserve of a real zone comes near this
        // limit.
        floor => u32::try_from(floor.frames(watermarks) + reserve).unwrap_or(u32::MAX),
    };
    reserve.map(|reserve| WatermarkFloor::ALL.map(|floor| with(floor, reserve)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_lead_to_the_floors_of_the_table() {
        let high = Gfp::KERNEL | Gfp::HIGH;
        let table = [
            (Gfp::NONE, WatermarkFloor::Min, WatermarkFloor::Half),
            (Gfp::NOWAIT, WatermarkFloor::Min, WatermarkFloor::Half),
            (Gfp::KERNEL, WatermarkFloor::Min, WatermarkFloor::Half),
            (high, WatermarkFloor::Half, WatermarkFloor::Quarter),
            (
                Gfp::ATOMIC,
                WatermarkFloor::ThreeEighths,
                WatermarkFloor::ThreeSixteenths,
            ),
            (
                Gfp::ATOMIC | Gfp::NOMEMALLOC,
                WatermarkFloor::Half,
                WatermarkFloor::Quarter,
            ),
            (
                high | Gfp::NOMEMALLOC,
                WatermarkFloor::Half,
                WatermarkFloor::Quarter,
            ),
        ];
        for (gfp, floor, of_victim) in table {
            assert_eq!(WatermarkFloor::of(gfp), floor, "{gfp:?}");
            assert_eq!(floor.of_victim(), of_victim, "{gfp:?}");
        }
        for floor in [
            WatermarkFloor::High,
            WatermarkFloor::Low,
            WatermarkFloor::Nothing,
        ] {
            assert_eq!(floor.of_victim(), floor);
        }
    }

    /// The numbers are worked by hand, for a MIN of 1,763 at which every step rounds.
    #[test]
    fn floors_are_rounded_step_by_step_and_have_the_reserve_on_top() {
        let watermarks = Watermarks {
            min: 1_763,
            low: 2_545,
            high: 3_327,
        };
        let floors = floors(&watermarks, &[0, 0, 256, 384]);
        // 1,763 − 881; 882 − 220; 882 − 441; 662 − 331.
        let bare = [3_327, 2_545, 1_763, 882, 662, 441, 331, 0];
        assert_eq!(floors[0], bare);
        assert_eq!(floors[1], bare);
        let with = |more| bare.map(|frames| if frames == 0 { 0 } else { frames + more });
        assert_eq!(floors[2], with(256));
        assert_eq!(floors[3], with(384));
    }
}
