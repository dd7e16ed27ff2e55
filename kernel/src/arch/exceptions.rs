//! Exceptions. One routine, which does not return, reports each of them once.

use super::entry::TrapFrame;
use super::{log, percpu, port, vectors};
use core::sync::atomic::{AtomicU64, Ordering::*};
use tidemark_sync::{Hook, hook};
use tidemark_wire::exit_value;
use x86_64::registers::control::Cr2;

/// The description of an exception.
#[derive(Debug, Clone, Copy)]
pub struct ExceptionInfo {
    /// The exception's vector.
    pub vector: u8,
    /// The error code, 0 where there is none.
    pub error: u64,
    /// The address that a page fault concerned, or a double fault after one.
    pub address: Option<u64>,
    /// Exceptions under way on this CPU, this one included. A number above 1 means that the dying
    /// routine itself has failed.
    pub depth: u32,
}

impl ExceptionInfo {
    /// Returns the exception's name.
    pub fn name(&self) -> &'static str {
        vectors::name(self.vector)
    }
}

type Die = fn(&TrapFrame, ExceptionInfo) -> !;

static DIE: Hook<Die> = hook!(fn(&TrapFrame, ExceptionInfo) -> !);

/// Sets the routine that reports an exception and ends the machine.
pub fn set_die_hook(hook: Die) {
    DIE.set(hook);
}

/// Handles an exception. Apart from those that are expected, it does not return.
pub(super) fn dispatch(frame: &mut TrapFrame) {
    if fixup(frame) || is_interrupt_minus_one(frame) {
        return;
    }
    // The depth is never counted down: from here on this CPU only dies.
    let depth = percpu::current().exception_depth.fetch_add(1, Relaxed) + 1;
    let vector = frame.vector as u8;
    let info = ExceptionInfo {
        vector,
        error: frame.error,
        address: matches!(vector, vectors::PAGE_FAULT | vectors::DOUBLE_FAULT).then(Cr2::read_raw),
        depth,
    };
    match DIE.get().filter(|_| depth <= 2) {
        Some(hook) => hook(frame, info),
        None => last_words(frame, info),
    }
}

/// The error code of the general protection fault when QEMU's TCG delivers interrupt number −1.
///
/// TCG asks the interrupt controllers for the number only after it has decided to interrupt. If the
/// request has gone by then, the answer is −1, which TCG uses as a vector. That is beyond the IDT's
/// limit, so it gives a fault with the error code −1 · 16 + 2. A processor could push only 16 bits
/// of it, so the code is unmistakable. Nothing was pending and nothing but this fault was pushed,
/// so the interrupted code goes on.
const INTERRUPT_MINUS_ONE: u64 = -14_i64 as u64;

static INTERRUPTS_MINUS_ONE: AtomicU64 = AtomicU64::new(0);

/// Returns whether the fault is an interrupt that the emulator delivered for nothing. Counts each
/// one, and prints the first.
fn is_interrupt_minus_one(frame: &TrapFrame) -> bool {
    let is =
        frame.vector as u8 == vectors::GENERAL_PROTECTION && frame.error == INTERRUPT_MINUS_ONE;
    if is && INTERRUPTS_MINUS_ONE.fetch_add(1, Relaxed) == 0 {
        log::debug(format_args!(
            "the emulator delivered interrupt -1, for nothing; later ones are counted"
        ));
    }
    is
}

/// Writes what happened straight to COM1, without the console, then ends the machine.
fn last_words(frame: &TrapFrame, info: ExceptionInfo) -> ! {
    use core::fmt::Write as _;
    struct Com1;
    impl core::fmt::Write for Com1 {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            for byte in text.bytes() {
                // SAFETY: the port is COM1's data register, and the machine is about to end.
                unsafe { port::outb(0x3f8, byte) };
            }
            Ok(())
        }
    }
    let _ = writeln!(
        Com1,
        "\ncpu{}: {} error {:#x} at {:#x}, address {:#x}, rsp {:#x}, depth {}",
        percpu::cpu_id().0,
        info.name(),
        info.error,
        frame.rip,
        info.address.unwrap_or(0),
        frame.rsp,
        info.depth
    );
    port::exit(exit_value::CRASHED)
}

/// Reads the 8 bytes at `address`, or returns None if that faults. Any context but NMI, where no
/// code may fault.
pub fn probe_read(address: u64) -> Option<u64> {
    let (value, ok) = probe(address);
    (ok != 0).then_some(value)
}

#[repr(C)]
struct Probed(u64, u64);

fn probe(address: u64) -> (u64, u64) {
    // SAFETY: the load either succeeds or is sent to `probe_failed` by `fixup`.
    let Probed(value, ok) = unsafe { probe_load(address) };
    (value, ok)
}

#[unsafe(naked)]
unsafe extern "C" fn probe_load(address: u64) -> Probed {
    core::arch::naked_asm!("mov rax, [rdi]", "mov edx, 1", "ret")
}

#[unsafe(naked)]
extern "C" fn probe_failed() -> Probed {
    core::arch::naked_asm!("xor eax, eax", "xor edx, edx", "ret")
}

/// Makes a fault of the probing load go on at its failure path; returns whether it was one.
fn fixup(frame: &mut TrapFrame) -> bool {
    let probing = frame.rip == probe_load as *const () as u64
        && matches!(
            frame.vector as u8,
            vectors::PAGE_FAULT | vectors::GENERAL_PROTECTION
        );
    if probing {
        frame.rip = probe_failed as *const () as u64;
    }
    probing
}
