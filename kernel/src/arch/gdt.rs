//! Segments, the task state segment and the interrupt stacks of one CPU.
//!
//! Every vector runs on an interrupt stack, because interrupted code may use the 128 bytes below
//! its stack pointer. The precompiled `core` is built with such a red zone.

use super::early::BumpAllocator;
use super::paging::{self, PagingError, Stack};
use super::percpu::PerCpu;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

/// Pages in an interrupt stack.
pub const IST_PAGES: usize = 4;

/// The interrupt stack that a vector runs on: its index in the TSS, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Ist {
    /// For hard interrupts, which do not nest.
    HardIrq = 0,
    /// For the NMI.
    Nmi = 1,
    /// For the double fault.
    DoubleFault = 2,
    /// For the machine check.
    MachineCheck = 3,
    /// For debug exceptions.
    Debug = 4,
    /// For the other exceptions.
    Exception = 5,
    /// For page faults.
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
/// The CPU of `block` does not use these tables yet, and no other code prepares them.
pub(super) unsafe fn prepare(
    block: &'static PerCpu,
    early: &mut BumpAllocator,
) -> Result<(), PagingError> {
    // SAFETY: the caller promises that no other code uses these tables.
    let tables: &'static mut CpuTables = unsafe { &mut *block.tables.get() };
    for slot in 0..7 {
        let stack = early_stack(early, IST_PAGES)?;
        tables.tss.interrupt_stack_table[slot] = VirtAddr::new(stack.top);
    }
    tables.gdt.append(Descriptor::kernel_code_segment());
    tables.gdt.append(Descriptor::kernel_data_segment());
    let tss = &raw const tables.tss;
    // SAFETY: the TSS stays where it is, because per-CPU blocks are never moved or freed.
    tables
        .gdt
        .append(unsafe { Descriptor::tss_segment_unchecked(tss) });
    Ok(())
}

/// Makes the running CPU use its tables.
///
/// # Safety
/// `block` is the running CPU's, and [`prepare`] was called on it. The caller loads gs again
/// afterwards.
pub(super) unsafe fn load(block: &'static PerCpu) {
    use x86_64::PrivilegeLevel::Ring0;
    use x86_64::structures::gdt::SegmentSelector;
    // SAFETY: from here on the tables are only read, apart from the busy bit that the processor
    // sets itself.
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
