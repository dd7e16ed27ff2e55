//! The switch from one thread's stack to another's.

use super::links::Slot;

/// The registers that the switch leaves on a stack: those that a call preserves, lowest address
/// first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Saved {
    /// MXCSR in the low half, the x87 control word in the high half.
    pub(super) float_control: u64,
    pub(super) r15: u64,
    pub(super) r14: u64,
    pub(super) r13: u64,
    pub(super) r12: u64,
    pub(super) rbx: u64,
    pub(super) rbp: u64,
    pub(super) rip: u64,
}

/// MXCSR and x87 control word of a new thread: every exception is masked, rounding is to nearest.
pub(super) const FLOAT_CONTROL: u64 = 0x037f_0000_1f80;

/// Saves the running thread's registers on its stack, and its stack pointer at `save_rsp`. Then
/// goes on with the thread whose stack pointer is `load_rsp`. Returns there the `from` of the
/// thread that switched to it. Interrupts are off. The flags that a call preserves (DF clear) are
/// the same in every thread, and the interrupt flag travels with the IRQ-off state.
///
/// # Safety
///
/// `save_rsp` is in the running thread's own slot. `load_rsp` was stored by this function, or
/// points to a new thread's [`Saved`], and no thread uses the stack there.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn switch(save_rsp: *mut u64, load_rsp: u64, from: Slot) -> Slot {
    core::arch::naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "fnstcw [rsp + 4]",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "ldmxcsr [rsp]",
        "fldcw [rsp + 4]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "movzx eax, dx",
        "ret",
    )
}

/// Receives the return of the first switch to a new thread. rsp is 16-byte aligned here, so a call
/// makes it what a function expects. The zero below ends backtraces.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn trampoline() -> ! {
    core::arch::naked_asm!(
        "xor ebp, ebp",
        "mov edi, eax",
        "call {start}",
        "ud2",
        start = sym super::sched::start,
    )
}
