//! The word of a CPU that says whether a gated section is open on it. The CPU's interrupts read it,
//! and record there the work that they leave to the gated section's end.

use crate::atomic::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
    compiler_fence,
};

/// Whether a gated section is open on a CPU, and what is owed at its end, in one word.
///
/// Only the CPU itself writes it, in task, interrupt and NMI context; other CPUs may read it. Each
/// method that changes it is one atomic step, so code that interrupts it comes before or after,
/// never within.
///
/// An interrupt that finds a gated section open calls [`CpuGate::owe`] for work that may not happen
/// inside. The section ends and learns what is owed in one step, so no debt falls between the two.
///
/// Bits 0 to 7 count the open gated sections: 0 or 1. Each of the other bits is one kind of owed
/// work.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct CpuGate(AtomicU32);

impl CpuGate {
    /// Owed: the CPU's per-CPU caches are to be drained. The allocator owns this bit.
    pub const DRAIN: u32 = 1 << 8;
    /// Owed: an acknowledgement, for a grace period, that this CPU is outside of every gated
    /// section. The platform owns this bit and acknowledges when it unpins the CPU.
    pub const GRACE: u32 = 1 << 9;
    /// The first of the bits that the platform may use for itself.
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

    /// Returns whether the code that runs must stay on this CPU. It must while a gated section is
    /// open, and while a drain or an acknowledgement is owed after one. Code that moved to another
    /// CPU in between would leave the debt unpaid.
    #[inline]
    pub fn holds(&self) -> bool {
        self.0.load(Relaxed) & (Self::OPEN | Self::DRAIN | Self::GRACE) != 0
    }

    /// Begins a gated section; the caller has seen that none is open. An interrupt between that
    /// check and this step leaves the count as it found it.
    #[inline]
    pub fn begin(&self) {
        self.0.fetch_add(1, Relaxed);
        // The gated section stays after this step. The readers of the word are on the same CPU, so
        // a compiler fence suffices.
        compiler_fence(SeqCst);
    }

    /// Ends the gated section; returns whether anything is owed.
    #[inline]
    pub fn end(&self) -> bool {
        // The gated section stays before this step.
        compiler_fence(SeqCst);
        self.0.fetch_sub(1, Relaxed) != 1
    }

    /// Adds `what`, a set of bits above bit 7, to what is owed at the end of the gated section.
    ///
    /// # Panics
    ///
    /// Panics, in debug builds, if `what` contains any of bits 0 to 7.
    pub fn owe(&self, what: u32) {
        debug_assert_eq!(what & Self::OPEN, 0, "not a thing to owe");
        self.0.fetch_or(what, Relaxed);
    }

    /// Returns whether any bit of `what` is owed.
    #[inline]
    pub fn owes(&self, what: u32) -> bool {
        self.0.load(Relaxed) & what != 0
    }

    /// Clears the bits of `what`; returns whether any of them was owed. The caller then does that
    /// work.
    pub fn take(&self, what: u32) -> bool {
        let owed = self.0.fetch_and(!what, Relaxed) & what != 0;
        // The reads of the work that follows stay after this step.
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

/// In these models a thread stands for an interrupt, which may come between any two accesses. A
/// thread may come there as well, so what holds for threads holds for interrupts.
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

    /// Runs a gated section, and an interrupt that leaves a drain to the section's end if it finds
    /// it open.
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
