//! The counters of known speed that the TSC is measured against.

use super::{Fadt, NS_PER_S, tsc};
use crate::arch::port;

/// Rate of the ACPI timer, in Hz (ACPI 6.5, section 4.8.3.3).
const PM_TIMER_HZ: u64 = 3_579_545;
/// Rate of the legacy timer, in Hz.
const PIT_HZ: u64 = 1_193_182;
/// Length of one measurement.
const WINDOW_NS: u64 = 10_000_000;
/// Most measurements. They are repeated until at most one part in `PRECISION` of the measured ticks
/// is uncertain.
const TRIES: u32 = 8;
const PRECISION: u64 = 2000;

/// A counter of known speed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reference {
    /// The ACPI timer.
    PmTimer { port: u16, mask: u64 },
    /// The legacy timer's channel 2, free-running; it wraps every 55 ms.
    Pit,
}

/// The ticks between two samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// The TSC at the first sample.
    pub start: u64,
    /// Ticks of the TSC.
    pub tsc: u64,
    /// Ticks of the other counter.
    pub other: u64,
    /// Nanoseconds by the reference.
    pub ns: u64,
    /// Ticks of the TSC by which the result may be wrong, because sampling takes time.
    uncertain: u64,
}

/// One reading of all three counters.
#[derive(Clone, Copy)]
struct Sample {
    reference: u64,
    other: u64,
    tsc: u64,
    /// Ticks of the TSC that the reading took.
    width: u64,
}

impl Reference {
    /// Chooses the ACPI timer, if there is one, and starts the legacy timer otherwise.
    pub fn find(fadt: &Fadt) -> Self {
        if let Some(port) = fadt.pm_timer {
            let mask = (1 << fadt.pm_timer_bits) - 1;
            return Self::PmTimer { port, mask };
        }
        // SAFETY: channel 2 drives only the speaker, which stays off; no other code uses it.
        unsafe {
            let gate = port::inb(0x61) & !3;
            port::outb(0x61, gate | 1);
            port::outb(0x43, 0b1011_0000);
            port::outb(0x42, 0xff);
            port::outb(0x42, 0xff);
        }
        Self::Pit
    }

    /// Reads the counter, as one that counts up.
    fn read(self) -> u64 {
        match self {
            // SAFETY: reading the timer's register has no effect.
            Self::PmTimer { port, mask } => u64::from(unsafe { port::inl(port) }) & mask,
            // SAFETY: this latches the count and reads it, which affects nothing else. It counts
            // down.
            Self::Pit => unsafe {
                port::outb(0x43, 0b1000_0000);
                let low = port::inb(0x42);
                let high = port::inb(0x42);
                u64::from(!u16::from_le_bytes([low, high]))
            },
        }
    }

    fn hz(self) -> u64 {
        match self {
            Self::PmTimer { .. } => PM_TIMER_HZ,
            Self::Pit => PIT_HZ,
        }
    }

    fn since(self, from: u64) -> u64 {
        let mask = match self {
            Self::PmTimer { mask, .. } => mask,
            Self::Pit => 0xffff,
        };
        self.read().wrapping_sub(from) & mask
    }

    /// Reads the counters several times and returns the least disturbed reading. A host may stop a
    /// virtual CPU between any two reads.
    fn sample(self, from: u64, other: &impl Fn() -> u64) -> Sample {
        let look = || {
            let before = tsc();
            let reference = self.since(from);
            let other = other();
            let width = tsc() - before;
            Sample {
                reference,
                other,
                tsc: before + width / 2,
                width,
            }
        };
        let first = look();
        (0..7).fold(first, |best, _| {
            let sample = look();
            if sample.width < best.width {
                sample
            } else {
                best
            }
        })
    }

    /// Measures the TSC and `other`. Interrupts are off.
    pub fn measure(self, other: &impl Fn() -> u64) -> Measured {
        let mut best = self.measure_once(other);
        for _ in 1..TRIES {
            if best.uncertain * PRECISION <= best.tsc {
                break;
            }
            let again = self.measure_once(other);
            if again.uncertain * best.tsc < best.uncertain * again.tsc {
                best = again;
            }
        }
        best
    }

    fn measure_once(self, other: &impl Fn() -> u64) -> Measured {
        let wait = self.hz() * WINDOW_NS / NS_PER_S;
        let from = self.read();
        let first = self.sample(from, other);
        while self.since(from) < first.reference + wait {
            core::hint::spin_loop();
        }
        let last = self.sample(from, other);
        Measured {
            start: first.tsc,
            tsc: last.tsc - first.tsc,
            other: last.other - first.other,
            ns: (last.reference - first.reference) * NS_PER_S / self.hz(),
            uncertain: first.width + last.width,
        }
    }
}
