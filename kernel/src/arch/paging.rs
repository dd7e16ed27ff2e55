//! The kernel's page tables: the mappings beyond those of the loader.
//!
//! One unused slot of the top-level table (512 GiB) is the kernel's own. Its first half holds
//! stacks with guard pages ([`stack`]), its second half device registers. No page is ever writable
//! and executable.

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

/// A source of frames for page tables. It is called with interrupts off.
pub type FrameSource<'a> = &'a mut dyn FnMut() -> Option<PhysFrame>;

/// Why a mapping could not be made or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagingError {
    /// There was no frame for a page table.
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

/// The flags of data that only the kernel reads and writes.
const DATA: Flags = Flags::PRESENT
    .union(Flags::WRITABLE)
    .union(Flags::NO_EXECUTE);
const SLOT_BYTES: u64 = 1 << 39;

/// The address where physical memory is mapped. It is written once by `init`, before any other code
/// runs.
static PHYS_OFFSET: AtomicU64 = AtomicU64::new(0);
/// The address where the kernel's own range starts. It is written once by `init`, before any other
/// code runs.
static AREA: AtomicU64 = AtomicU64::new(0);

/// What the lock around every change of the tables protects: the next free address for registers.
struct Area {
    next_mmio: u64,
}

static TABLES: IrqSpinLock<Area, Irqs> = IrqSpinLock::new(Rank::PageTable, Area { next_mmio: 0 });

/// Takes over the loader's tables; physical memory is mapped at `phys_offset`. It is called once,
/// on the boot CPU.
///
/// # Errors
///
/// Returns a [`PagingError`] if the kernel gets no range of addresses of its own.
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

/// Unmaps the lower half of the addresses, where the loader may have left mappings for its switch
/// of tables. It is called on the boot CPU, before others start. The kernel's own mappings are all
/// in the upper half.
pub(super) fn drop_lower_half() {
    let mut guard = lock();
    for entry in root(&mut guard).iter_mut().take(256) {
        entry.set_unused();
    }
    flush_local();
}

/// Returns the address of physical address `phys` in the physical-memory map.
pub fn phys_to_virt(phys: u64) -> *mut u8 {
    (PHYS_OFFSET.load(Relaxed) + phys) as *mut u8
}

/// Proof that the lock is held.
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
    // SAFETY: this is called on present entries that are not huge, and those point to tables.
    unsafe { &mut *phys_to_virt(entry.addr().as_u64()).cast() }
}

struct Tables<'a, 'b>(&'a mut FrameSource<'b>);

// SAFETY: the source gives each frame away for good.
unsafe impl FrameAllocator<Size4KiB> for Tables<'_, '_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        (self.0)()
    }
}

/// Maps one page where nothing is mapped yet.
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
        // A page that was not mapped before is in no TLB.
        Ok(flush) => flush.ignore(),
        Err(MapToError::FrameAllocationFailed) => return Err(PagingError::NoFrame),
        Err(_) => return Err(PagingError::Taken(virt)),
    }
    Ok(())
}

/// Maps `len` bytes of device registers at physical address `phys`, uncached, and returns their
/// address. Only task context may call it.
///
/// # Errors
///
/// Returns a [`PagingError`] if addresses or frames for tables run out.
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

/// Checks that no page is both writable and executable, by walking all tables.
///
/// # Errors
/// Returns [`PagingError::WritableExecutable`] with the first such page.
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

/// Builds tables for CPUs that start: the kernel's, plus `page` at its own address, read-only and
/// executable. Returns the physical address of the top-level table.
pub(super) fn identity_tables(
    page: PhysFrame,
    tables: FrameSource<'_>,
) -> Result<u64, PagingError> {
    let mut guard = lock();
    let mut new_table = || {
        let phys = tables().ok_or(PagingError::NoFrame)?.start_address();
        // SAFETY: the frame was given away for this table.
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
