//! Preemption of the running CPU, which a counted pin or the allocator's gated section turns off.
//! The end of either pays what is owed: a switch of threads, and the acknowledgement for a grace
//! period.

use super::gs::{gs, gs_read};
use super::interrupts::{disable, enable, interrupts_enabled};
use super::percpu;
use core::marker::PhantomData;
use tidemark_sync::{CpuGate, Hook, hook};

/// Proof that the caller stays on its CPU: preemption is off until it is dropped.
#[derive(Debug)]
#[must_use = "the pin ends when it drops"]
pub struct Pinned(PhantomData<*mut ()>);

/// Keeps the caller on its CPU. Pins nest. Any context may call it.
pub fn pin() -> Pinned {
    pin_raw();
    Pinned(PhantomData)
}

impl Drop for Pinned {
    fn drop(&mut self) {
        unpin_raw();
    }
}

/// Returns whether a gated section of the allocator is open on the running CPU. Any context may
/// call it.
#[inline]
pub fn in_gate() -> bool {
    #[cfg(feature = "freestanding")]
    // SAFETY: this is one gs-relative read of the word's low byte, which counts gated sections, and
    // a jump by what it found.
    unsafe {
        core::arch::asm!("cmp byte ptr gs:[{}], 0", "jne {}",
            const core::mem::offset_of!(percpu::PerCpu, gate), label { return true }, options(nostack));
    }
    #[cfg(not(feature = "freestanding"))]
    if percpu::current().gate.is_open() {
        return true;
    }
    false
}

/// Begins a gated section of the allocator on the running CPU, after the caller has seen none open
/// there. Any context may call it.
#[inline]
pub fn enter_gate() {
    #[cfg(feature = "freestanding")]
    gs!("inc", gate);
    #[cfg(not(feature = "freestanding"))]
    percpu::current().gate.begin();
}

/// Ends a gated section; returns whether anything is owed at its end.
#[inline]
pub fn leave_gate() -> bool {
    #[cfg(feature = "freestanding")]
    // SAFETY: this is one gs-relative instruction on a field of this CPU's block, and a jump by
    // what it left. It has no memory option, so it is a compiler fence as well.
    unsafe {
        core::arch::asm!("dec dword ptr gs:[{}]", "jne {}",
            const core::mem::offset_of!(percpu::PerCpu, gate), label { return true }, options(nostack));
    }
    #[cfg(not(feature = "freestanding"))]
    if percpu::current().gate.end() {
        return true;
    }
    false
}

/// Adds a pin without a guard, for `Platform::pin`.
pub fn pin_raw() {
    gs!("inc", pin_count);
}

/// Undoes one [`pin_raw`], and does what was left to the end of the pin. It gives way if a switch
/// was asked for.
#[inline]
pub fn unpin_raw() {
    debug_assert!(gs_read!(pin_count) > 0, "more unpins than pins");
    gs!("dec", pin_count);
    if owes(!0) {
        pay();
    }
}

/// Owed at the end of a gated section or a pin: a switch of threads.
const RESCHED: u32 = CpuGate::PLATFORM;
/// Owed at that end: the acknowledgement that this CPU is outside of every pin and gated section.
const UNPINNED: u32 = CpuGate::GRACE;

/// Returns whether any bit of `what` is owed at the end of a gated section or a pin of the running
/// CPU.
#[inline]
fn owes(what: u32) -> bool {
    #[cfg(feature = "freestanding")]
    return gs_read!(gate) & what != 0;
    #[cfg(not(feature = "freestanding"))]
    percpu::current().gate.owes(what)
}

/// Does what was left to the end of pins and gated sections, if none is open any more. Any context
/// may call it.
#[cold]
fn pay() {
    if owes(UNPINNED) {
        // Interrupts go off without counting, because this may be an NMI. They are off so that the
        // acknowledgement is for the CPU that runs this.
        let enabled = interrupts_enabled();
        disable();
        let gate = &percpu::current().gate;
        // This does not ask `pin_depth`, which counts the debt itself as a pin. An NMI may have
        // paid the debt meanwhile: the side that clears the bit sends the acknowledgement.
        let is_outside = gs_read!(pin_count) == 0 && !gate.is_open();
        if is_outside
            && gate.take(UNPINNED)
            && let Some(hook) = ON_UNPINNED.get()
        {
            hook();
        }
        if enabled {
            enable();
        }
    }
    preempt_point();
}

static ON_UNPINNED: Hook<fn()> = hook!(fn());

/// Sets the function that is called, once for each [`want_unpinned`], when a CPU has left its last
/// pin and gated section. It runs in any context, an NMI included, with interrupts off.
pub fn set_unpinned_hook(hook: fn()) {
    ON_UNPINNED.set(hook);
}

/// Asks for the hook of [`set_unpinned_hook`] at the end of the pin or gated section that is open
/// on the running CPU. Only hard-IRQ context may call it.
pub fn want_unpinned() {
    percpu::current().gate.owe(UNPINNED);
}

/// Returns the number of pins that are open on the running CPU. A gated section counts as one pin
/// while it is open, and until what is owed at its end is paid.
pub fn pin_depth() -> u32 {
    gs_read!(pin_count) + u32::from(percpu::current().gate.holds())
}

/// Asks for a switch on the running CPU at the next point where it is allowed. Any context but NMI
/// may call it.
pub fn set_need_resched() {
    percpu::current().gate.owe(RESCHED);
}

/// Takes back [`set_need_resched`]. The scheduler calls it when it picks the next thread.
pub fn clear_need_resched() {
    percpu::current().gate.take(RESCHED);
}

/// Returns whether a switch was asked for on the running CPU.
pub fn need_resched() -> bool {
    owes(RESCHED)
}

static YIELD: Hook<fn()> = hook!(fn());

/// Sets the function that a task calls where it may be preempted and a switch was asked for. Such
/// points are an unpin and the end of a section with interrupts off. The function is called with
/// interrupts on.
pub fn set_yield_hook(hook: fn()) {
    YIELD.set(hook);
}

/// Switches if that was asked for and the running code may be preempted here: interrupts on, no
/// pin. Interrupt handlers run with interrupts off, so it does nothing in them.
pub fn preempt_point() {
    if need_resched()
        && pin_depth() == 0
        && interrupts_enabled()
        && let Some(hook) = YIELD.get()
    {
        hook();
    }
}
