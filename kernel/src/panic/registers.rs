//! The registers of an interrupted context, and how reports show them.

use crate::arch::entry::TrapFrame;
use core::fmt;

/// The part of an interrupted context that reports show.
#[derive(Clone, Copy, Debug)]
pub struct Registers<'f>(pub &'f TrapFrame);

impl fmt::Display for Registers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self.0;
        writeln!(
            f,
            "rip {:016x}  rsp {:016x}  rbp {:016x}  rflags {:08x}",
            r.rip, r.rsp, r.rbp, r.rflags
        )?;
        writeln!(
            f,
            "rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}",
            r.rax, r.rbx, r.rcx, r.rdx
        )?;
        writeln!(
            f,
            "rsi {:016x}  rdi {:016x}  r8  {:016x}  r9  {:016x}",
            r.rsi, r.rdi, r.r8, r.r9
        )?;
        writeln!(
            f,
            "r10 {:016x}  r11 {:016x}  r12 {:016x}  r13 {:016x}",
            r.r10, r.r11, r.r12, r.r13
        )?;
        writeln!(
            f,
            "r14 {:016x}  r15 {:016x}  cs {:x} ss {:x} vector {} error {:#x}",
            r.r14, r.r15, r.cs, r.ss, r.vector, r.error
        )
    }
}
