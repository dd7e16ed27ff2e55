//! The MADT: CPUs, IO-APICs and the wiring of interrupt lines. ACPI 6.5, section 5.2.12.

use super::table::{AcpiError, Table};
use heapless::Vec;

/// A CPU that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// The id of its local APIC.
    pub apic_id: u32,
    /// The number that other records use for it.
    pub uid: u32,
}

/// An IO-APIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoApic {
    /// Physical address of its registers.
    pub address: u32,
    /// The global number of its first line.
    pub gsi_base: u32,
}

/// The level at which a line counts as raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polarity {
    High,
    Low,
}

/// What makes a line interrupt: a change of level, or the level itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    Edge,
    Level,
}

/// Where an interrupt line arrives and how it is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wiring {
    pub gsi: u32,
    pub polarity: Polarity,
    pub trigger: Trigger,
}

/// A legacy interrupt that is wired differently from the ISA bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa {
    /// The legacy number.
    pub irq: u8,
    /// Its actual wiring.
    pub wiring: Wiring,
}

/// A local interrupt pin on which NMIs arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalNmi {
    /// The CPU; None stands for every CPU.
    pub uid: Option<u32>,
    /// The pin: LINT0 or LINT1.
    pub lint: u8,
    /// The pin's polarity.
    pub polarity: Polarity,
}

/// CPUs and interrupt controllers.
#[derive(Debug, Clone)]
pub struct Madt {
    /// Physical address of the local APICs' registers.
    pub local_apic: u64,
    /// The CPUs that the firmware enabled, in its order.
    pub cpus: Vec<Cpu, 256>,
    /// The IO-APICs.
    pub io_apics: Vec<IoApic, 8>,
    /// The legacy interrupts that are wired differently from the ISA bus.
    pub overrides: Vec<Isa, 32>,
    /// The NMI pins.
    pub nmis: Vec<LocalNmi, 64>,
}

const ENABLED: u32 = 1;

impl Madt {
    /// Reads the table.
    ///
    /// # Errors
    ///
    /// Returns an [`AcpiError`] if the table is malformed or has too many records.
    pub fn parse(table: &Table<'_>) -> Result<Self, AcpiError> {
        let mut madt = Self {
            local_apic: u64::from(table.u32(36)?),
            cpus: Vec::new(),
            io_apics: Vec::new(),
            overrides: Vec::new(),
            nmis: Vec::new(),
        };
        for record in table.records(44) {
            madt.add(&record?)?;
        }
        Ok(madt)
    }

    fn add(&mut self, record: &Table<'_>) -> Result<(), AcpiError> {
        let mut cpu = |uid, apic_id, flags: u32| {
            if flags & ENABLED == 0 {
                return Ok(());
            }
            let cpu = Cpu { apic_id, uid };
            self.cpus.push(cpu).map_err(|_| record.too_many("CPUs"))
        };
        match record.u8(0)? {
            0 => cpu(
                u32::from(record.u8(2)?),
                u32::from(record.u8(3)?),
                record.u32(4)?,
            )?,
            9 => cpu(record.u32(12)?, record.u32(4)?, record.u32(8)?)?,
            1 => self
                .io_apics
                .push(IoApic {
                    address: record.u32(4)?,
                    gsi_base: record.u32(8)?,
                })
                .map_err(|_| record.too_many("IO-APICs"))?,
            2 => {
                let (polarity, trigger) = mode(record.u16(8)?, Polarity::High, Trigger::Edge);
                let wiring = Wiring {
                    gsi: record.u32(4)?,
                    polarity,
                    trigger,
                };
                let irq = record.u8(3)?;
                self.overrides
                    .push(Isa { irq, wiring })
                    .map_err(|_| record.too_many("overrides"))?;
            }
            4 => {
                let uid = record.u8(2)?;
                let uid = (uid != 0xff).then_some(u32::from(uid));
                self.add_nmi(record, uid, record.u16(3)?, record.u8(5)?)?;
            }
            10 => {
                let uid = record.u32(4)?;
                let uid = (uid != u32::MAX).then_some(uid);
                self.add_nmi(record, uid, record.u16(2)?, record.u8(8)?)?;
            }
            5 => self.local_apic = record.u64(4)?,
            _ => {}
        }
        Ok(())
    }

    fn add_nmi(
        &mut self,
        record: &Table<'_>,
        uid: Option<u32>,
        flags: u16,
        lint: u8,
    ) -> Result<(), AcpiError> {
        let (polarity, _) = mode(flags, Polarity::High, Trigger::Edge);
        let nmi = LocalNmi {
            uid,
            lint,
            polarity,
        };
        self.nmis.push(nmi).map_err(|_| record.too_many("NMI pins"))
    }

    /// Returns how legacy interrupt `irq` is wired.
    pub fn isa(&self, irq: u8) -> Wiring {
        let default = Wiring {
            gsi: u32::from(irq),
            polarity: Polarity::High,
            trigger: Trigger::Edge,
        };
        let found = self.overrides.iter().find(|isa| isa.irq == irq);
        found.map_or(default, |isa| isa.wiring)
    }

    /// Returns the NMI pin `lint` of the CPU `uid`, if NMIs arrive there.
    pub fn nmi(&self, uid: u32, lint: u8) -> Option<LocalNmi> {
        let mut nmis = self.nmis.iter().copied();
        nmis.find(|nmi| nmi.lint == lint && nmi.uid.is_none_or(|other| other == uid))
    }
}

/// Decodes the MPS INTI flags; 0 in them stands for the bus's own mode, given by the arguments.
fn mode(flags: u16, polarity: Polarity, trigger: Trigger) -> (Polarity, Trigger) {
    let polarity = match flags & 3 {
        1 => Polarity::High,
        3 => Polarity::Low,
        _ => polarity,
    };
    let trigger = match flags >> 2 & 3 {
        1 => Trigger::Edge,
        3 => Trigger::Level,
        _ => trigger,
    };
    (polarity, trigger)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::super::tests::table;
    use super::*;

    fn madt(records: &[&[u8]]) -> Result<Madt, AcpiError> {
        let mut body = std::vec![0, 0, 0xe0, 0xfe, 1, 0, 0, 0];
        body.extend(records.concat());
        let bytes = table(b"APIC", &body);
        Madt::parse(&Table::new(&bytes, 0).unwrap())
    }

    #[test]
    fn cpus_keep_their_gaps_and_disabled_ones_are_left_out() {
        let madt = madt(&[
            &[0, 8, 0, 0, 1, 0, 0, 0],
            &[0, 8, 1, 4, 0, 0, 0, 0],
            &[0, 8, 2, 8, 1, 0, 0, 0],
            &[9, 16, 0, 0, 0x2c, 1, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0],
        ])
        .unwrap();
        assert_eq!(madt.local_apic, 0xfee0_0000);
        assert_eq!(
            madt.cpus.as_slice(),
            [(0, 0), (8, 2), (0x12c, 7)].map(|(apic_id, uid)| Cpu { apic_id, uid })
        );
    }

    #[test]
    fn overrides_redirect_legacy_interrupts() {
        let madt = madt(&[
            &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
            &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
            &[2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0],
            &[2, 10, 0, 11, 11, 0, 0, 0, 0x0f, 0],
        ])
        .unwrap();
        let wiring = |gsi, polarity, trigger| Wiring {
            gsi,
            polarity,
            trigger,
        };
        assert_eq!(madt.isa(0), wiring(2, Polarity::High, Trigger::Edge));
        assert_eq!(madt.isa(4), wiring(4, Polarity::High, Trigger::Edge));
        assert_eq!(madt.isa(11), wiring(11, Polarity::Low, Trigger::Level));
        assert_eq!(madt.io_apics[0].address, 0xfec0_0000);
    }

    #[test]
    fn nmi_pins_are_for_one_cpu_or_for_all() {
        let madt = madt(&[&[4, 6, 0xff, 0, 0, 1], &[4, 6, 3, 0, 0, 0]]).unwrap();
        assert!(madt.nmi(0, 1).is_some());
        assert!(madt.nmi(0, 0).is_none());
        assert!(madt.nmi(3, 0).is_some());
    }

    #[test]
    fn broken_records_are_errors() {
        let zero = madt(&[&[0, 8, 0, 0, 1, 0, 0, 0], &[1, 0, 0, 0]]).unwrap_err();
        assert_eq!(
            zero,
            AcpiError::Record {
                signature: *b"APIC",
                offset: 52
            }
        );
        let long = madt(&[&[0, 9, 0, 0, 1, 0, 0, 0]]).unwrap_err();
        assert!(matches!(long, AcpiError::Record { offset: 44, .. }));
        let short = madt(&[&[0, 6, 0, 0, 1, 0]]).unwrap_err();
        assert!(matches!(short, AcpiError::Truncated { offset: 8, .. }));
    }
}
