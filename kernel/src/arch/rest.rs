//! Halts a CPU while all interrupts but one are held back.
//!
//! With interrupts off, only an NMI would end a halt, and the test before it could not be made one
//! step with the halt. So the task priority (Intel SDM volume 3, 11.8.3.1) holds back every vector
//! below its class. The vector that ends the rest is above that class.

use super::apic::{self, Message};
use super::percpu::{self, CpuId};
use super::{interrupts, vectors};
use core::arch::asm;
use core::sync::atomic::Ordering::*;

/// The priority class that is held back, with all below it: every class below that of
/// [`vectors::REST`].
const HELD_CLASS: u64 = vectors::REST as u64 / 16 - 1;

const _: () = assert!(vectors::TIMER as u64 / 16 <= HELD_CLASS);

/// Halts the running CPU until `over` holds. Once it takes no interrupt but [`wake`]'s, whose
/// handler does nothing, it calls `resting`, once. The code that makes `over` true then calls
/// [`wake`]. Interrupts are off at the call, and at the return.
pub fn halt_until(resting: impl FnOnce(), over: impl Fn() -> bool) {
    debug_assert!(
        !interrupts::interrupts_enabled(),
        "a rest begins with interrupts on"
    );
    set_task_priority(HELD_CLASS);
    resting();
    while !over() {
        // A wake that comes after the test is pending, so it ends the halt.
        interrupts::enable_and_halt();
        interrupts::disable();
    }
    set_task_priority(0);
}

/// Lets `cpu`, which halts in [`halt_until`], test again. Task and hard-IRQ context may call it.
pub fn wake(cpu: CpuId) {
    if let Some(block) = percpu::get(cpu) {
        let message = Message::Vector(vectors::REST);
        apic::send(block.apic_id.load(Relaxed), message);
    }
}

fn set_task_priority(class: u64) {
    // SAFETY: this changes only which interrupts are held back.
    unsafe { asm!("mov cr8, {}", in(reg) class, options(nostack, preserves_flags)) };
}
