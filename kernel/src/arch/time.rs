//! Time since boot, from the TSC.

use super::acpi::Fadt;
use super::{irqs, port};
use core::sync::atomic::{AtomicU64, Ordering::*};

/// Hertz of the ACPI timer (ACPI 6.5, section 4.8.3.3).
const PM_TIMER_HZ: u64 = 3_579_545;
/// Hertz of the legacy timer.
const PIT_HZ: u64 = 1_193_182;
/// How long the calibration looks.
const CALIBRATION_NS: u64 = 10_000_000;
const NS_PER_S: u64 = 1_000_000_000;

/// The TSC when time began. Written once, before `SCALE`.
static START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds a tick, times 2^32; 0 until calibrated.
static SCALE: AtomicU64 = AtomicU64::new(0);

/// Reads the time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 has it, and reading it has no effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Returns nanoseconds since the TSC was calibrated (before that, 0). Any context, NMI included;
/// the same on all CPUs.
pub fn now_ns() -> u64 {
    // Acquire: pairs with the Release in `start`; a scale comes with its start.
    let scale = SCALE.load(Acquire);
    let ticks = tsc().saturating_sub(START.load(Relaxed));
    ticks_to_ns(ticks, scale)
}

fn ticks_to_ns(ticks: u64, scale: u64) -> u64 {
    ((u128::from(ticks) * u128::from(scale)) >> 32) as u64
}

/// Returns the TSC's ticks per second, 0 before calibration.
pub fn tsc_hz() -> u64 {
    match SCALE.load(Relaxed) {
        0 => 0,
        scale => (u128::from(NS_PER_S) << 32).div_euclid(u128::from(scale)) as u64,
    }
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

/// Measures the TSC and `other` (a counter that counts up) against the ACPI timer, or the legacy
/// timer if there is none, and starts time. Returns how far `other` came in a second. Boot CPU, once.
pub fn calibrate(fadt: &Fadt, other: impl Fn() -> u64) -> u64 {
    let sample = |reference: u64| Sample {
        reference,
        tsc: tsc(),
        other: other(),
    };
    let (first, last, hz) = irqs::without_interrupts(|| match fadt.pm_timer {
        Some(port) => {
            let mask = (1u64 << fadt.pm_timer_bits) - 1;
            // SAFETY: reading the timer's register has no effect.
            let read = || u64::from(unsafe { port::inl(port) }) & mask;
            let elapsed = |from: u64| read().wrapping_sub(from) & mask;
            let wait = PM_TIMER_HZ * CALIBRATION_NS / NS_PER_S;
            let start = read();
            let first = sample(0);
            while elapsed(start) < wait {
                core::hint::spin_loop();
            }
            (first, sample(elapsed(start)), PM_TIMER_HZ)
        }
        None => {
            let ticks = (PIT_HZ * CALIBRATION_NS / NS_PER_S) as u16;
            pit_start(ticks);
            let first = sample(0);
            while !pit_done() {
                core::hint::spin_loop();
            }
            (first, sample(u64::from(ticks)), PIT_HZ)
        }
    });
    let ns = last.reference * NS_PER_S / hz;
    start(first.tsc, last.tsc - first.tsc, ns);
    (last.other - first.other) * NS_PER_S / ns
}

struct Sample {
    reference: u64,
    tsc: u64,
    other: u64,
}

fn start(first: u64, ticks: u64, ns: u64) {
    START.store(first, Relaxed);
    let scale = (u128::from(ns) << 32) / u128::from(ticks.max(1));
    // Release: pairs with the Acquire in `now_ns`.
    SCALE.store(scale as u64, Release);
}

/// Starts the legacy timer's channel 2 to count `ticks` down once.
fn pit_start(ticks: u16) {
    // SAFETY: channel 2 drives the speaker only, which stays off; nobody else uses it.
    unsafe {
        let gate = port::inb(0x61) & !3;
        port::outb(0x61, gate);
        port::outb(0x43, 0b1011_0000);
        port::outb(0x42, ticks as u8);
        port::outb(0x42, (ticks >> 8) as u8);
        port::outb(0x61, gate | 1);
    }
}

fn pit_done() -> bool {
    // SAFETY: reading the port has no effect.
    unsafe { port::inb(0x61) & 1 << 5 != 0 }
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
