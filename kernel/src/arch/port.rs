//! Port I/O, and the ways to end execution.

use tidemark_wire::exit_value;
use x86_64::instructions::port::Port;

macro_rules! port {
    ($read:ident, $write:ident, $type:ty) => {
        /// Reads a port.
        ///
        /// # Safety
        /// Reading this port has no effect that breaks memory safety.
        pub unsafe fn $read(port: u16) -> $type {
            // SAFETY: the caller promises that the read breaks nothing.
            unsafe { Port::new(port).read() }
        }

        /// Writes a port.
        ///
        /// # Safety
        /// Writing this value to this port has no effect that breaks memory safety.
        pub unsafe fn $write(port: u16, value: $type) {
            // SAFETY: the caller promises that the write breaks nothing.
            unsafe { Port::new(port).write(value) }
        }
    };
}

port!(inb, outb, u8);
port!(inl, outl, u32);

/// Reads a port of 16 bits.
///
/// # Safety
/// Reading this port has no effect that breaks memory safety.
pub unsafe fn inw(port: u16) -> u16 {
    // SAFETY: the caller promises that the read breaks nothing.
    unsafe { Port::new(port).read() }
}

/// Ends QEMU with a value of [`exit_value`]; without the exit device, halts for good.
pub fn exit(value: u32) -> ! {
    // SAFETY: the debug-exit device does nothing but end the machine.
    unsafe { outl(exit_value::PORT, value) };
    halt_forever()
}

/// Halts the running CPU for good, with interrupts off.
pub fn halt_forever() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
