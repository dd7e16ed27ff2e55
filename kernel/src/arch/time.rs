//! Time since boot, from the time-stamp counter (TSC).

mod reference;

use super::acpi::Fadt;
use super::interrupts;
use core::sync::atomic::{AtomicU64, Ordering::*};
use reference::Reference;

const NS_PER_S: u64 = 1_000_000_000;

/// The TSC when time began. It is written once, before `SCALE`.
static START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds in a tick of the TSC, times 2^32; 0 until calibrated.
static SCALE: AtomicU64 = AtomicU64::new(0);

/// Reads the time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 processor has it, and reading it has no effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Returns the nanoseconds since the TSC was calibrated; 0 before that. All CPUs return the same.
/// Any context may call it, NMI included.
pub fn now_ns() -> u64 {
    // Acquire pairs with the Release in `start`: a scale comes with its start.
    let scale = SCALE.load(Acquire);
    let ticks = tsc().saturating_sub(START.load(Relaxed));
    ticks_to_ns(ticks, scale)
}

fn ticks_to_ns(ticks: u64, scale: u64) -> u64 {
    ((u128::from(ticks) * u128::from(scale)) >> 32) as u64
}

/// Spins for `ns` nanoseconds.
pub fn spin_ns(ns: u64) {
    spin_until(ns, || false);
}

/// Spins until `condition` holds; returns false if it does not within `ns` nanoseconds.
pub fn spin_until(ns: u64, mut condition: impl FnMut() -> bool) -> bool {
    let end = now_ns().saturating_add(ns);
    loop {
        if condition() {
            return true;
        }
        if now_ns() >= end {
            return condition();
        }
        core::hint::spin_loop();
    }
}

/// Measures the TSC and `other`, a counter that counts up, and starts time. The reference is the
/// ACPI timer, or the legacy timer if there is none. Returns how far `other` counts in a second. It
/// is called once, on the boot CPU.
pub fn calibrate(fadt: &Fadt, other: impl Fn() -> u64) -> u64 {
    let measured = interrupts::without_interrupts(|| Reference::find(fadt).measure(&other));
    START.store(measured.start, Relaxed);
    let scale = (u128::from(measured.ns) << 32) / u128::from(measured.tsc.max(1));
    // Release pairs with the Acquire in `now_ns`.
    SCALE.store(scale as u64, Release);
    measured.other * NS_PER_S / measured.ns.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_without_overflow_for_a_century() {
        let scale = (1u64 << 32) / 4; // 4 GHz
        assert_eq!(ticks_to_ns(4_000_000_000, scale), NS_PER_S);
        let century = 100 * 365 * 86_400 * 4_000_000_000u64;
        assert_eq!(ticks_to_ns(century, scale), century / 4);
    }
}
