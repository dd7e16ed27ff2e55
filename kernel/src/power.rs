//! The end of the machine, in good order; the other one is [`crate::panic`]'s.

use crate::arch::port;
use crate::{console, mm};

/// Writes everything out (bounded) and ends QEMU with a value of `tidemark_wire::exit_value`;
/// without the exit device, halts for good. Task context; from an interrupt only if nobody holds
/// the port's lock.
pub fn exit(value: u32) -> ! {
    mm::warnings::flush_at_end();
    console::finish_before_exit();
    port::exit(value)
}
