//! Stacks. Each lies in a slot of addresses of its own, with an unmapped guard page below.

use super::{AREA, DATA, FrameSource, PagingError, lock, map_page};
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::*};
use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

/// A mapped stack, with an unmapped guard page below `bottom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stack {
    /// Its lowest address.
    pub bottom: u64,
    /// The address after its last byte; 16-byte aligned.
    pub top: u64,
}

/// Bytes of addresses in a slot. The stack lies at the slot's top; the rest is never mapped.
const SLOT: u64 = 128 << 10;
const SLOTS: usize = 4096;
/// Most pages in a stack.
pub const MAX_PAGES: usize = SLOT as usize / 4096 - 1;

static USED: AtomicUsize = AtomicUsize::new(0);
/// Number of pages mapped in each slot. It is set once, when the stack is complete.
static PAGES: [AtomicU8; SLOTS] = [const { AtomicU8::new(0) }; SLOTS];
static BOOT_STACK: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Maps a stack of these frames, with a guard page below. Only task context may call it.
///
/// # Errors
///
/// Returns a [`PagingError`] if addresses or frames for tables run out.
pub fn map_stack(frames: &[PhysFrame], tables: FrameSource<'_>) -> Result<Stack, PagingError> {
    map(frames.len(), |page| frames[page], tables)
}

/// Maps a stack of `pages` frames in a row, the first at physical address `phys`, with a guard page
/// below. Only task context may call it.
///
/// # Errors
///
/// Returns a [`PagingError`] if addresses or frames for tables run out.
pub fn map_stack_at(
    phys: u64,
    pages: usize,
    tables: FrameSource<'_>,
) -> Result<Stack, PagingError> {
    let frame = |page| PhysFrame::containing_address(PhysAddr::new(phys + page as u64 * 4096));
    map(pages, frame, tables)
}

fn map(
    pages: usize,
    frame: impl Fn(usize) -> PhysFrame,
    mut tables: FrameSource<'_>,
) -> Result<Stack, PagingError> {
    assert!((1..=MAX_PAGES).contains(&pages), "a stack of {pages} pages");
    let mut guard = lock();
    let slot = USED.load(Relaxed);
    if slot == SLOTS {
        return Err(PagingError::NoAddresses);
    }
    USED.store(slot + 1, Relaxed);
    let top = AREA.load(Relaxed) + (slot as u64 + 1) * SLOT;
    let bottom = top - pages as u64 * 4096;
    for page in 0..pages {
        let virt = bottom + page as u64 * 4096;
        map_page(&mut guard, virt, frame(page), DATA, &mut tables)?;
    }
    PAGES[slot].store(pages as u8, Release);
    Ok(Stack { bottom, top })
}

/// Sets where the stack that the loader made lies: `len` bytes from `bottom` on.
pub fn set_boot_stack(bottom: u64, len: u64) {
    BOOT_STACK[0].store(bottom, Relaxed);
    BOOT_STACK[1].store(bottom + len, Relaxed);
}

/// Returns the mapped stack that `address` lies in. It takes no lock and follows no pointer. Any
/// context may call it.
pub fn stack_of(address: u64) -> Option<Stack> {
    let boot = Stack {
        bottom: BOOT_STACK[0].load(Relaxed),
        top: BOOT_STACK[1].load(Relaxed),
    };
    if (boot.bottom..boot.top).contains(&address) {
        return Some(boot);
    }
    let area = AREA.load(Relaxed);
    let slot = address.checked_sub(area)? / SLOT;
    let pages = PAGES.get(usize::try_from(slot).ok()?)?.load(Acquire);
    let top = area + (slot + 1) * SLOT;
    let stack = Stack {
        bottom: top - u64::from(pages) * 4096,
        top,
    };
    (stack.bottom..stack.top)
        .contains(&address)
        .then_some(stack)
}
