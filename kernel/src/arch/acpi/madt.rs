//! The MADT: CPUs, IO-APICs and the wiring of interrupt lines. ACPI 6.5, section 5.2.12.

use super::table::{AcpiError, Table};

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

/// One record of the table.
enum Record {
    LocalApic(u64),
    Cpu(Cpu),
    IoApic(IoApic),
    Isa(Isa),
    Nmi(LocalNmi),
    /// A record that the kernel has no use for.
    Other,
}

impl Record {
    fn parse(record: &Table<'_>) -> Result<Self, AcpiError> {
        let cpu = |uid, apic_id, flags: u32| match flags & ENABLED {
            0 => Self::Other,
            _ => Self::Cpu(Cpu { apic_id, uid }),
        };
        let nmi = |uid, flags, lint| {
            let (polarity, _) = mode(flags, Polarity::High, Trigger::Edge);
            Self::Nmi(LocalNmi {
                uid,
                lint,
                polarity,
            })
        };
        Ok(match record.u8(0)? {
            0 => cpu(
                u32::from(record.u8(2)?),
                u32::from(record.u8(3)?),
                record.u32(4)?,
            ),
            9 => cpu(record.u32(12)?, record.u32(4)?, record.u32(8)?),
            1 => Self::IoApic(IoApic {
                address: record.u32(4)?,
                gsi_base: record.u32(8)?,
            }),
            2 => {
                let (polarity, trigger) = mode(record.u16(8)?, Polarity::High, Trigger::Edge);
                let wiring = Wiring {
                    gsi: record.u32(4)?,
                    polarity,
                    trigger,
                };
                let irq = record.u8(3)?;
                Self::Isa(Isa { irq, wiring })
            }
            4 => {
                let uid = record.u8(2)?;
                let uid = (uid != 0xff).then_some(u32::from(uid));
                nmi(uid, record.u16(3)?, record.u8(5)?)
            }
            10 => {
                let uid = record.u32(4)?;
                let uid = (uid != u32::MAX).then_some(uid);
                nmi(uid, record.u16(2)?, record.u8(8)?)
            }
            5 => Self::LocalApic(record.u64(4)?),
            _ => Self::Other,
        })
    }
}

/// CPUs and interrupt controllers.
#[derive(Debug, Clone, Copy)]
pub struct Madt<'m> {
    table: Table<'m>,
}

const ENABLED: u32 = 1;
/// Offset of the field that has the local APICs' address.
const LOCAL_APIC: usize = 36;
/// Offset of the first record.
const RECORDS: usize = 44;

impl<'m> Madt<'m> {
    /// Checks every record of the table.
    ///
    /// # Errors
    ///
    /// Returns an [`AcpiError`] if the table is malformed.
    pub fn parse(table: Table<'m>) -> Result<Self, AcpiError> {
        table.u32(LOCAL_APIC)?;
        for record in table.records(RECORDS) {
            Record::parse(&record?)?;
        }
        Ok(Self { table })
    }

    fn records(&self) -> impl Iterator<Item = Record> {
        // `parse` has found no error.
        let records = self.table.records(RECORDS).flatten();
        records.filter_map(|record| Record::parse(&record).ok())
    }

    /// Returns the physical address of the local APICs' registers.
    pub fn local_apic(&self) -> u64 {
        let wide = self.records().filter_map(|record| match record {
            Record::LocalApic(address) => Some(address),
            _ => None,
        });
        // `parse` has found no error.
        let narrow = self.table.u32(LOCAL_APIC).unwrap_or_default();
        wide.last().unwrap_or(u64::from(narrow))
    }

    /// Returns the CPUs that the firmware enabled, in its order.
    pub fn cpus(&self) -> impl Iterator<Item = Cpu> {
        self.records().filter_map(|record| match record {
            Record::Cpu(cpu) => Some(cpu),
            _ => None,
        })
    }

    /// Returns the IO-APICs.
    pub fn io_apics(&self) -> impl Iterator<Item = IoApic> {
        self.records().filter_map(|record| match record {
            Record::IoApic(io_apic) => Some(io_apic),
            _ => None,
        })
    }

    /// Returns how legacy interrupt `irq` is wired.
    pub fn isa(&self, irq: u8) -> Wiring {
        let default = Wiring {
            gsi: u32::from(irq),
            polarity: Polarity::High,
            trigger: Trigger::Edge,
        };
        let found = self.records().find_map(|record| match record {
            Record::Isa(isa) if isa.irq == irq => Some(isa.wiring),
            _ => None,
        });
        found.unwrap_or(default)
    }

    /// Returns the NMI pin `lint` of the CPU `uid`, if NMIs arrive there.
    pub fn nmi(&self, uid: u32, lint: u8) -> Option<LocalNmi> {
        let mut nmis = self.records().filter_map(|record| match record {
            Record::Nmi(nmi) => Some(nmi),
            _ => None,
        });
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

    fn madt(records: &[&[u8]]) -> Result<Madt<'static>, AcpiError> {
        let mut body = std::vec![0, 0, 0xe0, 0xfe, 1, 0, 0, 0];
        body.extend(records.concat());
        let bytes = table(b"APIC", &body).leak();
        Madt::parse(Table::new(bytes, 0).unwrap())
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
        assert_eq!(madt.local_apic(), 0xfee0_0000);
        let expected = [(0, 0), (8, 2), (0x12c, 7)];
        assert!(
            madt.cpus()
                .eq(expected.map(|(apic_id, uid)| Cpu { apic_id, uid }))
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
        assert_eq!(madt.io_apics().next().unwrap().address, 0xfec0_0000);
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
