//! A CPU's word about the gated section that is open on it: what its interrupts look at, and what
//! they leave to the gated section's end.

use crate::atomic::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
    compiler_fence,
};

/// Whether a gated section is open on a CPU, and what is owed at its end, in one word.
///
/// Only the CPU itself writes it, task, interrupts and NMIs alike; others may look. Each of the
/// methods that change it is one step: who interrupts it comes before or after. An interrupt that
/// finds a gated section open leaves to its end what may not happen inside, by [`CpuGate::owe`],
/// and the end and the look at what is owed are one step, so that nothing falls between them.
///
/// Bits 0 to 7 count the gated sections that are open: 0 or 1. The others are what is owed.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct CpuGate(AtomicU32);

impl CpuGate {
    /// Owed: the CPU's caches are to be emptied. The allocator's.
    pub const DRAIN: u32 = 1 << 8;
    /// Owed: the word that this CPU is outside of every gated section, for a grace period. The
    /// platform's, which says it at its unpin.
    pub const GRACE: u32 = 1 << 9;
    /// The first of the bits that are the platform's own.
    pub const PLATFORM: u32 = 1 << 16;
    const OPEN: u32 = (1 << 8) - 1;

    /// Returns the word of a CPU with no gated section open and nothing owed.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Returns the word of a CPU with no gated section open and nothing owed.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Returns whether a gated section is open.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.0.load(Relaxed) & Self::OPEN != 0
    }

    /// Tells whether the CPU's code is to stay there: a gated section is open, or has just ended
    /// with a drain or a grace period's word owed, which is about to be paid. Code that were moved
    /// to another CPU in between would leave that unpaid.
    #[inline]
    pub fn holds(&self) -> bool {
        self.0.load(Relaxed) & (Self::OPEN | Self::DRAIN | Self::GRACE) != 0
    }

    /// Begins a gated section; the caller has seen that none is open. An interrupt between that
    /// look and this step leaves the count as it found it.
    #[inline]
    pub fn begin(&self) {
        self.0.fetch_add(1, Relaxed);
        // The gated section stays behind it. Its readers are on the same CPU.
        compiler_fence(SeqCst);
    }

    /// Ends a gated section; returns whether anything is owed.
    #[inline]
    pub fn end(&self) -> bool {
        // The gated section stays before it.
        compiler_fence(SeqCst);
        self.0.fetch_sub(1, Relaxed) != 1
    }

    /// Leaves `what` to the end of the gated section.
    pub fn owe(&self, what: u32) {
        debug_assert_eq!(what & Self::OPEN, 0, "not a thing to owe");
        self.0.fetch_or(what, Relaxed);
    }

    /// Returns whether any of `what` is owed.
    #[inline]
    pub fn owes(&self, what: u32) -> bool {
        self.0.load(Relaxed) & what != 0
    }

    /// Takes back that `what` is owed; returns whether any of it was. The caller does it next.
    pub fn take(&self, what: u32) -> bool {
        let owed = self.0.fetch_and(!what, Relaxed) & what != 0;
        // What is read in order to do it is read behind this.
        compiler_fence(SeqCst);
        owed
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_end_tells_what_was_left_to_it() {
        let gate = CpuGate::new();
        gate.begin();
        assert!(gate.is_open() && !gate.end());
        gate.begin();
        gate.owe(CpuGate::DRAIN);
        gate.owe(CpuGate::PLATFORM);
        assert!(gate.owes(CpuGate::DRAIN) && gate.end());
        assert!(!gate.is_open() && gate.holds());
        assert!(gate.take(CpuGate::DRAIN) && !gate.take(CpuGate::DRAIN));
        assert!(!gate.holds());
        gate.owe(CpuGate::GRACE);
        assert!(gate.holds() && !gate.is_open() && gate.take(CpuGate::GRACE));
        assert!(!gate.holds());
        assert!(!gate.owes(CpuGate::DRAIN) && gate.owes(CpuGate::PLATFORM));
        gate.begin();
        assert!(gate.end() && gate.take(CpuGate::PLATFORM));
        gate.begin();
        assert!(!gate.end());
    }
}

/// An interrupt may come between any two accesses, and so may another thread: what holds for
/// threads holds for interrupts.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::{model, sync::Arc, thread};

    struct Cpu {
        gate: CpuGate,
        drains: AtomicU32,
    }

    impl Cpu {
        fn drain_if_owed(&self) {
            if self.gate.take(CpuGate::DRAIN) {
                self.drains.fetch_add(1, Relaxed);
            }
        }
    }

    /// A gated section, and an interrupt that leaves a drain to its end if it finds it open.
    fn interrupted(owed_before: u32) {
        model(move || {
            let cpu = Arc::new(Cpu {
                gate: CpuGate::new(),
                drains: AtomicU32::new(0),
            });
            cpu.gate.owe(owed_before);
            let other = Arc::clone(&cpu);
            let interrupt = thread::spawn(move || {
                other.gate.owe(CpuGate::DRAIN);
                if !other.gate.is_open() {
                    other.drain_if_owed();
                }
            });
            cpu.gate.begin();
            if cpu.gate.end() {
                cpu.drain_if_owed();
            }
            interrupt.join().unwrap();
            assert_eq!(cpu.drains.load(Relaxed), 1, "done once, and by somebody");
            assert!(!cpu.gate.holds());
            assert_eq!(cpu.gate.owes(CpuGate::PLATFORM), owed_before != 0);
        });
    }

    #[test]
    fn what_an_interrupt_leaves_to_a_section_is_done_once() {
        interrupted(0);
        interrupted(CpuGate::PLATFORM);
    }
}
