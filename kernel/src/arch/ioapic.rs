//! The IO-APICs and the legacy controllers that they replace.

use super::acpi::{Madt, Polarity, Trigger, Wiring};
use super::interrupts::Irqs;
use super::paging::{self, FrameSource, PagingError};
use super::{port, vectors};
use heapless::Vec;
use tidemark_sync::{IrqSpinLock, Rank};

const VERSION: u32 = 1;
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

/// One IO-APIC. Its registers are reached by an index and a data register, so both accesses happen
/// under the lock.
struct Chip {
    registers: *mut u32,
    gsi_base: u32,
    lines: u32,
}

// SAFETY: these are device registers, reached only with the lock around the chips held.
unsafe impl Send for Chip {}

impl Chip {
    fn read(&mut self, index: u32) -> u32 {
        // SAFETY: this is the mapped register pair, and the lock is held.
        unsafe {
            self.registers.write_volatile(index);
            self.registers.byte_add(0x10).read_volatile()
        }
    }

    fn write(&mut self, index: u32, value: u32) {
        // SAFETY: this is the mapped register pair, and the lock is held.
        unsafe {
            self.registers.write_volatile(index);
            self.registers.byte_add(0x10).write_volatile(value);
        }
    }

    fn set(&mut self, line: u32, low: u32, apic_id: u32) {
        self.write(REDIRECTION + 2 * line, MASKED);
        self.write(REDIRECTION + 2 * line + 1, apic_id << 24);
        self.write(REDIRECTION + 2 * line, low);
    }
}

static CHIPS: IrqSpinLock<Vec<Chip, 8>, Irqs> = IrqSpinLock::new(Rank::IrqChip, Vec::new());

/// Maps the IO-APICs, masks all their lines, and masks those of the legacy controllers.
pub(super) fn init(madt: &Madt<'_>, tables: FrameSource<'_>) -> Result<(), PagingError> {
    mask_legacy();
    for found in madt.io_apics() {
        let registers = paging::map_mmio(u64::from(found.address), 0x20, &mut *tables)?;
        let mut chip = Chip {
            registers: registers.cast(),
            gsi_base: found.gsi_base,
            lines: 0,
        };
        chip.lines = (chip.read(VERSION) >> 16 & 0xff) + 1;
        for line in 0..chip.lines {
            chip.set(line, MASKED, 0);
        }
        // The lines of a chip beyond the eighth stay masked.
        let _ = CHIPS.lock().push(chip);
    }
    Ok(())
}

/// Returns the redirection entry's low word for a line.
fn entry(wiring: Wiring, vector: u8) -> u32 {
    let mut low = u32::from(vector);
    if wiring.trigger == Trigger::Level {
        low |= LEVEL;
    }
    if wiring.polarity == Polarity::Low {
        low |= ACTIVE_LOW;
    }
    low
}

/// Routes a line to `vector` on the CPU with this APIC id. Returns false if no IO-APIC has the
/// line.
pub(super) fn route(wiring: Wiring, vector: u8, apic_id: u32) -> bool {
    let mut chips = CHIPS.lock();
    let chip = chips.iter_mut().find(|chip| {
        wiring
            .gsi
            .checked_sub(chip.gsi_base)
            .is_some_and(|line| line < chip.lines)
    });
    let Some(chip) = chip else {
        return false;
    };
    let line = wiring.gsi - chip.gsi_base;
    chip.set(line, entry(wiring, vector), apic_id);
    true
}

/// Moves the vectors of the two legacy controllers away from the exceptions, and masks their lines.
fn mask_legacy() {
    for (command, first) in [(0x20, vectors::LEGACY), (0xa0, vectors::LEGACY + 8)] {
        let data = command + 1;
        let cascade = if command == 0x20 { 1 << 2 } else { 2 };
        // SAFETY: this is the documented initialisation sequence, and no other code drives these
        // controllers.
        unsafe {
            port::outb(command, 0x11);
            port::outb(data, first);
            port::outb(data, cascade);
            port::outb(data, 1);
            port::outb(data, 0xff);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_entry_says_polarity_and_trigger() {
        let wiring = |polarity, trigger| Wiring {
            gsi: 9,
            polarity,
            trigger,
        };
        assert_eq!(entry(wiring(Polarity::High, Trigger::Edge), 0x39), 0x39);
        assert_eq!(entry(wiring(Polarity::High, Trigger::Level), 0x39), 0x8039);
        assert_eq!(entry(wiring(Polarity::Low, Trigger::Level), 0x39), 0xa039);
    }
}
