//! The direct map: all memory in use is mapped at a fixed distance from its physical address, so
//! frames' contents can be reached.

use super::{alloc_longlived, platform::Kernel};
use crate::arch::paging::{self, PagingError};
use crate::arch::tlb;
use crate::thread::Mutex;
use core::ops::Range;
use tidemark_frames::{Block, FRAME_SIZE, Order, Owner, OwnerKind, Pfn};
use tidemark_sync::Task;
use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

/// 64-bit words in a frame.
pub const WORDS: usize = FRAME_SIZE as usize / 8;

/// A block of the kernel's allocator.
pub type KernelBlock = Block<'static, 'static, Kernel>;

/// Serialises changes of the map, and keeps the frames for its page tables.
static CHANGING: Mutex<TableFrames> = Mutex::new(TableFrames([const { None }; MAX_TABLES]));

/// Returns a frame's content.
///
/// # Safety
///
/// The frame is in the direct map: its memory section is online, or the frame was carved off at
/// boot. While the reference lives, the frame is not freed and no code writes to it.
pub unsafe fn words<'a>(pfn: Pfn) -> &'a [u64; WORDS] {
    // SAFETY: the caller promises that the frame is mapped and unchanged. A frame is aligned to its
    // size, and any bits are a `u64`.
    unsafe { &*paging::phys_to_virt(pfn.address()).cast() }
}

/// Returns a frame's content, to be changed.
///
/// # Safety
///
/// The promises of [`words`], and no other code reads the frame either.
pub unsafe fn words_mut<'a>(pfn: Pfn) -> &'a mut [u64; WORDS] {
    // SAFETY: the caller promises that the frame is mapped and that no other code uses it. A frame
    // is aligned to its size, and any bits are a `u64`.
    unsafe { &mut *paging::phys_to_virt(pfn.address()).cast() }
}

/// Returns the content of a block that the caller owns: 512 words a frame.
pub fn content(block: &KernelBlock) -> &[u64] {
    let len = WORDS * block.order().frames() as usize;
    let start = paging::phys_to_virt(block.pfn().address()).cast::<u64>();
    // SAFETY: a block is the sole owner of its frames for as long as it lives, and the allocator
    // hands out mapped memory only. The borrow of the block keeps writers away.
    unsafe { core::slice::from_raw_parts(start, len) }
}

/// Returns the content of a block that the caller owns, to be changed: 512 words a frame.
pub fn content_mut(block: &mut KernelBlock) -> &mut [u64] {
    let len = WORDS * block.order().frames() as usize;
    let start = paging::phys_to_virt(block.pfn().address()).cast::<u64>();
    // SAFETY: a block is the sole owner of its frames for as long as it lives, and the allocator
    // hands out mapped memory only. The borrow of the block is exclusive.
    unsafe { core::slice::from_raw_parts_mut(start, len) }
}

/// Frames for page tables. They are taken beforehand, because the tables change with interrupts
/// off. They are kept, so that memory can leave while there is none to allocate.
struct TableFrames([Option<KernelBlock>; MAX_TABLES]);

/// Most tables that one change needs. A table covers 1 GiB in 2 MiB pages; larger DIMMs are
/// refused.
const MAX_TABLES: usize = 66;

impl TableFrames {
    /// Makes sure that there are enough frames for the tables of a range.
    fn fill_for(&mut self, bytes: &Range<u64>, task: &Task) -> Result<(), PagingError> {
        let wanted = (bytes.end - bytes.start).div_ceil(1 << 30) as usize + 2;
        if wanted > MAX_TABLES {
            return Err(PagingError::NoFrame);
        }
        let have = self.0.iter().flatten().count();
        let empty = self.0.iter_mut().filter(|frame| frame.is_none());
        for frame in empty.take(wanted.saturating_sub(have)) {
            let owner = Owner::new(OwnerKind::PageTable, 0);
            let block = alloc_longlived(Order::ZERO, owner, task);
            *frame = Some(block.map_err(|_| PagingError::NoFrame)?);
        }
        Ok(())
    }

    /// Gives away one frame for good: the tables of memory that has left serve it when it returns.
    fn next(&mut self) -> Option<PhysFrame> {
        let block = self.0.iter_mut().find_map(Option::take)?;
        let address = PhysAddr::new(block.leak().pfn().address());
        Some(PhysFrame::containing_address(address))
    }
}

/// Maps the frames of memory that arrives, in whole 2 MiB pages. `bytes` are physical addresses.
///
/// # Errors
///
/// Returns a [`PagingError`]; what was mapped before the error stays mapped.
pub fn add(bytes: Range<u64>, task: &Task) -> Result<(), PagingError> {
    let mut tables = CHANGING.lock(task);
    tables.fill_for(&bytes, task)?;
    let len = bytes.end - bytes.start;
    paging::direct_map_add(bytes.start, len, &mut || tables.next())
}

/// Unmaps the frames of memory that leaves, on every CPU, in whole 2 MiB pages. No code uses the
/// frames any more. `bytes` are physical addresses.
///
/// # Errors
///
/// Returns a [`PagingError`]; what was unmapped before the error stays unmapped.
pub fn remove(bytes: Range<u64>, task: &Task) -> Result<(), PagingError> {
    let mut tables = CHANGING.lock(task);
    tables.fill_for(&bytes, task)?;
    let len = bytes.end - bytes.start;
    let unmapped = paging::direct_map_remove(bytes.start, len, &mut || tables.next());
    let start = paging::phys_to_virt(bytes.start) as u64;
    tlb::shootdown(start, len, task);
    unmapped
}
