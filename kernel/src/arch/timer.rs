//! The tick: the timer of each CPU's local APIC.

use super::apic;
use super::context::HardIrq;
use super::irq::{Handler, IrqError};
use core::sync::atomic::{AtomicU32, Ordering::*};
use tidemark_sync::{Hooks, hook};

static HZ: AtomicU32 = AtomicU32::new(1000);
static HOOKS: Hooks<Handler, 8> = Hooks([const { hook!(fn(&HardIrq)) }; 8]);

/// Adds a handler that every tick of every CPU calls; up to eight.
///
/// # Errors
///
/// Returns [`IrqError::Full`] if there are eight already.
pub fn add_hook(handler: Handler) -> Result<(), IrqError> {
    HOOKS.add(handler).map(drop).ok_or(IrqError::Full)
}

/// Returns the ticks per second.
pub fn hz() -> u32 {
    HZ.load(Relaxed)
}

/// Sets the ticks per second, for timers started later.
pub fn set_hz(hz: u32) {
    HZ.store(hz.clamp(1, 100_000), Relaxed);
}

/// Starts the running CPU's tick.
pub fn start() {
    apic::start_timer(hz());
}

/// Stops the running CPU's tick.
pub fn stop() {
    apic::stop_timer();
}

pub(super) fn handle(token: &HardIrq) {
    for hook in HOOKS.iter() {
        hook(token);
    }
}
