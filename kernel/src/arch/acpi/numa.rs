//! The SRAT and the SLIT: nodes and distances. ACPI 6.5, sections 5.2.16 and 5.2.17.

use super::table::{AcpiError, Table};

/// A CPU's proximity domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuAffinity {
    /// The CPU's local APIC id.
    pub apic_id: u32,
    /// The domain.
    pub domain: u32,
}

/// The proximity domain of a range of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryAffinity {
    /// First byte.
    pub start: u64,
    /// Size in bytes.
    pub len: u64,
    /// The domain.
    pub domain: u32,
    /// Whether memory may come and go here; the range says nothing about what is there now.
    pub hotpluggable: bool,
}

/// One record of the SRAT.
enum Record {
    Cpu(CpuAffinity),
    Memory(MemoryAffinity),
    /// A record that is disabled, or of no use to the kernel.
    Other,
}

impl Record {
    fn parse(record: &Table<'_>) -> Result<Self, AcpiError> {
        let cpu = |flags: u32, apic_id, domain| match flags & ENABLED {
            0 => Self::Other,
            _ => Self::Cpu(CpuAffinity { apic_id, domain }),
        };
        Ok(match record.u8(0)? {
            0 => {
                let domain = [record.u8(2)?, record.u8(9)?, record.u8(10)?, record.u8(11)?];
                cpu(
                    record.u32(4)?,
                    u32::from(record.u8(3)?),
                    u32::from_le_bytes(domain),
                )
            }
            2 => cpu(record.u32(12)?, record.u32(8)?, record.u32(4)?),
            1 => {
                let flags = record.u32(28)?;
                let affinity = MemoryAffinity {
                    start: record.u64(8)?,
                    len: record.u64(16)?,
                    domain: record.u32(2)?,
                    hotpluggable: flags & HOT_PLUGGABLE != 0,
                };
                if flags & ENABLED == 0 || affinity.len == 0 {
                    return Ok(Self::Other);
                }
                Self::Memory(affinity)
            }
            _ => Self::Other,
        })
    }
}

/// The proximity domains of CPUs and memory.
#[derive(Debug, Clone, Copy)]
pub struct Srat<'m> {
    table: Table<'m>,
}

const ENABLED: u32 = 1;
const HOT_PLUGGABLE: u32 = 2;
/// Offset of the SRAT's first record.
const RECORDS: usize = 48;

impl<'m> Srat<'m> {
    /// Checks every record of the table.
    ///
    /// # Errors
    ///
    /// Returns an [`AcpiError`] if the table is malformed.
    pub fn parse(table: Table<'m>) -> Result<Self, AcpiError> {
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

    /// Returns the enabled CPU records.
    pub fn cpus(&self) -> impl Iterator<Item = CpuAffinity> {
        self.records().filter_map(|record| match record {
            Record::Cpu(cpu) => Some(cpu),
            _ => None,
        })
    }

    /// Returns the enabled memory records.
    pub fn memory(&self) -> impl Iterator<Item = MemoryAffinity> {
        self.records().filter_map(|record| match record {
            Record::Memory(memory) => Some(memory),
            _ => None,
        })
    }

    /// Returns the domain of the CPU with this APIC id.
    pub fn domain_of(&self, apic_id: u32) -> Option<u32> {
        let found = self.cpus().find(|cpu| cpu.apic_id == apic_id);
        found.map(|cpu| cpu.domain)
    }
}

/// Distances between domains: 10 is local.
#[derive(Debug, Clone, Copy)]
pub struct Slit<'m> {
    table: Table<'m>,
    /// Number of domains in the matrix.
    domains: usize,
}

/// Offset of the SLIT's matrix.
const MATRIX: usize = 44;

impl<'m> Slit<'m> {
    /// Checks that the table has all of its matrix.
    ///
    /// # Errors
    ///
    /// Returns an [`AcpiError`] if it has not.
    pub fn parse(table: Table<'m>) -> Result<Self, AcpiError> {
        // No table has that many, and the square of this number fits.
        let domains = table.u64(36)?.min(u32::MAX.into()) as usize;
        if let Some(last) = (domains * domains).checked_sub(1) {
            table.u8(MATRIX + last)?;
        }
        Ok(Self { table, domains })
    }

    /// Returns the distance between two domains, if the table has both.
    pub fn distance(&self, from: u32, to: u32) -> Option<u8> {
        let (from, to) = (from as usize, to as usize);
        let is_there = from < self.domains && to < self.domains;
        let at = is_there.then(|| MATRIX + from * self.domains + to)?;
        self.table.u8(at).ok()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::super::tests::table;
    use super::*;

    fn memory(domain: u8, start: u64, len: u64, flags: u8) -> std::vec::Vec<u8> {
        let mut record = std::vec![1, 40, domain, 0, 0, 0, 0, 0];
        record.extend(start.to_le_bytes());
        record.extend(len.to_le_bytes());
        record.extend([0, 0, 0, 0, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        record
    }

    #[test]
    fn records_follow_the_specification_byte_by_byte() {
        let mut body = std::vec![0; 12];
        body.extend([0, 16, 1, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        body.extend([0, 16, 2, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        body.extend(memory(1, 0x1_0000_0000, 0x4000_0000, 1));
        body.extend(memory(1, 0x1_4000_0000, 0x2_0000_0000, 3));
        body.extend(memory(0, 0, 0xa_0000, 0));
        let bytes = table(b"SRAT", &body);
        let srat = Srat::parse(Table::new(&bytes, 0).unwrap()).unwrap();
        assert_eq!(srat.domain_of(5), Some(1));
        assert_eq!(srat.domain_of(6), None, "disabled");
        let expected = [
            MemoryAffinity {
                start: 0x1_0000_0000,
                len: 0x4000_0000,
                domain: 1,
                hotpluggable: false,
            },
            MemoryAffinity {
                start: 0x1_4000_0000,
                len: 0x2_0000_0000,
                domain: 1,
                hotpluggable: true,
            },
        ];
        assert!(srat.memory().eq(expected));
    }

    #[test]
    fn a_slit_gives_distances_and_a_short_one_is_an_error() {
        let mut body = 2u64.to_le_bytes().to_vec();
        body.extend([10, 20, 31, 10]);
        let bytes = table(b"SLIT", &body);
        let slit = Slit::parse(Table::new(&bytes, 0).unwrap()).unwrap();
        assert_eq!(slit.distance(0, 1), Some(20));
        assert_eq!(slit.distance(1, 0), Some(31));
        assert_eq!(slit.distance(0, 2), None);
        body.pop();
        let bytes = table(b"SLIT", &body);
        let error = Slit::parse(Table::new(&bytes, 0).unwrap()).unwrap_err();
        assert!(matches!(error, AcpiError::Truncated { offset: 48, .. }));
        let bytes = table(b"SLIT", &[u8::MAX; 12]);
        let error = Slit::parse(Table::new(&bytes, 0).unwrap()).unwrap_err();
        assert!(matches!(error, AcpiError::Truncated { .. }));
    }
}
