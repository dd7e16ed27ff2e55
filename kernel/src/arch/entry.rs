//! The way of an interrupt in and out: stubs, the saved frame, the move to the thread's stack.

use super::{exceptions, irq, nmi, percpu, preempt, vectors};
use core::mem::{offset_of, size_of};
use core::ptr;
use core::sync::atomic::Ordering::*;
use tidemark_sync::{Hook, hook};

/// The registers that an entry stub saves, in the order of memory.
#[repr(C, align(16))]
#[derive(Debug, Clone)]
pub struct TrapFrame {
    pub mxcsr: u32,
    pub(super) pad: [u32; 3],
    pub xmm: [[u64; 2]; 16],
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(size_of::<TrapFrame>() == 448);
const _: () = assert!(offset_of!(TrapFrame, r15) == 272);
const _: () = assert!(offset_of!(TrapFrame, vector) == 392);
const _: () = assert!(offset_of!(TrapFrame, ss) + 8 == 448);

impl TrapFrame {
    /// Returns whether the interrupted code had interrupts on.
    pub fn interrupts_enabled(&self) -> bool {
        self.rflags & 1 << 9 != 0
    }
}

// There is one stub for each vector, 16 bytes long. It clears DF first: the CPU leaves the flag as
// the interrupted code had it, and compiled code relies on 0. Then it pushes an error code of 0 if
// the CPU pushes none, and the vector.
//
// The stack is 16-byte aligned in `common`. The CPU aligns it when it takes an interrupt stack; 5
// words of its own, 2 of the stub, 15 registers and 272 bytes follow.
core::arch::global_asm!(
    ".balign 16",
    ".globl tidemark_entry_stubs",
    "tidemark_entry_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".balign 16",
    "cld",
    ".if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)",
    "push 0",
    ".endif",
    ".byte 0x68", // push imm32
    ".long vector",
    "jmp {common}",
    ".set vector, vector + 1",
    ".endr",
    common = sym common,
);

unsafe extern "C" {
    static tidemark_entry_stubs: u8;
}

/// Returns the address of the entry stub for `vector`.
pub(super) fn stub(vector: u8) -> u64 {
    (&raw const tidemark_entry_stubs) as u64 + u64::from(vector) * 16
}

/// The MXCSR that compiled code expects: all exceptions masked, round to nearest.
const DEFAULT_MXCSR: u32 = 0x1f80;

#[unsafe(naked)]
extern "C" fn common() {
    core::arch::naked_asm!(
        "push rax", "push rcx", "push rdx", "push rbx", "push rbp", "push rsi", "push rdi",
        "push r8", "push r9", "push r10", "push r11", "push r12", "push r13", "push r14", "push r15",
        "sub rsp, 272",
        "movaps [rsp + 16], xmm0",
        "movaps [rsp + 32], xmm1",
        "movaps [rsp + 48], xmm2",
        "movaps [rsp + 64], xmm3",
        "movaps [rsp + 80], xmm4",
        "movaps [rsp + 96], xmm5",
        "movaps [rsp + 112], xmm6",
        "movaps [rsp + 128], xmm7",
        "movaps [rsp + 144], xmm8",
        "movaps [rsp + 160], xmm9",
        "movaps [rsp + 176], xmm10",
        "movaps [rsp + 192], xmm11",
        "movaps [rsp + 208], xmm12",
        "movaps [rsp + 224], xmm13",
        "movaps [rsp + 240], xmm14",
        "movaps [rsp + 256], xmm15",
        "stmxcsr [rsp]",
        "mov dword ptr [rsp + 4], {mxcsr}",
        "ldmxcsr [rsp + 4]",
        "mov rdi, rsp",
        "call {dispatch}",
        // If rax is null, the return is from here. Otherwise the frame was copied to the
        // interrupted thread's own stack, and only from there may that thread be switched away.
        "test rax, rax",
        "jz 2f",
        "mov rsp, rax",
        "call {preempt}",
        "2:",
        "ldmxcsr [rsp]",
        "movaps xmm0, [rsp + 16]",
        "movaps xmm1, [rsp + 32]",
        "movaps xmm2, [rsp + 48]",
        "movaps xmm3, [rsp + 64]",
        "movaps xmm4, [rsp + 80]",
        "movaps xmm5, [rsp + 96]",
        "movaps xmm6, [rsp + 112]",
        "movaps xmm7, [rsp + 128]",
        "movaps xmm8, [rsp + 144]",
        "movaps xmm9, [rsp + 160]",
        "movaps xmm10, [rsp + 176]",
        "movaps xmm11, [rsp + 192]",
        "movaps xmm12, [rsp + 208]",
        "movaps xmm13, [rsp + 224]",
        "movaps xmm14, [rsp + 240]",
        "movaps xmm15, [rsp + 256]",
        "add rsp, 272",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop r11", "pop r10", "pop r9", "pop r8",
        "pop rdi", "pop rsi", "pop rbp", "pop rbx", "pop rdx", "pop rcx", "pop rax",
        "add rsp, 16",
        "iretq",
        dispatch = sym dispatch,
        preempt = sym preempt,
        mxcsr = const DEFAULT_MXCSR,
    )
}

/// Calls the handler for the interrupt's kind. If the interrupted thread is to be preempted,
/// returns the frame's copy on that thread's stack, else null.
extern "C" fn dispatch(frame: &mut TrapFrame) -> *mut TrapFrame {
    let vector = frame.vector as u8;
    let taken = &percpu::current().taken[usize::from(vector)];
    // Only this CPU writes the counter, and a vector does not interrupt itself.
    taken.store(taken.load(Relaxed).wrapping_add(1), Relaxed);
    match vector {
        vectors::NMI => nmi::dispatch(frame),
        0..vectors::FIRST_IRQ => exceptions::dispatch(frame),
        _ => {
            irq::dispatch(frame, vector);
            if may_preempt(frame) {
                return move_to_thread(frame);
            }
        }
    }
    ptr::null_mut()
}

fn may_preempt(frame: &TrapFrame) -> bool {
    preempt::need_resched()
        && preempt::pin_depth() == 0
        && frame.interrupts_enabled()
        && PREEMPT.is_set()
}

/// Copies the frame below the interrupted thread's red zone. Another interrupt may use the
/// interrupt stack as soon as this thread is switched away.
fn move_to_thread(frame: &TrapFrame) -> *mut TrapFrame {
    let to = (frame.rsp - 128 - size_of::<TrapFrame>() as u64) & !15;
    let to = to as *mut TrapFrame;
    // SAFETY: code with interrupts on runs on a thread's stack, whose part below the red zone is
    // free. If the stack is too short, the write hits its guard page.
    unsafe { ptr::copy_nonoverlapping(frame, to, 1) };
    to
}

static PREEMPT: Hook<fn()> = hook!(fn());

/// Sets the function that preempts a task. It is called when a hard interrupt ends, a switch was
/// asked for, and the interrupted code was a task with interrupts on and no pin. It runs on that
/// task's own stack, where the frame is saved, with interrupts off, and may switch threads. When it
/// returns, with interrupts off, the task goes on.
pub fn set_preempt_hook(hook: fn()) {
    PREEMPT.set(hook);
}

extern "C" fn preempt() {
    // `may_preempt` has seen that it is set.
    if let Some(hook) = PREEMPT.get() {
        hook();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vector_has_its_own_stub_that_clears_the_direction_flag_first() {
        for vector in 0..=255u8 {
            let stub = stub(vector) as *const u8;
            // SAFETY: stubs are 16 readable bytes each.
            let code = unsafe { core::slice::from_raw_parts(stub, 16) };
            assert_eq!(stub as usize % 16, 0);
            assert_eq!(code[0], 0xfc, "cld");
            let pushed_zero = code[1] == 0x6a;
            let push = if pushed_zero { 3 } else { 1 };
            assert_eq!(code[push], 0x68);
            assert_eq!(code[push + 1], vector);
            let has_error = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
            assert_eq!(pushed_zero, !has_error, "vector {vector}");
        }
    }
}
