//! The real register block.

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
    /// The machine is a q35 or pc of QEMU, and nobody else uses the block: a slot is selected by
    /// one access and used by the next.
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
        // SAFETY: as above.
        unsafe { inb(BASE_PORT + offset) }
    }

    fn write32(&mut self, offset: u16, value: u32) {
        // SAFETY: selects a slot or reports to the host; `new` promised that nobody interleaves.
        unsafe { outl(BASE_PORT + offset, value) };
    }

    fn write8(&mut self, offset: u16, value: u8) {
        // SAFETY: clears an event or ejects; who ejects has made sure that the memory is unused
        // (`Slots::eject`).
        unsafe { outb(BASE_PORT + offset, value) };
    }
}
