//! The SRAT and the SLIT: nodes and distances. ACPI 6.5, sections 5.2.16 and 5.2.17.

use super::table::{AcpiError, Table};
use heapless::Vec;

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

/// The proximity domains of CPUs and memory.
#[derive(Debug, Clone, Default)]
pub struct Srat {
    /// The enabled CPU records.
    pub cpus: Vec<CpuAffinity, 256>,
    /// The enabled memory records.
    pub memory: Vec<MemoryAffinity, 128>,
}

const ENABLED: u32 = 1;
const HOT_PLUGGABLE: u32 = 2;

impl Srat {
    /// Reads the table.
    ///
    /// # Errors
    ///
    /// Returns an [`AcpiError`] if the table is malformed or has too many records.
    pub fn parse(table: &Table<'_>) -> Result<Self, AcpiError> {
        let mut srat = Self::default();
        for record in table.records(48) {
            srat.add(&record?)?;
        }
        Ok(srat)
    }

    fn add(&mut self, record: &Table<'_>) -> Result<(), AcpiError> {
        let mut cpu = |flags: u32, affinity| {
            if flags & ENABLED == 0 {
                return Ok(());
            }
            let pushed = self.cpus.push(affinity);
            pushed.map_err(|_| record.too_many("CPUs"))
        };
        match record.u8(0)? {
            0 => {
                let domain = [record.u8(2)?, record.u8(9)?, record.u8(10)?, record.u8(11)?];
                cpu(
                    record.u32(4)?,
                    CpuAffinity {
                        apic_id: u32::from(record.u8(3)?),
                        domain: u32::from_le_bytes(domain),
                    },
                )
            }
            2 => cpu(
                record.u32(12)?,
                CpuAffinity {
                    apic_id: record.u32(8)?,
                    domain: record.u32(4)?,
                },
            ),
            1 => {
                let flags = record.u32(28)?;
                let affinity = MemoryAffinity {
                    start: record.u64(8)?,
                    len: record.u64(16)?,
                    domain: record.u32(2)?,
                    hotpluggable: flags & HOT_PLUGGABLE != 0,
                };
                if flags & ENABLED == 0 || affinity.len == 0 {
                    return Ok(());
                }
                let pushed = self.memory.push(affinity);
                pushed.map_err(|_| record.too_many("memory ranges"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the domain of the CPU with this APIC id.
    pub fn domain_of(&self, apic_id: u32) -> Option<u32> {
        let found = self.cpus.iter().find(|cpu| cpu.apic_id == apic_id);
        found.map(|cpu| cpu.domain)
    }
}

/// The most domains that a SLIT is read for.
pub const MAX_DOMAINS: usize = 64;

/// Distances between domains: 10 is local.
#[derive(Debug, Clone)]
pub struct Slit {
    /// Number of domains in the matrix.
    pub domains: usize,
    distances: [[u8; MAX_DOMAINS]; MAX_DOMAINS],
}

impl Slit {
    /// Reads the table.
    ///
    /// # Errors
    ///
    /// Returns an [`AcpiError`] if the table is malformed or has too many domains.
    pub fn parse(table: &Table<'_>) -> Result<Self, AcpiError> {
        let domains = table.u64(36)?;
        let domains = usize::try_from(domains).unwrap_or(usize::MAX);
        if domains > MAX_DOMAINS {
            return Err(table.too_many("domains"));
        }
        let mut distances = [[0; MAX_DOMAINS]; MAX_DOMAINS];
        for (from, row) in distances.iter_mut().enumerate().take(domains) {
            for (to, distance) in row.iter_mut().enumerate().take(domains) {
                *distance = table.u8(44 + from * domains + to)?;
            }
        }
        Ok(Self { domains, distances })
    }

    /// Returns the distance between two domains, if the table has both.
    pub fn distance(&self, from: u32, to: u32) -> Option<u8> {
        let (from, to) = (from as usize, to as usize);
        (from < self.domains && to < self.domains).then(|| self.distances[from][to])
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
        let srat = Srat::parse(&Table::new(&bytes, 0).unwrap()).unwrap();
        assert_eq!(srat.domain_of(5), Some(1));
        assert_eq!(srat.domain_of(6), None, "disabled");
        assert_eq!(
            srat.memory.as_slice(),
            [
                MemoryAffinity {
                    start: 0x1_0000_0000,
                    len: 0x4000_0000,
                    domain: 1,
                    hotpluggable: false
                },
                MemoryAffinity {
                    start: 0x1_4000_0000,
                    len: 0x2_0000_0000,
                    domain: 1,
                    hotpluggable: true
                },
            ]
        );
    }

    #[test]
    fn a_slit_gives_distances_and_a_short_one_is_an_error() {
        let mut body = 2u64.to_le_bytes().to_vec();
        body.extend([10, 20, 31, 10]);
        let bytes = table(b"SLIT", &body);
        let slit = Slit::parse(&Table::new(&bytes, 0).unwrap()).unwrap();
        assert_eq!(slit.distance(0, 1), Some(20));
        assert_eq!(slit.distance(1, 0), Some(31));
        assert_eq!(slit.distance(0, 2), None);
        body.pop();
        let bytes = table(b"SLIT", &body);
        let error = Slit::parse(&Table::new(&bytes, 0).unwrap()).unwrap_err();
        assert!(matches!(error, AcpiError::Truncated { offset: 48, .. }));
    }
}
