//! The memory hot-plug register block of QEMU (docs/specs/acpi_mem_hotplug), without ACPI bytecode.

use core::fmt;

/// First port of the register block; it is 24 bytes long.
pub const BASE_PORT: u16 = 0xa00;

/// Most slots that the kernel looks after; QEMU's own limit is 256.
pub const MAX_SLOTS: usize = 16;

/// `_OST` source event: a device was inserted (ACPI 6.5, table 5.187).
pub const OST_INSERTED: u32 = 1;
/// `_OST` source event: ejection was requested.
pub const OST_EJECT: u32 = 3;
/// `_OST` status: success.
pub const STATUS_SUCCESS: u32 = 0;
/// `_OST` status: the operation failed, for none of the reasons in the table.
pub const STATUS_FAILED: u32 = 1;
/// `_OST` status of an ejection: the device is in use.
pub const STATUS_IN_USE: u32 = 0x81;
/// `_OST` status of an ejection: it is under way.
pub const STATUS_EJECTING: u32 = 0x84;

/// The ports of the block. A test can put its own in the place of QEMU's.
pub trait Registers {
    /// Reads four bytes at an offset into the block.
    fn read32(&mut self, offset: u16) -> u32;
    /// Reads one byte.
    fn read8(&mut self, offset: u16) -> u8;
    /// Writes four bytes.
    fn write32(&mut self, offset: u16, value: u32);
    /// Writes one byte.
    fn write8(&mut self, offset: u16, value: u8);
}

/// The flags of a slot (register 0x14).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotFlags(pub u8);

impl SlotFlags {
    /// Returns whether a DIMM is in the slot.
    pub fn enabled(self) -> bool {
        self.0 & 1 != 0
    }

    /// Returns whether a DIMM was inserted and the kernel has not cleared the event yet.
    pub fn inserted(self) -> bool {
        self.0 & 2 != 0
    }

    /// Returns whether the host asks for the DIMM.
    pub fn removal_asked(self) -> bool {
        self.0 & 4 != 0
    }
}

/// The state of a slot, as its registers give it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotState {
    /// First physical address of the DIMM.
    pub address: u64,
    /// Size of the DIMM in bytes; 0 when the slot is empty.
    pub size_bytes: u64,
    /// Proximity domain, as SRAT numbers them.
    pub proximity: u32,
    /// Flags.
    pub flags: SlotFlags,
}

impl fmt::Display for SlotState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:#x}-{:#x} ({} MiB, proximity {})",
            self.address,
            self.address + self.size_bytes,
            self.size_bytes >> 20,
            self.proximity
        )
    }
}

/// The slots of the register block. Each call selects its slot first, so calls must not interleave:
/// one thread owns the value.
pub struct Slots<R: Registers> {
    registers: R,
}

impl<R: Registers> Slots<R> {
    /// Takes over the registers.
    pub const fn new(registers: R) -> Self {
        Self { registers }
    }

    fn select(&mut self, slot: usize) {
        self.registers.write32(0x0, slot as u32);
    }

    /// Reads a slot. Slots that do not exist read as empty.
    pub fn read(&mut self, slot: usize) -> SlotState {
        self.select(slot);
        let r = &mut self.registers;
        let wide = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let state = SlotState {
            address: wide(r.read32(0x0), r.read32(0x4)),
            size_bytes: wide(r.read32(0x8), r.read32(0xc)),
            proximity: r.read32(0x10),
            flags: SlotFlags(r.read8(0x14)),
        };
        if state == EVERY_BIT_SET {
            // There is no such device: an unassigned port reads as all ones.
            return SlotState::default();
        }
        state
    }

    /// Clears the event of an insertion.
    pub fn clear_inserted(&mut self, slot: usize) {
        self.select(slot);
        self.registers.write8(0x14, 1 << 1);
    }

    /// Clears the event of a removal request.
    pub fn clear_removal(&mut self, slot: usize) {
        self.select(slot);
        self.registers.write8(0x14, 1 << 2);
    }

    /// Reports to the host the result of its request (`_OST`).
    pub fn report(&mut self, slot: usize, event: u32, status: u32) {
        self.select(slot);
        self.registers.write32(0x4, event);
        self.registers.write32(0x8, status);
    }

    /// Ejects the DIMM; QEMU unplugs it at once. The caller has made sure that no code uses its
    /// memory any more.
    pub fn eject(&mut self, slot: usize) {
        self.select(slot);
        self.registers.write8(0x14, 1 << 3);
    }
}

const EVERY_BIT_SET: SlotState = SlotState {
    address: u64::MAX,
    size_bytes: u64::MAX,
    proximity: u32::MAX,
    flags: SlotFlags(u8::MAX),
};

#[cfg(test)]
mod tests {
    use super::*;

    /// A register block with two slots that behaves as QEMU's does.
    #[derive(Default)]
    struct Qemu {
        selected: usize,
        slots: [SlotState; 2],
        event: u32,
        ost: Option<(usize, u32, u32)>,
    }

    impl Registers for Qemu {
        fn read32(&mut self, offset: u16) -> u32 {
            let Some(slot) = self.slots.get(self.selected) else {
                return 0;
            };
            match offset {
                0x0 => slot.address as u32,
                0x4 => (slot.address >> 32) as u32,
                0x8 => slot.size_bytes as u32,
                0xc => (slot.size_bytes >> 32) as u32,
                0x10 => slot.proximity,
                _ => panic!("read of {offset:#x}"),
            }
        }

        fn read8(&mut self, offset: u16) -> u8 {
            assert_eq!(offset, 0x14);
            self.slots.get(self.selected).map_or(0, |s| s.flags.0)
        }

        fn write32(&mut self, offset: u16, value: u32) {
            match offset {
                0x0 => self.selected = value as usize,
                0x4 => self.event = value,
                0x8 => self.ost = Some((self.selected, self.event, value)),
                _ => panic!("write of {offset:#x}"),
            }
        }

        fn write8(&mut self, offset: u16, value: u8) {
            assert_eq!(offset, 0x14);
            let slot = &mut self.slots[self.selected];
            match value {
                2 | 4 => slot.flags.0 &= !value,
                8 => *slot = SlotState::default(),
                _ => panic!("control {value:#x}"),
            }
        }
    }

    fn block() -> Slots<Qemu> {
        let mut qemu = Qemu::default();
        qemu.slots[1] = SlotState {
            address: 0x1_4000_0000,
            size_bytes: 256 << 20,
            proximity: 1,
            flags: SlotFlags(3),
        };
        Slots::new(qemu)
    }

    #[test]
    fn a_slot_is_read_whole() {
        let mut slots = block();
        let state = slots.read(1);
        assert_eq!(state.address, 0x1_4000_0000);
        assert_eq!(state.size_bytes, 256 << 20);
        assert_eq!(state.proximity, 1);
        assert!(state.flags.enabled() && state.flags.inserted() && !state.flags.removal_asked());
    }

    #[test]
    fn slots_out_of_range_are_empty() {
        assert_eq!(block().read(7), SlotState::default());
    }

    #[test]
    fn an_absent_block_is_empty() {
        struct Absent;
        impl Registers for Absent {
            fn read32(&mut self, _: u16) -> u32 {
                u32::MAX
            }
            fn read8(&mut self, _: u16) -> u8 {
                u8::MAX
            }
            fn write32(&mut self, _: u16, _: u32) {}
            fn write8(&mut self, _: u16, _: u8) {}
        }
        assert_eq!(Slots::new(Absent).read(0), SlotState::default());
    }

    #[test]
    fn clearing_one_event_leaves_the_other() {
        let mut slots = block();
        slots.registers.slots[1].flags.0 = 7;
        slots.clear_inserted(1);
        assert_eq!(slots.read(1).flags, SlotFlags(5));
        slots.clear_removal(1);
        assert_eq!(slots.read(1).flags, SlotFlags(1));
    }

    #[test]
    fn a_report_names_slot_event_and_status() {
        let mut slots = block();
        slots.report(1, OST_EJECT, STATUS_IN_USE);
        assert_eq!(slots.registers.ost, Some((1, 3, 0x81)));
    }

    #[test]
    fn eject_empties_the_slot() {
        let mut slots = block();
        slots.eject(1);
        assert_eq!(slots.read(1), SlotState::default());
    }
}
