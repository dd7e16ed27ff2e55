//! The kernel's page tables: what is mapped where beyond what the loader did.
//!
//! One unused slot of the top-level table (512 GiB) is the kernel's own: stacks with guard pages
//! ([`stack`]) in its first half, device registers in its second. No page is ever writable and
//! executable.

pub mod direct;
pub mod stack;
mod wx;

use super::interrupts::{self, Irqs};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::*};
use tidemark_sync::{IrqSpinGuard, IrqSpinLock, Rank};
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::page_table::{PageTable, PageTableEntry, PageTableFlags as Flags};
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PhysFrame, Size4KiB, mapper::MapToError,
};
use x86_64::{PhysAddr, VirtAddr};

pub use direct::{direct_map_add, direct_map_remove};
pub use stack::{Stack, map_stack, map_stack_at, stack_of};

/// Where page-table frames come from; called with interrupts off.
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
    /// The page at this address is writable and executable.
    WritableExecutable(u64),
}

impl fmt::Display for PagingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFrame => write!(f, "no frame for a page table or a stack"),
            Self::NoAddresses => write!(f, "no addresses left for the kernel's own mappings"),
            Self::Taken(at) => write!(f, "something else is mapped at {at:#x}"),
            Self::WritableExecutable(at) => {
                write!(f, "the page at {at:#x} is writable and executable")
            }
        }
    }
}

/// Flags of data that only the kernel reads and writes.
const DATA: Flags = Flags::PRESENT
    .union(Flags::WRITABLE)
    .union(Flags::NO_EXECUTE);
const SLOT_BYTES: u64 = 1 << 39;

/// Written once by `init`, before anything else runs.
static PHYS_OFFSET: AtomicU64 = AtomicU64::new(0);
/// As `PHYS_OFFSET`: where the kernel's own range starts.
static AREA: AtomicU64 = AtomicU64::new(0);

/// The lock around every change of the tables, and the addresses handed out for registers.
struct Area {
    next_mmio: u64,
}

static TABLES: IrqSpinLock<Area, Irqs> = IrqSpinLock::new(Rank::PageTable, Area { next_mmio: 0 });

/// Takes over the loader's tables, given where it mapped physical memory. Boot CPU, once.
pub fn init(phys_offset: u64) -> Result<(), PagingError> {
    PHYS_OFFSET.store(phys_offset, Relaxed);
    let mut guard = lock();
    let root = root(&mut guard);
    let slot = (256..512usize)
        .rev()
        .find(|&slot| root[slot].is_unused())
        .ok_or(PagingError::NoAddresses)?;
    let area = VirtAddr::new_truncate(slot as u64 * SLOT_BYTES).as_u64();
    drop(guard);
    AREA.store(area, Relaxed);
    TABLES.lock().next_mmio = area + SLOT_BYTES / 2;
    Ok(())
}

/// Unmaps the lower half of the addresses, where a loader may have left what it switched tables
/// with. Boot CPU, before others start; the kernel's own mappings are all in the upper half.
pub(super) fn drop_lower_half() {
    let mut guard = lock();
    for entry in root(&mut guard).iter_mut().take(256) {
        entry.set_unused();
    }
    flush_local();
}

/// Converts a physical address to where the physical-memory map has it.
pub fn phys_to_virt(phys: u64) -> *mut u8 {
    (PHYS_OFFSET.load(Relaxed) + phys) as *mut u8
}

/// The lock held.
type Guard = IrqSpinGuard<'static, Area, Irqs>;

fn lock() -> Guard {
    TABLES.lock()
}

/// Returns the top-level table of the running CPU, for as long as the lock is held.
fn root(_held: &mut Guard) -> &mut PageTable {
    let (frame, _) = Cr3::read();
    // SAFETY: CR3 points to a table within the physical-memory map, and the lock is held.
    unsafe { &mut *phys_to_virt(frame.start_address().as_u64()).cast() }
}

/// Returns the table that `entry` points to.
fn next_table(entry: &PageTableEntry) -> &'static mut PageTable {
    // SAFETY: called on present entries that are not huge: they point to tables.
    unsafe { &mut *phys_to_virt(entry.addr().as_u64()).cast() }
}

struct Tables<'a, 'b>(&'a mut FrameSource<'b>);

// SAFETY: the source gives each frame away for good.
unsafe impl FrameAllocator<Size4KiB> for Tables<'_, '_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        (self.0)()
    }
}

/// Maps one page that nothing is mapped at yet.
fn map_page(
    guard: &mut Guard,
    virt: u64,
    frame: PhysFrame,
    flags: Flags,
    tables: &mut FrameSource<'_>,
) -> Result<(), PagingError> {
    let offset = VirtAddr::new(PHYS_OFFSET.load(Relaxed));
    // SAFETY: all physical memory is mapped at the offset, and the lock is held.
    let mut mapper = unsafe { OffsetPageTable::new(root(guard), offset) };
    let page = Page::<Size4KiB>::containing_address(VirtAddr::new(virt));
    // SAFETY: the address lies in the kernel's own range and was unused until now.
    let mapped = unsafe { mapper.map_to(page, frame, flags, &mut Tables(tables)) };
    match mapped {
        // A page that was not mapped is in no TLB.
        Ok(flush) => flush.ignore(),
        Err(MapToError::FrameAllocationFailed) => return Err(PagingError::NoFrame),
        Err(_) => return Err(PagingError::Taken(virt)),
    }
    Ok(())
}

/// Maps `len` bytes of device registers at `phys`, uncached; returns their address. Task context.
pub fn map_mmio(phys: u64, len: u64, mut tables: FrameSource<'_>) -> Result<*mut u8, PagingError> {
    let first = phys & !0xfff;
    let pages = (phys + len - first).div_ceil(4096);
    let mut guard = lock();
    let virt = guard.next_mmio;
    let end = virt + pages * 4096;
    if end > AREA.load(Relaxed).saturating_add(SLOT_BYTES - 1) {
        return Err(PagingError::NoAddresses);
    }
    guard.next_mmio = end;
    for page in 0..pages {
        let frame = PhysFrame::containing_address(PhysAddr::new(first + page * 4096));
        let flags = DATA | Flags::NO_CACHE | Flags::WRITE_THROUGH;
        map_page(&mut guard, virt + page * 4096, frame, flags, &mut tables)?;
    }
    Ok((virt + (phys - first)) as *mut u8)
}

/// Checks that no page is both writable and executable; walks all tables.
///
/// # Errors
/// [`PagingError::WritableExecutable`] with the first such page.
pub fn check_no_writable_executable() -> Result<(), PagingError> {
    let mut guard = lock();
    match wx::first(root(&mut guard), &|entry| next_table(entry)) {
        Some(at) => Err(PagingError::WritableExecutable(at)),
        None => Ok(()),
    }
}

/// Drops every translation that the running CPU has cached, global ones included.
pub fn flush_local() {
    use x86_64::registers::control::{Cr4, Cr4Flags};
    interrupts::without_interrupts(|| {
        let flags = Cr4::read();
        // SAFETY: toggling the global-page bit flushes and changes nothing else.
        unsafe {
            Cr4::write(flags ^ Cr4Flags::PAGE_GLOBAL);
            Cr4::write(flags);
        }
    });
}

/// Builds tables for starting CPUs: the kernel's, plus `page` at its own address, read-only and
/// executable. Returns the physical address of the top-level table.
pub(super) fn identity_tables(
    page: PhysFrame,
    tables: FrameSource<'_>,
) -> Result<u64, PagingError> {
    let mut guard = lock();
    let mut new_table = || {
        let phys = tables().ok_or(PagingError::NoFrame)?.start_address();
        // SAFETY: a frame given away for this table.
        let table: &mut PageTable = unsafe { &mut *phys_to_virt(phys.as_u64()).cast() };
        table.zero();
        Ok((phys, table))
    };
    let (top, table) = new_table()?;
    for (copy, entry) in table.iter_mut().zip(root(&mut guard).iter()) {
        *copy = entry.clone();
    }
    let at = page.start_address().as_u64();
    let mut entry = &mut table[0];
    for shift in [30, 21, 12] {
        let (phys, table) = new_table()?;
        entry.set_addr(phys, Flags::PRESENT | Flags::WRITABLE);
        entry = &mut table[(at >> shift & 511) as usize];
    }
    entry.set_addr(page.start_address(), Flags::PRESENT);
    Ok(top.as_u64())
}
