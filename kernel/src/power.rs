//! The orderly end of the machine; [`crate::panic`] has the other one.

use crate::arch::port;
use crate::{console, mm};

/// Writes everything out, within a bounded time, and ends QEMU with a value of
/// `tidemark_wire::exit_value`. Without the exit device, halts for good. Task context may call it,
/// and an interrupt only if the port's lock is free.
pub fn exit(value: u32) -> ! {
    mm::warnings::flush_at_end();
    console::finish_before_exit();
    port::exit(value)
}
