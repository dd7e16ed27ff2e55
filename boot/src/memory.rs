//! The memory map: what the firmware says, put in order, with what the loader leaves behind carved out.

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
/// Most regions that can come out: two boundaries an entry and a carved range.
pub const MAX_REGIONS: usize = 2 * (MAX_ENTRIES + MAX_CARVED);

/// E820's type of ordinary memory.
const E820_USABLE: u32 = 1;
/// Below this, memory is left alone: real-mode structures are there, and the trampolines of kernels go there.
const LOW_MEMORY_END: u64 = 1 << 20;
/// Physical addresses have 52 bits at most; what an entry claims beyond them is cut off.
const PHYSICAL_END: u64 = 1 << 52;

/// The regions that a kernel is told about: ordered, without overlap, usable ones page-aligned.
pub type Regions = ArrayVec<MemoryRegion, MAX_REGIONS>;

/// The firmware's map, page-aligned but neither ordered nor free of overlaps, and what is carved out of it.
#[derive(Clone, Debug, Default)]
pub struct MemoryMap {
    entries: ArrayVec<(Range<u64>, u32), MAX_ENTRIES>,
    carved: ArrayVec<Range<u64>, MAX_CARVED>,
}

impl MemoryMap {
    /// Takes in the firmware's entries: usable ones shrink to whole pages, the others grow to them.
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

    /// End of the highest usable memory, 0 if there is none. Reserved ranges do not count: QEMU's map
    /// ends with one at 1 TiB whatever the memory size.
    pub fn usable_end(&self) -> u64 {
        self.entries
            .iter()
            .filter(|(_, kind)| *kind == E820_USABLE)
            .map(|(range, _)| range.end)
            .max()
            .unwrap_or(0)
    }

    /// Most regions that [`Self::regions`] gives, were `more` ranges carved out as well.
    pub fn regions_bound(&self, more: usize) -> usize {
        2 * (self.entries.len() + self.carved.len() + more)
    }

    /// The largest run of usable memory that is not carved out, between 1 MiB and 4 GiB.
    pub fn largest_free(&self) -> Option<Range<u64>> {
        self.regions()
            .iter()
            .filter(|region| region.kind == MemoryRegionKind::Usable)
            .map(|region| region.start.max(LOW_MEMORY_END)..region.end.min(FOUR_GIB))
            .filter(|range| !range.is_empty())
            .max_by_key(|range| range.end - range.start)
    }

    /// The regions for the kernel. Where entries overlap, what is not usable wins; what is carved out of
    /// usable memory is the loader's.
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

    /// Kind of the memory at an address at which no entry or carved range starts or ends further on.
    fn kind_at(&self, at: u64) -> Option<MemoryRegionKind> {
        let here = |range: &Range<u64>| range.contains(&at);
        let kinds = self.entries.iter().filter(|(range, _)| here(range));
        // The highest type wins: usable memory is the lowest there is.
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

/// Rounds down to a page.
pub const fn down(at: u64) -> u64 {
    at & !(PAGE - 1)
}

/// Rounds up to a page.
///
/// # Panics
///
/// Panics within the last page of 64 bits.
pub const fn up(at: u64) -> u64 {
    down(at + (PAGE - 1))
}
