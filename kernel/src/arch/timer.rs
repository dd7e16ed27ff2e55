//! The tick: each CPU's local APIC timer.

use super::context::HardIrq;
use super::irq::IrqError;

/// Adds a handler that every CPU's every tick calls; up to eight.
pub fn add_hook(handler: fn(&HardIrq)) -> Result<(), IrqError> {
    let _ = handler;
    todo!()
}

/// Returns the ticks per second.
pub fn hz() -> u32 {
    1000
}
