//! Segments, the task state segment and the interrupt stacks of one CPU.
//!
//! Every vector runs on a stack of its own kind, because interrupted code may use the 128 bytes
//! below its stack pointer (the precompiled `core` is built with a red zone).

use super::early::BumpAllocator;
use super::paging::{self, PagingError, Stack};
use super::percpu::PerCpu;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

/// Pages of an interrupt stack.
pub const IST_PAGES: usize = 4;

/// Which interrupt stack a vector runs on: the index in the TSS, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Ist {
    /// Hard interrupts; they do not nest.
    HardIrq = 0,
    /// The NMI.
    Nmi = 1,
    /// The double fault.
    DoubleFault = 2,
    /// The machine check.
    MachineCheck = 3,
    /// Debug exceptions.
    Debug = 4,
    /// The other exceptions.
    Exception = 5,
    /// Page faults.
    PageFault = 6,
}

/// The descriptor tables of one CPU.
#[derive(Debug)]
pub struct CpuTables {
    gdt: GlobalDescriptorTable<6>,
    tss: TaskStateSegment,
}

impl CpuTables {
    /// Returns empty tables.
    pub const fn new() -> Self {
        Self {
            gdt: GlobalDescriptorTable::empty(),
            tss: TaskStateSegment::new(),
        }
    }
}

impl Default for CpuTables {
    fn default() -> Self {
        Self::new()
    }
}

/// Maps a stack from early memory.
pub(super) fn early_stack(early: &mut BumpAllocator, pages: usize) -> Result<Stack, PagingError> {
    let phys = early
        .alloc(pages as u64 * 4096, 4096)
        .ok_or(PagingError::NoFrame)?;
    paging::map_stack_at(phys, pages, &mut || early.frame())
}

/// Fills in a CPU's tables, with fresh interrupt stacks.
///
/// # Safety
/// The CPU of `block` does not use these tables yet, and nobody else prepares them.
pub(super) unsafe fn prepare(
    block: &'static PerCpu,
    early: &mut BumpAllocator,
) -> Result<(), PagingError> {
    // SAFETY: the caller is the only one at these tables.
    let tables: &'static mut CpuTables = unsafe { &mut *block.tables.get() };
    for slot in 0..7 {
        let stack = early_stack(early, IST_PAGES)?;
        tables.tss.interrupt_stack_table[slot] = VirtAddr::new(stack.top);
    }
    tables.gdt.append(Descriptor::kernel_code_segment());
    tables.gdt.append(Descriptor::kernel_data_segment());
    let tss = &raw const tables.tss;
    // SAFETY: the TSS stays where it is: per-CPU blocks are never moved or freed.
    tables
        .gdt
        .append(unsafe { Descriptor::tss_segment_unchecked(tss) });
    Ok(())
}

/// Makes the running CPU use its tables.
///
/// # Safety
/// `block` is the running CPU's, and [`prepare`] was called on it. gs is loaded again afterwards.
pub(super) unsafe fn load(block: &'static PerCpu) {
    use x86_64::PrivilegeLevel::Ring0;
    use x86_64::structures::gdt::SegmentSelector;
    // SAFETY: only read from here on, apart from the busy bit that the processor sets itself.
    let gdt = unsafe { &(*block.tables.get()).gdt };
    // SAFETY: the table has a code segment at 1, a data segment at 2 and the TSS at 3.
    unsafe {
        gdt.load_unsafe();
        CS::set_reg(SegmentSelector::new(1, Ring0));
        SS::set_reg(SegmentSelector::new(2, Ring0));
        DS::set_reg(SegmentSelector::new(2, Ring0));
        ES::set_reg(SegmentSelector::new(2, Ring0));
        load_tss(SegmentSelector::new(3, Ring0));
    }
}
