//! The one way to die: safe against itself, and against other CPUs that die at the same time.

use core::fmt;
use core::panic::PanicInfo;

/// The registers of an interrupted context, as a crash report shows them.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the registers' own names")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
    pub cs: u64,
    pub ss: u64,
    pub error_code: u64,
    pub vector: u64,
}

/// Dies: reason, registers if there are any, backtrace, zones, the other CPUs stopped, exit code `CRASHED`.
///
/// Callable from every context. The first CPU that comes here reports; others stop.
pub fn die(reason: fmt::Arguments<'_>, registers: Option<&Registers>) -> ! {
    let _ = (reason, registers);
    todo!()
}

/// What the panic handler calls.
pub fn on_panic(info: &PanicInfo<'_>) -> ! {
    let _ = info;
    todo!()
}

/// Whether a CPU is dying and this one should stop: asked by every stop IPI and NMI handler, which then calls [`stop_here`].
pub fn stopping() -> bool {
    todo!()
}

/// Stops this CPU for good after another one has died.
pub fn stop_here() -> ! {
    todo!()
}

/// Reports where an interrupted context is, once, if its CPU has not ticked for a second: called by every NMI handler.
pub fn report_if_silent(registers: &Registers) {
    let _ = registers;
    todo!()
}

/// Sets what writes the zones' state into a crash report; it must take no lock and follow no unchecked pointer.
pub fn set_zones_hook(hook: fn(&mut dyn fmt::Write) -> fmt::Result) {
    let _ = hook;
    todo!()
}

/// Tells where the kernel's ELF image lies in memory, so that backtraces have names.
pub fn set_kernel_image(image: &'static [u8], load_offset: u64) {
    let _ = (image, load_offset);
    todo!()
}

/// Writes everything out (bounded) and ends QEMU with a value of `tidemark_wire::exit_value`; without the exit device, halts for good.
pub fn exit(value: u32) -> ! {
    let _ = value;
    todo!()
}
