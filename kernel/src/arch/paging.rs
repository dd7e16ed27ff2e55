//! The kernel's page tables: stacks with guard pages, device registers, the direct map of memory.

use x86_64::structures::paging::PhysFrame;

/// Where page-table frames come from.
pub type FrameSource<'a> = &'a mut dyn FnMut() -> Option<PhysFrame>;

/// Why a mapping could not be made or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagingError {
    /// No frame for a page table.
    NoFrame,
    /// The kernel's own range of addresses is used up.
    NoAddresses,
    /// Something else is mapped at this address.
    Taken(u64),
    /// Nothing is mapped at this address.
    NotMapped(u64),
}

/// A mapped stack: an unmapped guard page lies below `bottom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stack {
    /// Lowest address.
    pub bottom: u64,
    /// One past the highest address; 16-byte aligned.
    pub top: u64,
}

/// Converts a physical address to where the physical-memory map has it.
pub fn phys_to_virt(phys: u64) -> *mut u8 {
    let _ = phys;
    todo!()
}

/// Maps a stack of `frames.len()` pages, with a guard page below. Task context.
pub fn map_stack(stack: &[PhysFrame], tables: FrameSource<'_>) -> Result<Stack, PagingError> {
    let _ = (stack, tables);
    todo!()
}

/// Maps `len` bytes of device registers at `phys`, uncached; returns their address.
pub fn map_mmio(phys: u64, len: u64, tables: FrameSource<'_>) -> Result<*mut u8, PagingError> {
    let _ = (phys, len, tables);
    todo!()
}

/// Maps `len` bytes of memory at `start` (both multiples of 2 MiB) into the direct map; what is
/// mapped already stays as it is.
pub fn direct_map_add(start: u64, len: u64, tables: FrameSource<'_>) -> Result<(), PagingError> {
    let _ = (start, len, tables);
    todo!()
}

/// Takes `len` bytes at `start` (both multiples of 2 MiB) out of the direct map on this CPU; the
/// caller then calls [`super::tlb::shootdown`]. What is not mapped is skipped.
pub fn direct_map_remove(start: u64, len: u64, tables: FrameSource<'_>) -> Result<(), PagingError> {
    let _ = (start, len, tables);
    todo!()
}
