//! The kernel's page tables.

use crate::PAGE;
use crate::error::{Error, Result};
use crate::frames::Frames;
use crate::image::Access;
use crate::plan::{HUGE_PAGE, LARGE_PAGE};
use x86_64::structures::paging::mapper::MapToError;
use x86_64::structures::paging::{
    Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame, Size1GiB,
    Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

/// Whether the CPU has pages of 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// It has pages of 1 GiB.
    Yes,
    /// It has none: 2 MiB is the largest size.
    No,
}

/// The flags of intermediate tables. They permit everything, because the last level decides. A
/// recursive mapping sees these tables as pages and needs to write to them.
const TABLE_FLAGS: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);

/// The page tables under construction, which are not in use yet.
#[derive(Debug)]
pub struct Tables<'a> {
    mapper: OffsetPageTable<'a>,
    root: u64,
    frames: &'a mut Frames,
}

impl<'a> Tables<'a> {
    /// Starts with an empty level-4 table.
    ///
    /// # Errors
    ///
    /// Returns the [`Error`] if there is no frame for it.
    ///
    /// # Safety
    ///
    /// The window of `frames` is mapped for writing at `offset`, and no other code uses it.
    pub unsafe fn new(frames: &'a mut Frames, offset: u64) -> Result<Self> {
        let root = frames.take(1)?;
        let table = (root + offset) as *mut PageTable;
        // SAFETY: the frame was taken just now, and the caller vouches that it is mapped at
        // `offset`.
        let table = unsafe {
            table.write(PageTable::new());
            &mut *table
        };
        // SAFETY: all tables will come from `frames`, which is mapped at `offset`.
        let mapper = unsafe { OffsetPageTable::new(table, VirtAddr::new(offset)) };
        Ok(Self {
            mapper,
            root,
            frames,
        })
    }

    /// Returns the physical address of the level-4 table.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Returns the frames that the tables are taken from.
    pub fn frames(&mut self) -> &mut Frames {
        self.frames
    }

    /// Maps `pages` pages at `to` to the contiguous frames at `from`.
    ///
    /// # Errors
    ///
    /// Returns the [`Error`] if memory for tables runs out, or if an address is not canonical or
    /// mapped already.
    pub fn map(&mut self, to: u64, from: u64, pages: u64, access: Access) -> Result<()> {
        for page in 0..pages {
            self.map_one::<Size4KiB>(to + page * PAGE, from + page * PAGE, flags(access))?;
        }
        Ok(())
    }

    /// Maps physical memory from 0 to `end` at `to`, by the largest pages that fit. Both are
    /// multiples of 2 MiB.
    ///
    /// # Errors
    ///
    /// Returns the [`Error`] if memory for tables runs out, or if an address is not canonical or
    /// mapped already.
    pub fn map_physical(&mut self, to: u64, end: u64, huge: HugePages) -> Result<()> {
        let flags = flags(Access::ReadWrite);
        let mut at = 0;
        while at < end {
            let fits = to.is_multiple_of(HUGE_PAGE) && end - at >= HUGE_PAGE;
            if huge == HugePages::Yes && fits {
                self.map_one::<Size1GiB>(to + at, at, flags)?;
                at += HUGE_PAGE;
            } else {
                self.map_one::<Size2MiB>(to + at, at, flags)?;
                at += LARGE_PAGE;
            }
        }
        Ok(())
    }

    /// Points an entry of the level-4 table to that table itself.
    pub fn map_recursive(&mut self, index: u16) {
        let entry = &mut self.mapper.level_4_table_mut()[usize::from(index)];
        entry.set_addr(
            PhysAddr::new(self.root),
            TABLE_FLAGS | PageTableFlags::NO_EXECUTE,
        );
    }

    fn map_one<S: PageSize>(&mut self, to: u64, from: u64, flags: PageTableFlags) -> Result<()>
    where
        OffsetPageTable<'a>: Mapper<S>,
    {
        let outside = |_| Error::NotCanonical {
            what: "a page",
            at: to,
        };
        let page = Page::<S>::containing_address(VirtAddr::try_new(to).map_err(outside)?);
        let frame = PhysFrame::<S>::containing_address(PhysAddr::new(from));
        // SAFETY: these tables are not in use, so no mapping changes under any code that uses it.
        let mapped = unsafe {
            self.mapper
                .map_to_with_table_flags(page, frame, flags, TABLE_FLAGS, self.frames)
        };
        match mapped {
            // The tables are not in use, so there is nothing to flush.
            Ok(flush) => flush.ignore(),
            Err(MapToError::FrameAllocationFailed) => {
                return Err(self.frames.refusal().unwrap_or(Error::NoMemory {
                    wanted: PAGE,
                    left: 0,
                }));
            }
            Err(MapToError::ParentEntryHugePage | MapToError::PageAlreadyMapped(_)) => {
                return Err(Error::Collision {
                    what: "a page",
                    at: to,
                    with: "another mapping",
                });
            }
        }
        Ok(())
    }

    /// Returns the tables for tests that look up mappings.
    #[cfg(test)]
    pub(crate) fn mapper(&self) -> &OffsetPageTable<'a> {
        &self.mapper
    }
}

fn flags(access: Access) -> PageTableFlags {
    PageTableFlags::PRESENT
        | match access {
            Access::Read => PageTableFlags::NO_EXECUTE,
            Access::ReadWrite => PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE,
            Access::ReadExecute => PageTableFlags::empty(),
        }
}
