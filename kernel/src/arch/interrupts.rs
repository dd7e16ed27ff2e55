//! Counted sections with interrupts off, on the running CPU.

use super::gs::{gs, gs_read};
use super::{percpu, preempt};
use core::sync::atomic::Ordering::*;
use tidemark_sync::{
    HeldRanks, IrqOff, LocalIrq,
    counted::{self, Counted},
};
use x86_64::instructions::interrupts;

/// The counted sections of the running CPU. NMI code never uses them: its token proves that
/// interrupts are off.
#[derive(Debug)]
pub struct Irqs;

/// A CPU's state of the counting, as a context switch carries it from thread to thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IrqState {
    count: u32,
    saved: u32,
}

impl IrqState {
    /// The state of a new thread, which begins inside one section. One pop ends it and turns
    /// interrupts on.
    pub const NEW_THREAD: Self = Self { count: 1, saved: 1 };

    /// Returns the running CPU's state. Interrupts are off.
    pub fn save() -> Self {
        let block = percpu::current();
        Self {
            count: block.irq_count.load(Relaxed),
            saved: block.irq_saved.load(Relaxed),
        }
    }

    /// Makes this the running CPU's state. Interrupts are off.
    pub fn restore(self) {
        let block = percpu::current();
        block.irq_count.store(self.count, Relaxed);
        block.irq_saved.store(self.saved, Relaxed);
    }
}

impl Counted for Irqs {
    #[inline(always)]
    fn are_on(&self) -> bool {
        interrupts_enabled()
    }

    #[inline(always)]
    fn turn_off(&self) {
        disable();
    }

    #[inline(always)]
    fn turn_on(&self) {
        enable();
    }

    #[inline(always)]
    fn count(&self) -> u32 {
        gs_read!(irq_count)
    }

    #[inline(always)]
    fn increment(&self) {
        gs!("inc", irq_count);
    }

    #[inline(always)]
    fn decrement(&self) {
        gs!("dec", irq_count);
    }

    #[inline(always)]
    fn were_on(&self) -> bool {
        gs_read!(irq_saved) != 0
    }

    #[inline(always)]
    fn set_were_on(&self, on: bool) {
        // Interrupts are off, so this stays the CPU's own block until they are on again.
        percpu::current().irq_saved.store(u32::from(on), Relaxed);
    }
}

impl LocalIrq for Irqs {
    fn push_off() {
        counted::push(&Irqs);
    }

    fn pop_off() {
        debug_assert!(!interrupts_enabled(), "interrupts are on in a pop");
        debug_assert!(gs_read!(irq_count) > 0, "more pops than pushes");
        if counted::pop(&Irqs) {
            preempt::preempt_point();
        }
    }

    fn cpu() -> usize {
        percpu::cpu_id().0
    }

    fn held() -> &'static HeldRanks {
        &percpu::current().held
    }
}

impl Irqs {
    /// Does what [`LocalIrq::push_off`] does, without naming the trait. Task and hard-IRQ context
    /// may call it.
    pub fn push_off() {
        <Self as LocalIrq>::push_off();
    }

    /// Does what [`LocalIrq::pop_off`] does, without naming the trait.
    pub fn pop_off() {
        <Self as LocalIrq>::pop_off();
    }

    /// Returns the number of sections that are open on the running CPU.
    pub fn depth() -> u32 {
        gs_read!(irq_count)
    }
}

/// Runs `f` with interrupts off. It is a function of its own in every backtrace, so that code that
/// hangs with interrupts off is found by its name.
#[inline(never)]
pub fn without_interrupts<R>(f: impl FnOnce() -> R) -> R {
    let _off = IrqOff::<Irqs>::new();
    f()
}

/// Returns whether the running CPU has interrupts on.
pub fn interrupts_enabled() -> bool {
    cfg!(feature = "freestanding") && interrupts::are_enabled()
}

/// Turns interrupts off without counting. Only the scheduler and boot may call it.
pub fn disable() {
    #[cfg(feature = "freestanding")]
    interrupts::disable();
}

/// Turns interrupts on without counting. Only the scheduler and boot may call it.
pub fn enable() {
    #[cfg(feature = "freestanding")]
    interrupts::enable();
}

/// Turns interrupts on and halts until one comes, with no gap between the two.
pub fn enable_and_halt() {
    interrupts::enable_and_hlt();
}
