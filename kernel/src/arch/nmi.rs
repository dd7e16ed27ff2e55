//! Non-maskable interrupts.

use super::context::Nmi;
use super::entry::TrapFrame;
use super::irq::IrqError;
use super::percpu::CpuId;

/// What an NMI calls: it takes no lock, wakes nobody, must not fault.
pub type Handler = fn(&Nmi, &TrapFrame);

/// Adds a handler that every NMI calls; up to eight.
pub fn add_hook(handler: Handler) -> Result<(), IrqError> {
    let _ = handler;
    todo!()
}

/// Sends an NMI to `cpu` (its own CPU too: by physical destination). Any context.
pub fn send(cpu: CpuId) {
    let _ = cpu;
    todo!()
}

/// Returns how many NMIs `cpu` has taken.
pub fn count(cpu: CpuId) -> u32 {
    super::percpu::of(cpu).taken(super::vectors::NMI)
}
