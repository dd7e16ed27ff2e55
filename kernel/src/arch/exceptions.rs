//! Exceptions: what happened, said once, by one routine that does not return.

use super::entry::TrapFrame;

/// What an exception was.
#[derive(Debug, Clone, Copy)]
pub struct ExceptionInfo {
    /// The exception's vector.
    pub vector: u8,
    /// The error code, 0 where there is none.
    pub error: u64,
    /// The address that a page fault was about.
    pub address: Option<u64>,
    /// Exceptions under way on this CPU, this one included; above 1, dying itself has failed.
    pub depth: u32,
}

/// Sets the routine that reports an exception and ends the machine.
pub fn set_die_hook(hook: fn(&TrapFrame, ExceptionInfo) -> !) {
    let _ = hook;
    todo!()
}

/// Reads the 8 bytes at `address`, or returns None if that faults. Any context but NMI.
pub fn probe_read(address: u64) -> Option<u64> {
    let _ = address;
    todo!()
}
