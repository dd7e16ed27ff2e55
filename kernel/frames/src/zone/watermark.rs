//! The formulas of watermarks, lowmem reserves and cache sizes, on plain numbers.

use crate::base::types::ZoneKind;

/// Number of kinds of zone on a node.
const KINDS: usize = ZoneKind::ALL.len();
/// Kilobytes in a frame.
const FRAME_KB: u64 = 4;
/// Distance between watermarks, in ten-thousandths of the zone.
const WATERMARK_SCALE: u64 = 10;
/// Divisors of the lowmem reserve: a zone keeps one frame for so many frames in the zones above it.
/// Movable keeps none.
const RESERVE_RATIO: [u64; KINDS] = [256, 256, 32, 0];

/// A zone's watermarks, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermarks {
    pub(crate) min: u64,
    pub(crate) low: u64,
    pub(crate) high: u64,
}

/// Returns how many frames the machine keeps for requests that cannot wait, by the managed frames
/// of its zones below MOVABLE.
pub(crate) fn min_free_frames(lowmem: u64) -> u64 {
    (16 * lowmem * FRAME_KB).isqrt().clamp(128, 262_144) / FRAME_KB
}

/// Returns the watermarks of a zone of this kind and size. `lowmem` are the managed frames of all
/// zones below MOVABLE.
pub(crate) fn watermarks(kind: ZoneKind, managed: u64, lowmem: u64) -> Watermarks {
    if managed == 0 {
        return Watermarks::default();
    }
    let share = min_free_frames(lowmem) * managed / lowmem.max(1);
    let min = if kind == ZoneKind::Movable {
        (managed / 1024).clamp(32, 128)
    } else {
        share
    };
    let gap = (share / 4).max(managed * WATERMARK_SCALE / 10_000);
    Watermarks {
        min,
        low: min + gap,
        high: min + 2 * gap,
    }
}

/// Returns how many frames each zone of a node keeps from requests, by their highest zone.
pub(crate) fn lowmem_reserve(managed: [u64; KINDS]) -> [[u64; KINDS]; KINDS] {
    let mut reserve = [[0; KINDS]; KINDS];
    for (low, row) in reserve.iter_mut().enumerate() {
        let mut above = 0;
        for high in low + 1..KINDS {
            above += managed[high];
            if managed[low] > 0 && RESERVE_RATIO[low] > 0 {
                row[high] = above / RESERVE_RATIO[low];
            }
        }
    }
    reserve
}

/// Returns how many frames a CPU's cache of a zone moves at once, 1 to 63.
pub(crate) fn batch(managed: u64) -> u32 {
    let quarter = (managed / 1024).min(256) as u32 / 4;
    let rounded = quarter + quarter / 2;
    if rounded < 2 {
        1
    } else {
        (1 << rounded.ilog2()) - 1
    }
}

/// Returns how many frames a CPU's cache of a zone may hold, 1 to `capacity`. It is the CPU's share
/// of the LOW watermark, at least four batches, and at most the CPU's share of an eighth of the
/// zone.
pub(crate) fn cache_high(managed: u64, low: u64, cpus: usize, batch: u32, capacity: u32) -> u32 {
    let cpus = cpus as u64;
    let most = (managed / 8 / cpus).clamp(1, u64::from(capacity)) as u32;
    ((low / cpus).min(u64::from(capacity)) as u32)
        .max(4 * batch)
        .min(most)
        .max(1)
}

#[cfg(all(test, not(loom)))]
#[path = "watermark_tests.rs"]
mod machine_tests;

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are worked by hand from the formulas, for 3 GiB: DMA 3,840 and DMA32 782,000
    /// frames managed.
    #[test]
    fn watermarks_of_a_three_gibibyte_machine() {
        let lowmem = 3_840 + 782_000;
        // 16 × 785,840 × 4 kB = 50,293,760; the root is 7,091 kB, which is 1,772 frames.
        assert_eq!(min_free_frames(lowmem), 1_772);
        assert_eq!(
            watermarks(ZoneKind::Dma, 3_840, lowmem),
            Watermarks {
                min: 8,
                low: 11,
                high: 14
            }
        );
        assert_eq!(
            watermarks(ZoneKind::Dma32, 782_000, lowmem),
            Watermarks {
                min: 1_763,
                low: 2_545,
                high: 3_327
            }
        );
    }

    #[test]
    fn watermarks_of_a_movable_dimm_are_its_own() {
        let of_dimm = watermarks(ZoneKind::Movable, 65_536, 785_840);
        assert_eq!(of_dimm.min, 64);
        assert_eq!(of_dimm.low - of_dimm.min, 65);
        assert_eq!(
            watermarks(ZoneKind::Movable, 0, 785_840),
            Watermarks::default()
        );
    }

    #[test]
    fn min_of_a_movable_zone_is_a_thousandth_from_128_kib_to_512_kib() {
        let min = |managed| watermarks(ZoneKind::Movable, managed, 785_840).min;
        for (managed, expected) in [
            (1_024, 32),
            (33 * 1_024 - 1, 32),
            (33 * 1_024, 33),
            (127 * 1_024, 127),
            (128 * 1_024, 128),
            (1 << 24, 128),
        ] {
            assert_eq!(min(managed), expected, "{managed} frames");
        }
    }

    #[test]
    fn small_and_huge_machines_meet_the_clamps() {
        assert_eq!(min_free_frames(100), 32);
        assert_eq!(min_free_frames(1 << 40), 65_536);
    }

    #[test]
    fn a_lower_zone_keeps_back_a_part_of_what_lies_above() {
        let reserve = lowmem_reserve([4_096, 782_000, 65_536, 32_768]);
        assert_eq!(reserve[0], [0, 782_000 / 256, 847_536 / 256, 880_304 / 256]);
        assert_eq!(reserve[1], [0, 0, 256, 384]);
        assert_eq!(reserve[2], [0, 0, 0, 1_024]);
        assert_eq!(reserve[3], [0; 4]);
        assert_eq!(lowmem_reserve([0, 10, 1_000, 0])[0], [0; 4]);
    }

    #[test]
    fn caches_grow_with_the_zone_and_stay_within_their_capacity() {
        assert_eq!(batch(0), 1);
        assert_eq!(batch(4_096), 1);
        assert_eq!(batch(65_536), 15);
        assert_eq!(batch(1 << 20), 63);
        assert_eq!(cache_high(1 << 20, 4_000, 4, 63, 120), 120);
        assert_eq!(cache_high(4_096, 11, 4, 1, 120), 4);
        assert_eq!(cache_high(16, 0, 64, 1, 120), 1);
    }
}
