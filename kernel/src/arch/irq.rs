//! Hard interrupts: handlers by vector and by IO-APIC line.

use super::context::HardIrq;

/// An interrupt handler: interrupts are off, it may not sleep.
pub type Handler = fn(&HardIrq);

/// Why a handler could not be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IrqError {
    /// No IO-APIC serves this line.
    NoSuchGsi(u32),
    /// The vector or line has a handler already.
    Taken(u8),
    /// The fixed table is full.
    Full,
}

/// Adds a handler for `vector`; up to four share one.
pub fn register(vector: u8, handler: Handler) -> Result<(), IrqError> {
    let _ = (vector, handler);
    todo!()
}

/// Adds a handler for IO-APIC line `gsi` (after MADT overrides; for a legacy IRQ see
/// [`request_isa`]) and unmasks it on the boot CPU. Task context.
pub fn request_gsi(gsi: u32, handler: Handler) -> Result<(), IrqError> {
    let _ = (gsi, handler);
    todo!()
}

/// As [`request_gsi`], for a legacy IRQ (COM1 is 4, COM2 is 3), after the MADT's overrides.
pub fn request_isa(irq: u8, handler: Handler) -> Result<(), IrqError> {
    let _ = (irq, handler);
    todo!()
}
