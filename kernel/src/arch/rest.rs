//! Halting a CPU with all interrupts held back but one.
//!
//! With interrupts off a halt would end by an NMI only, and the test before it could not be made
//! one step with the halt. So the task priority (Intel SDM volume 3, 11.8.3.1) holds back every
//! vector below its class, and the one that ends the rest is above it.

use super::apic::{self, Message};
use super::percpu::{self, CpuId};
use super::{interrupts, vectors};
use core::arch::asm;
use core::sync::atomic::Ordering::*;

/// The class of the vectors that are held back: all below [`vectors::REST`].
const HELD_CLASS: u64 = vectors::REST as u64 / 16 - 1;

const _: () = assert!(vectors::TIMER as u64 / 16 <= HELD_CLASS);

/// Halts the running CPU until `over` holds; calls `resting` once from where on it takes no
/// interrupt but [`wake`]'s, whose handler does nothing. Whoever makes `over` true calls [`wake`]
/// then. Interrupts are off at the call, and at the return.
pub fn halt_until(resting: impl FnOnce(), over: impl Fn() -> bool) {
    debug_assert!(
        !interrupts::interrupts_enabled(),
        "a rest begins with interrupts on"
    );
    set_task_priority(HELD_CLASS);
    resting();
    while !over() {
        // A wake after the test is pending: it ends the halt.
        interrupts::enable_and_halt();
        interrupts::disable();
    }
    set_task_priority(0);
}

/// Lets `cpu`, which halts in [`halt_until`], test again. Task or hard IRQ.
pub fn wake(cpu: CpuId) {
    if let Some(block) = percpu::get(cpu) {
        let message = Message::Vector(vectors::REST);
        apic::send(block.apic_id.load(Relaxed), message);
    }
}

fn set_task_priority(class: u64) {
    // SAFETY: which interrupts are held back is all that this changes.
    unsafe { asm!("mov cr8, {}", in(reg) class, options(nostack, preserves_flags)) };
}
