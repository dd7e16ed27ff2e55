//! The real register block of memory hot-plug.

use super::slot::{BASE_PORT, Registers};
use crate::arch::port::{inb, inl, outb, outl};

/// The hot-plug controller's ports.
#[derive(Debug)]
pub struct PortBlock(());

impl PortBlock {
    /// Takes over the ports.
    ///
    /// # Safety
    ///
    /// The machine is a q35 or pc of QEMU, and no other code uses the block: one access selects a
    /// slot and the next uses it.
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

impl Registers for PortBlock {
    fn read32(&mut self, offset: u16) -> u32 {
        // SAFETY: reading the block has no effect on memory.
        unsafe { inl(BASE_PORT + offset) }
    }

    fn read8(&mut self, offset: u16) -> u8 {
        // SAFETY: reading the block has no effect on memory.
        unsafe { inb(BASE_PORT + offset) }
    }

    fn write32(&mut self, offset: u16, value: u32) {
        // SAFETY: this selects a slot or reports to the host. The caller of `new` promised that no
        // other code's accesses come between.
        unsafe { outl(BASE_PORT + offset, value) };
    }

    fn write8(&mut self, offset: u16, value: u8) {
        // SAFETY: this clears an event or ejects. The caller of `Slots::eject` has made sure that
        // the memory is unused.
        unsafe { outb(BASE_PORT + offset, value) };
    }
}
