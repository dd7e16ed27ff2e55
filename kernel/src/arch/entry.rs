//! How an interrupt gets in and out: stubs, the saved frame, the move to the thread's stack.

/// What an entry stub saves, in the order of memory.
#[repr(C, align(16))]
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the registers")]
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

/// Sets what is called when a hard interrupt ends, a switch was asked for, and the interrupted
/// code was a task with interrupts on and no pin. It runs on that task's own stack with interrupts
/// off, the frame saved there, and may switch threads; when it returns (interrupts off), the task goes on.
pub fn set_preempt_hook(hook: fn()) {
    let _ = hook;
    todo!()
}
