//! Cuts memory maps into ranges of whole frames that lie in one memory section, one zone and one
//! node.

use core::ops::Range;

/// Bytes in a frame.
pub const FRAME_BYTES: u64 = 4096;
/// Frames in a memory section, the unit of hot-plug (128 MiB).
pub const SECTION_FRAMES: u64 = (128 << 20) / FRAME_BYTES;
/// Frames in a pageblock (2 MiB), which belongs to one zone.
pub const PAGEBLOCK_FRAMES: u64 = 512;
/// First frame above the DMA zone (16 MiB).
pub const DMA_END: u64 = (16 << 20) / FRAME_BYTES;
/// First frame above the DMA32 zone (4 GiB).
pub const DMA32_END: u64 = (4 << 30) / FRAME_BYTES;

/// Returns the whole frames inside a range of bytes. The odd bytes at its edges stay unused.
pub fn whole_frames(bytes: Range<u64>) -> Range<u64> {
    let start = bytes.start.div_ceil(FRAME_BYTES);
    start..(bytes.end / FRAME_BYTES).max(start)
}

/// A range of frames with a node, as SRAT states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// First frame.
    pub start: u64,
    /// First frame after the range.
    pub end: u64,
    /// Node number.
    pub node: u8,
}

/// Cuts a range of frames at the ends of zones and memory sections and where the node changes. It
/// hands the pieces to `piece` in order, each with its node. Frames that no affinity covers belong
/// to node 0. The edge of a node is moved up to a multiple of `grain` frames, because a pageblock
/// has one node.
pub fn cut(
    frames: Range<u64>,
    affinities: &[Affinity],
    grain: u64,
    mut piece: impl FnMut(Range<u64>, u8),
) {
    let mut at = frames.start;
    while at < frames.end {
        let node = node_of(at / grain * grain, affinities);
        let limit = frames
            .end
            .min((at / SECTION_FRAMES + 1) * SECTION_FRAMES)
            .min(if at < DMA_END { DMA_END } else { u64::MAX })
            .min(if at < DMA32_END { DMA32_END } else { u64::MAX });
        let mut end = at;
        while end < limit && node_of(end / grain * grain, affinities) == node {
            end = ((end / grain + 1) * grain).min(limit);
        }
        piece(at..end, node);
        at = end;
    }
}

/// Returns the node of a frame; 0 where no affinity covers it.
pub fn node_of(frame: u64, affinities: &[Affinity]) -> u8 {
    affinities
        .iter()
        .find(|a| (a.start..a.end).contains(&frame))
        .map_or(0, |a| a.node)
}

/// The usable part of a DIMM: whole memory sections only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DimmCut {
    /// The aligned memory sections, by number.
    pub sections: Range<u64>,
    /// Bytes before the first whole memory section.
    pub head_bytes: u64,
    /// Bytes after the last whole memory section.
    pub tail_bytes: u64,
}

impl DimmCut {
    /// Cuts a DIMM at the boundaries of memory sections. A DIMM without one whole memory section is
    /// all head.
    pub fn new(address: u64, size_bytes: u64) -> Self {
        const SECTION_BYTES: u64 = SECTION_FRAMES * FRAME_BYTES;
        let first = address.div_ceil(SECTION_BYTES);
        let end = (address + size_bytes) / SECTION_BYTES;
        if first >= end {
            return Self {
                sections: first..first,
                head_bytes: size_bytes,
                tail_bytes: 0,
            };
        }
        Self {
            sections: first..end,
            head_bytes: first * SECTION_BYTES - address,
            tail_bytes: address + size_bytes - end * SECTION_BYTES,
        }
    }

    /// Returns the usable frames.
    pub fn frames(&self) -> Range<u64> {
        self.sections.start * SECTION_FRAMES..self.sections.end * SECTION_FRAMES
    }

    /// Returns the bytes that stay unused.
    pub fn unused_bytes(&self) -> u64 {
        self.head_bytes + self.tail_bytes
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn pieces(frames: Range<u64>, affinities: &[Affinity]) -> Vec<(Range<u64>, u8)> {
        let mut all = Vec::new();
        cut(frames, affinities, 512, |r, n| all.push((r, n)));
        all
    }

    #[test]
    fn odd_edges_are_left_out() {
        assert_eq!(whole_frames(0x1001..0x3fff), 2..3);
        assert_eq!(whole_frames(0x1000..0x4000), 1..4);
        assert_eq!(whole_frames(0x1001..0x1fff), 2..2);
    }

    #[test]
    fn pieces_end_at_zones_and_sections() {
        let all = pieces(1..DMA_END + 10, &[]);
        assert_eq!(all, [(1..DMA_END, 0), (DMA_END..DMA_END + 10, 0)]);
        let all = pieces(DMA32_END - 5..DMA32_END + SECTION_FRAMES + 1, &[]);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].0, DMA32_END - 5..DMA32_END);
        assert_eq!(all[1].0, DMA32_END..DMA32_END + SECTION_FRAMES);
    }

    #[test]
    fn pieces_cover_the_range_without_overlap() {
        let affinities = [
            Affinity {
                start: 0,
                end: 70_000,
                node: 0,
            },
            Affinity {
                start: 70_000,
                end: 200_000,
                node: 1,
            },
        ];
        let all = pieces(3..150_001, &affinities);
        let mut at = 3;
        for (range, _) in &all {
            assert_eq!(range.start, at);
            assert!(range.end > range.start);
            assert_eq!(
                range.start / SECTION_FRAMES,
                (range.end - 1) / SECTION_FRAMES
            );
            at = range.end;
        }
        assert_eq!(at, 150_001);
    }

    #[test]
    fn a_node_changes_only_between_areas() {
        let affinities = [
            Affinity {
                start: 0,
                end: 5_000,
                node: 0,
            },
            Affinity {
                start: 5_000,
                end: 9_000,
                node: 1,
            },
        ];
        let all = pieces(4096..8192, &affinities);
        assert_eq!(all, [(4096..5120, 0), (5120..8192, 1)]);
    }

    #[test]
    fn frames_without_cover_belong_to_node_0() {
        let affinities = [Affinity {
            start: 8192,
            end: 16384,
            node: 3,
        }];
        assert_eq!(
            pieces(4096..20480, &affinities),
            [(4096..8192, 0), (8192..16384, 3), (16384..20480, 0)]
        );
    }

    #[test]
    fn an_aligned_dimm_is_used_whole() {
        let cut = DimmCut::new(0x1_4000_0000, 256 << 20);
        assert_eq!(cut.sections, 40..42);
        assert_eq!(cut.unused_bytes(), 0);
        assert_eq!(cut.frames(), 40 * 32768..42 * 32768);
    }

    #[test]
    fn a_dimm_smaller_than_a_block_is_not_used() {
        let cut = DimmCut::new(0x1_0000_0000, 100 << 20);
        assert!(cut.sections.is_empty());
        assert_eq!(cut.unused_bytes(), 100 << 20);
    }

    #[test]
    fn head_and_tail_of_an_unaligned_dimm_are_named() {
        let cut = DimmCut::new(0x1_0640_0000, 256 << 20);
        assert_eq!(cut.sections, 33..34);
        assert_eq!(cut.head_bytes, 28 << 20);
        assert_eq!(cut.tail_bytes, 100 << 20);
    }
}
