//! The processor and the machine around it: CPU set-up, interrupts, SMP, time, ACPI's tables,
//! paging.

pub mod acpi;
pub mod apic;
pub mod context;
pub mod early;
pub mod entry;
pub mod exceptions;
pub mod gdt;
mod gs;
pub mod idt;
pub mod interrupts;
pub mod ioapic;
pub mod ipi;
pub mod irq;
pub mod log;
#[cfg(any(feature = "freestanding", test))]
mod mem;
pub mod nmi;
pub mod own_time;
pub mod paging;
pub mod percpu;
pub mod port;
pub mod preempt;
pub mod rest;
pub mod smp;
pub mod time;
pub mod timer;
pub mod tlb;
pub mod vectors;

use acpi::{AcpiError, DirectMap, Tables};
use bootloader_api::BootInfo;
use core::fmt;
use core::ptr;
use early::BumpAllocator;
use paging::PagingError;
use smp::SmpError;

pub use interrupts::{Irqs, without_interrupts};
pub use percpu::{CpuId, MAX_CPUS, cpu_id};
pub use preempt::pin;

/// A reason why the processor layer cannot work on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchError {
    NoPhysicalMap,
    NoRootPointer,
    Acpi(AcpiError),
    Paging(PagingError),
    Smp(SmpError),
}

impl fmt::Display for ArchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPhysicalMap => write!(f, "the loader did not map physical memory"),
            Self::NoRootPointer => write!(f, "the loader did not find the ACPI tables"),
            Self::Acpi(error) => error.fmt(f),
            Self::Paging(error) => error.fmt(f),
            Self::Smp(error) => error.fmt(f),
        }
    }
}

impl From<AcpiError> for ArchError {
    fn from(error: AcpiError) -> Self {
        Self::Acpi(error)
    }
}

impl From<PagingError> for ArchError {
    fn from(error: PagingError) -> Self {
        Self::Paging(error)
    }
}

impl From<SmpError> for ArchError {
    fn from(error: SmpError) -> Self {
        Self::Smp(error)
    }
}

static TABLES: spin::Once<Tables<'static>> = spin::Once::new();

/// Sets up the boot CPU, whose gs is set ([`percpu::init_boot_cpu`]). It takes over the page tables
/// and makes descriptor tables and interrupt stacks. Then it reads ACPI's tables and starts time
/// and interrupt controllers. Leaves interrupts off, and the tick running.
///
/// # Errors
///
/// Returns an [`ArchError`] if the machine lacks something that the kernel needs.
pub fn init(
    boot: &BootInfo,
    early: &mut BumpAllocator,
) -> Result<&'static Tables<'static>, ArchError> {
    let offset = boot.physical_memory_offset.into_option();
    paging::init(offset.ok_or(ArchError::NoPhysicalMap)?)?;
    paging::stack::set_boot_stack(boot.kernel_stack_bottom, boot.kernel_stack_len);
    let block = percpu::current();
    // SAFETY: the boot CPU does this once. Loading the segments clears gs, so the block is loaded
    // afterwards.
    unsafe {
        gdt::prepare(block, early)?;
        gdt::load(block);
        percpu::load(block);
    }
    idt::init();
    idt::load();
    let needed = [ptr::from_ref(boot) as u64, boot.kernel_stack_bottom];
    if needed.iter().all(|address| *address > u64::MAX / 2) {
        paging::drop_lower_half();
    }
    let rsdp = boot.rsdp_addr.into_option();
    let tables = acpi::read(rsdp.ok_or(ArchError::NoRootPointer)?, &DirectMap)?;
    let tables = TABLES.call_once(|| tables);
    let madt = &tables.madt;
    apic::init(madt, &mut || early.frame())?;
    let cpu = madt.cpus().find(|cpu| cpu.apic_id == apic::id());
    if let Some(cpu) = cpu {
        block.set_firmware_ids(cpu);
    }
    apic::enable(madt, block.uid());
    ioapic::init(madt, &mut || early.frame())?;
    let hz = time::calibrate(&tables.fadt, apic::timer_ticks());
    apic::set_timer_hz(hz);
    timer::start();
    percpu::set_online();
    Ok(tables)
}

/// Returns the contents of the firmware's tables, once [`init`] has read them.
pub fn tables() -> Option<&'static Tables<'static>> {
    TABLES.get()
}
