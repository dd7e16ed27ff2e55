//! The direct map of memory that comes and goes: 2 MiB pages in the loader's physical-memory map.

use super::{DATA, FrameSource, Guard, PagingError, lock, next_table, phys_to_virt, root};
use x86_64::PhysAddr;
use x86_64::structures::paging::page_table::{PageTable, PageTableEntry, PageTableFlags as Flags};

const PAGE: u64 = 2 << 20;

/// Maps `len` bytes of memory at physical address `start` into the direct map; both are multiples
/// of 2 MiB. What is mapped already stays as it is. Only task context may call it.
///
/// # Errors
///
/// Returns a [`PagingError`]; what was mapped before it stays mapped.
pub fn direct_map_add(
    start: u64,
    len: u64,
    mut tables: FrameSource<'_>,
) -> Result<(), PagingError> {
    check(start, len);
    let mut guard = lock();
    for phys in (start..start + len).step_by(PAGE as usize) {
        add_page(&mut guard, phys, &mut tables)?;
    }
    Ok(())
}

/// Removes `len` bytes at physical address `start` from the direct map; both are multiples of 2
/// MiB. Any CPU may use cached translations until [`crate::arch::tlb::shootdown`]. What is not
/// mapped is skipped; a larger page is split. Only task context may call it.
///
/// # Errors
///
/// Returns a [`PagingError`]; what was removed before it stays removed.
pub fn direct_map_remove(
    start: u64,
    len: u64,
    mut tables: FrameSource<'_>,
) -> Result<(), PagingError> {
    check(start, len);
    let mut guard = lock();
    for phys in (start..start + len).step_by(PAGE as usize) {
        let at = indices(phys);
        let Some(third) = present(&mut root(&mut guard)[at[0]]) else {
            continue;
        };
        let entry = &mut third[at[1]];
        if entry.flags().contains(Flags::PRESENT | Flags::HUGE_PAGE) {
            split(entry, &mut tables)?;
        }
        let Some(second) = present(entry) else {
            continue;
        };
        let entry = &mut second[at[2]];
        match present(entry) {
            // The pages are small ones; their table stays for the next time.
            Some(first) => first.iter_mut().for_each(PageTableEntry::set_unused),
            None => entry.set_unused(),
        }
    }
    Ok(())
}

/// Returns whether the physical address `phys` is in the direct map.
pub fn direct_mapped(phys: u64) -> bool {
    let mut guard = lock();
    let at = indices(phys);
    let Some(third) = present(&mut root(&mut guard)[at[0]]) else {
        return false;
    };
    let mut entry = &mut third[at[1]];
    for index in [at[2], at[3]] {
        match present(entry) {
            Some(table) => entry = &mut table[index],
            None => break,
        }
    }
    entry.flags().contains(Flags::PRESENT)
}

fn check(start: u64, len: u64) {
    let whole = (start | len).is_multiple_of(PAGE);
    assert!(whole, "{len:#x} bytes at {start:#x}");
}

fn indices(phys: u64) -> [usize; 4] {
    let virt = phys_to_virt(phys) as u64;
    [39, 30, 21, 12].map(|shift| (virt >> shift & 511) as usize)
}

/// Returns the table behind `entry`, if the entry points to one.
fn present(entry: &mut PageTableEntry) -> Option<&'static mut PageTable> {
    let flags = entry.flags();
    (flags.contains(Flags::PRESENT) && !flags.contains(Flags::HUGE_PAGE)).then(|| next_table(entry))
}

fn add_page(guard: &mut Guard, phys: u64, tables: &mut FrameSource<'_>) -> Result<(), PagingError> {
    let at = indices(phys);
    let third = table_or_new(&mut root(guard)[at[0]], tables)?;
    let entry = &mut third[at[1]];
    if entry.flags().contains(Flags::PRESENT | Flags::HUGE_PAGE) {
        return Ok(());
    }
    let second = table_or_new(entry, tables)?;
    let entry = &mut second[at[2]];
    if let Some(first) = present(entry) {
        for (index, entry) in first.iter_mut().enumerate() {
            entry.set_addr(PhysAddr::new(phys + index as u64 * 4096), DATA);
        }
    } else if entry.is_unused() {
        entry.set_addr(PhysAddr::new(phys), DATA | Flags::HUGE_PAGE);
    } else if entry.addr().as_u64() != phys {
        return Err(PagingError::Taken(phys_to_virt(phys) as u64));
    }
    Ok(())
}

fn table_or_new(
    entry: &mut PageTableEntry,
    tables: &mut FrameSource<'_>,
) -> Result<&'static mut PageTable, PagingError> {
    if entry.is_unused() {
        let frame = tables().ok_or(PagingError::NoFrame)?;
        entry.set_addr(frame.start_address(), Flags::PRESENT | Flags::WRITABLE);
        let table = next_table(entry);
        table.zero();
        return Ok(table);
    }
    Ok(next_table(entry))
}

/// Replaces a 1 GiB page by a table of 2 MiB pages with the same translations.
fn split(entry: &mut PageTableEntry, tables: &mut FrameSource<'_>) -> Result<(), PagingError> {
    let frame = tables().ok_or(PagingError::NoFrame)?;
    // SAFETY: the frame was given away for this table.
    let table: &mut PageTable =
        unsafe { &mut *phys_to_virt(frame.start_address().as_u64()).cast() };
    for (index, small) in table.iter_mut().enumerate() {
        small.set_addr(entry.addr() + index as u64 * PAGE, entry.flags());
    }
    // Other CPUs see the old page or the new table, which agree: the entry is one 8-byte store.
    entry.set_addr(frame.start_address(), Flags::PRESENT | Flags::WRITABLE);
    Ok(())
}
