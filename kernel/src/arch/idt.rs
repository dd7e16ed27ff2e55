//! The interrupt descriptor table, one for all CPUs.

use super::entry;
use super::gdt::Ist;
use super::vectors;
use core::sync::atomic::{AtomicU64, Ordering::*};
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

/// The table, with two words for each entry. The boot CPU writes it before any CPU loads it.
#[repr(C, align(4096))]
struct Table([[AtomicU64; 2]; 256]);

static TABLE: Table = Table([const { [AtomicU64::new(0), AtomicU64::new(0)] }; 256]);

/// The bits of a present interrupt gate for the kernel only. Intel SDM volume 3, section 6.14.1.
const INTERRUPT_GATE: u64 = 0x8e00;
/// The selector of the code segment, as `gdt` lays it out.
const CODE: u64 = 1 << 3;

fn ist(vector: u8) -> Ist {
    match vector {
        1 => Ist::Debug,
        vectors::NMI => Ist::Nmi,
        vectors::DOUBLE_FAULT => Ist::DoubleFault,
        vectors::PAGE_FAULT => Ist::PageFault,
        vectors::MACHINE_CHECK => Ist::MachineCheck,
        0..vectors::FIRST_IRQ => Ist::Exception,
        _ => Ist::HardIrq,
    }
}

fn gate(handler: u64, ist: Ist) -> [u64; 2] {
    let low = (handler & 0xffff)
        | CODE << 16
        | (ist as u64 + 1) << 32
        | INTERRUPT_GATE << 32
        | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

/// Fills in the table. It is called once, on the boot CPU.
pub(super) fn init() {
    for vector in 0..=255u8 {
        let words = gate(entry::stub(vector), ist(vector));
        for (slot, word) in TABLE.0[usize::from(vector)].iter().zip(words) {
            slot.store(word, Relaxed);
        }
    }
}

/// Makes the running CPU use the table.
pub(super) fn load() {
    let pointer = DescriptorTablePointer {
        limit: (size_of::<Table>() - 1) as u16,
        base: VirtAddr::from_ptr(&raw const TABLE),
    };
    // SAFETY: every entry is a gate to a stub, and the table is a static.
    unsafe { lidt(&pointer) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_holds_the_whole_address_and_its_stack() {
        let [low, high] = gate(0x1234_5678_9abc_def0, Ist::DoubleFault);
        assert_eq!(high, 0x1234_5678);
        assert_eq!(low >> 48, 0x9abc);
        assert_eq!(low & 0xffff, 0xdef0);
        assert_eq!(low >> 32 & 7, 3);
        assert_eq!(low >> 40 & 0xff, 0x8e);
    }
}
