//! The tick: each CPU's local APIC timer.

use super::apic;
use super::context::HardIrq;
use super::irq::{Handler, IrqError};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::*};

static HZ: AtomicU32 = AtomicU32::new(1000);
static HOOKS: [AtomicPtr<()>; 8] = [const { AtomicPtr::new(ptr::null_mut()) }; 8];

/// Adds a handler that every CPU's every tick calls; up to eight.
pub fn add_hook(handler: Handler) -> Result<(), IrqError> {
    for slot in &HOOKS {
        // Release: pairs with the Acquire in `handle`.
        let set = slot.compare_exchange(ptr::null_mut(), handler as *mut (), Release, Relaxed);
        if set.is_ok() {
            return Ok(());
        }
    }
    Err(IrqError::Full)
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
    for slot in &HOOKS {
        let hook = slot.load(Acquire);
        if hook.is_null() {
            break;
        }
        // SAFETY: only `add_hook` writes it, with a `Handler`.
        let hook: Handler = unsafe { core::mem::transmute(hook) };
        hook(token);
    }
}
