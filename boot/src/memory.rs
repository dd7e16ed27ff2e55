//! The memory map: the firmware's entries, put in order, without the ranges that the loader leaves
//! behind.

use crate::error::{Error, Result};
use crate::start_info::MemmapEntry;
use crate::{FOUR_GIB, PAGE};
use arrayvec::ArrayVec;
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use core::ops::Range;

/// Most entries that the firmware's map may have.
pub const MAX_ENTRIES: usize = 128;
/// Most ranges that can be carved out.
pub const MAX_CARVED: usize = 16;
/// Most regions that can result: two boundaries for each entry and each carved range.
pub const MAX_REGIONS: usize = 2 * (MAX_ENTRIES + MAX_CARVED);

/// The E820 type of ordinary memory.
const E820_USABLE: u32 = 1;
/// End of low memory, which is left alone. Real-mode structures are there, and kernels put their
/// trampolines there.
const LOW_MEMORY_END: u64 = 1 << 20;
/// End of physical addresses, which have 52 bits at most. The part of an entry beyond it is cut
/// off.
const PHYSICAL_END: u64 = 1 << 52;

/// The regions that a kernel gets: in order and without overlap, the usable ones page-aligned.
pub type Regions = ArrayVec<MemoryRegion, MAX_REGIONS>;

/// The firmware's map, page-aligned but neither in order nor free of overlaps, and the ranges that
/// are carved out of it.
#[derive(Clone, Debug, Default)]
pub struct MemoryMap {
    entries: ArrayVec<(Range<u64>, u32), MAX_ENTRIES>,
    carved: ArrayVec<Range<u64>, MAX_CARVED>,
}

impl MemoryMap {
    /// Takes in the firmware's entries. Usable ones shrink to whole pages, the others grow to them.
    ///
    /// # Errors
    ///
    /// Returns [`Error::MemoryMapTooLong`] if there are more than [`MAX_ENTRIES`].
    pub fn new(entries: impl ExactSizeIterator<Item = MemmapEntry>) -> Result<Self> {
        let mut map = Self::default();
        let count = entries.len();
        for entry in entries {
            let start = entry.addr.min(PHYSICAL_END);
            let end = entry.addr.saturating_add(entry.size).min(PHYSICAL_END);
            let range = if entry.kind == E820_USABLE {
                up(start)..down(end)
            } else {
                down(start)..up(end)
            };
            if !range.is_empty() && map.entries.try_push((range, entry.kind)).is_err() {
                return Err(Error::MemoryMapTooLong { entries: count });
            }
        }
        Ok(map)
    }

    /// Carves whole pages around a range out of usable memory.
    ///
    /// # Panics
    ///
    /// Panics after [`MAX_CARVED`] ranges; the loader has fewer.
    pub fn carve(&mut self, range: Range<u64>) {
        if !range.is_empty() {
            self.carved
                .push(down(range.start)..up(range.end.min(PHYSICAL_END)));
        }
    }

    /// Returns the end of the highest usable memory, or 0 if there is none. Reserved ranges do not
    /// count: QEMU's map ends with one at 1 TiB whatever the memory size.
    pub fn usable_end(&self) -> u64 {
        self.entries
            .iter()
            .filter(|(_, kind)| *kind == E820_USABLE)
            .map(|(range, _)| range.end)
            .max()
            .unwrap_or(0)
    }

    /// Returns the most regions that [`Self::regions`] can give if `more` ranges are carved out as
    /// well.
    pub fn regions_bound(&self, more: usize) -> usize {
        2 * (self.entries.len() + self.carved.len() + more)
    }

    /// Returns the largest run of usable memory that is not carved out, between 1 MiB and 4 GiB.
    pub fn largest_free(&self) -> Option<Range<u64>> {
        self.regions()
            .iter()
            .filter(|region| region.kind == MemoryRegionKind::Usable)
            .map(|region| region.start.max(LOW_MEMORY_END)..region.end.min(FOUR_GIB))
            .filter(|range| !range.is_empty())
            .max_by_key(|range| range.end - range.start)
    }

    /// Returns the regions for the kernel. Where entries overlap, the one that is not usable wins.
    /// What is carved out of usable memory is the loader's.
    pub fn regions(&self) -> Regions {
        let mut boundaries: ArrayVec<u64, MAX_REGIONS> = self
            .entries
            .iter()
            .map(|(range, _)| range)
            .chain(&self.carved)
            .flat_map(|range| [range.start, range.end])
            .collect();
        boundaries.sort_unstable();
        let mut regions = Regions::new();
        for pair in boundaries.windows(2) {
            let (start, end) = (pair[0], pair[1]);
            let Some(kind) = self.kind_at(start).filter(|_| start < end) else {
                continue;
            };
            match regions.last_mut() {
                Some(last) if last.end == start && last.kind == kind => last.end = end,
                _ => regions.push(MemoryRegion { start, end, kind }),
            }
        }
        regions
    }

    /// Returns the kind of the memory at an address. No entry or carved range starts or ends within
    /// the region that begins there.
    fn kind_at(&self, at: u64) -> Option<MemoryRegionKind> {
        let here = |range: &Range<u64>| range.contains(&at);
        let kinds = self.entries.iter().filter(|(range, _)| here(range));
        // The highest type wins, because usable memory has the lowest.
        let kind = kinds
            .map(|(_, kind)| *kind)
            .max_by_key(|kind| match *kind {
                E820_USABLE => 0,
                other => u64::from(other) + 1,
            })?;
        Some(match kind {
            E820_USABLE if self.carved.iter().any(here) => MemoryRegionKind::Bootloader,
            E820_USABLE => MemoryRegionKind::Usable,
            other => MemoryRegionKind::UnknownBios(other),
        })
    }
}

/// Rounds an address down to a page.
pub const fn down(at: u64) -> u64 {
    at & !(PAGE - 1)
}

/// Rounds an address up to a page.
///
/// # Panics
///
/// Panics within the last page of 64 bits.
pub const fn up(at: u64) -> u64 {
    down(at + (PAGE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;
    use std::vec::Vec;

    const QEMU_3G: [(u64, u64, u32); 7] = [
        (0, 0x9_fc00, 1),
        (0x9_fc00, 0x400, 2),
        (0xf_0000, 0x1_0000, 2),
        (0x10_0000, 0x7fee_0000, 1),
        (0x7ffe_0000, 0x2_0000, 2),
        (0x1_0000_0000, 0x4000_0000, 1),
        (0xfd_0000_0000, 0x3_0000_0000, 2),
    ];

    fn map(entries: &[(u64, u64, u32)]) -> MemoryMap {
        let entries = entries.iter().map(|&(addr, size, kind)| MemmapEntry {
            addr,
            size,
            kind,
            reserved: 0,
        });
        MemoryMap::new(entries).expect("few entries")
    }

    fn region(start: u64, end: u64, kind: MemoryRegionKind) -> MemoryRegion {
        MemoryRegion { start, end, kind }
    }

    #[test]
    fn reserved_ranges_size_nothing() {
        let map = map(&QEMU_3G);
        assert_eq!(map.usable_end(), 0x1_4000_0000);
        assert_eq!(map.largest_free(), Some(0x10_0000..0x7ffe_0000));
    }

    #[test]
    fn carves_whole_pages_out_of_usable_memory_only() {
        use MemoryRegionKind::{Bootloader, UnknownBios, Usable};
        let mut map = map(&[
            (0, 0x9_fc00, 1),
            (0x9_fc00, 0x400, 2),
            (0x10_0000, 0x10_0000, 1),
        ]);
        map.carve(0x1234..0x1235);
        map.carve(0x9_e800..0x9_fe00);
        map.carve(0x18_0000..0x30_0000);
        map.carve(0x5000..0x5000);
        let expected = [
            region(0, 0x1000, Usable),
            region(0x1000, 0x2000, Bootloader),
            region(0x2000, 0x9_e000, Usable),
            region(0x9_e000, 0x9_f000, Bootloader),
            region(0x9_f000, 0xa_0000, UnknownBios(2)),
            region(0x10_0000, 0x18_0000, Usable),
            region(0x18_0000, 0x20_0000, Bootloader),
        ];
        assert_eq!(map.regions()[..], expected);
        assert_eq!(map.largest_free(), Some(0x10_0000..0x18_0000));
    }

    #[test]
    fn too_many_entries_are_refused_and_empty_ones_do_not_count() {
        let one = MemmapEntry {
            addr: 0,
            size: PAGE,
            kind: 1,
            reserved: 0,
        };
        let many = [one; MAX_ENTRIES + 1];
        let entries = many.len();
        let error = MemoryMap::new(many.into_iter()).expect_err("one too many");
        assert_eq!(error, Error::MemoryMapTooLong { entries });
        let empty = [MemmapEntry { size: 0, ..one }; MAX_ENTRIES + 1];
        let map = MemoryMap::new(empty.into_iter()).expect("nothing to keep");
        assert!(map.regions().is_empty());
        assert_eq!(map.usable_end(), 0);
        assert_eq!(map.largest_free(), None);
    }

    /// Compares the regions with a page-by-page account, on maps with overlaps and without order.
    #[test]
    fn regions_agree_with_an_account_of_every_page() {
        const PAGES: u64 = 64;
        let mut random = Random(0x6d61_7073);
        for round in 0..2000 {
            let entries: Vec<_> = (0..1 + random.below(8))
                .map(|_| {
                    let start = random.below(PAGES * PAGE);
                    let len = random.below(PAGES * PAGE - start);
                    (start, len, 1 + random.below(3) as u32)
                })
                .collect();
            let mut map = map(&entries);
            let carved: Vec<_> = (0..random.below(4))
                .map(|_| {
                    let start = random.below(PAGES * PAGE);
                    start..start + random.below(8 * PAGE)
                })
                .collect();
            carved.iter().cloned().for_each(|range| map.carve(range));

            let regions = map.regions();
            assert!(regions.len() <= map.regions_bound(0), "round {round}");
            for pair in regions.windows(2) {
                assert!(pair[0].end <= pair[1].start, "round {round}: {regions:?}");
            }
            for page in 0..PAGES {
                let (start, end) = (page * PAGE, (page + 1) * PAGE);
                let covered = |from: u64, to: u64| from <= start && end <= to;
                let touched = |from: u64, to: u64| from < end && start < to;
                let reserved = entries
                    .iter()
                    .filter(|it| it.2 != 1 && it.1 > 0 && touched(it.0, it.0 + it.1))
                    .map(|it| it.2)
                    .max();
                let usable = entries
                    .iter()
                    .any(|it| it.2 == 1 && covered(it.0, it.0 + it.1));
                let taken = carved
                    .iter()
                    .any(|it| !it.is_empty() && touched(it.start, it.end));
                let expected = match (reserved, usable, taken) {
                    (Some(kind), ..) => Some(MemoryRegionKind::UnknownBios(kind)),
                    (None, true, true) => Some(MemoryRegionKind::Bootloader),
                    (None, true, false) => Some(MemoryRegionKind::Usable),
                    (None, false, _) => None,
                };
                let found = regions.iter().find(|it| covered(it.start, it.end));
                assert_eq!(
                    found.map(|it| it.kind),
                    expected,
                    "round {round}, page {page}"
                );
            }
        }
    }
}
