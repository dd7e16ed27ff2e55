//! What belongs to the processor and the machine around it: CPU set-up, interrupts, SMP, time,
//! ACPI's tables, paging.

pub mod acpi;
pub mod apic;
pub mod context;
pub mod early;
pub mod entry;
pub mod exceptions;
pub mod gdt;
pub mod idt;
pub mod ioapic;
pub mod ipi;
pub mod irq;
pub mod irqs;
pub mod mem;
pub mod nmi;
pub mod paging;
pub mod percpu;
pub mod port;
pub mod smp;
pub mod time;
pub mod timer;
pub mod tlb;
pub mod vectors;

pub use irqs::{Irqs, Pinned, pin, without_interrupts};
pub use percpu::{CpuId, MAX_CPUS, PerCpu, cpu_id};
