//! The static tables of ACPI that the kernel uses: MADT, SRAT, SLIT, FADT (ACPI 6.5, chapter 5).
//!
//! All of them are read through bounds-checked slices; a malformed table gives one [`AcpiError`].

mod fadt;
mod madt;
mod numa;
mod table;

pub use fadt::Fadt;
pub use madt::{Cpu, Madt, Polarity, Trigger, Wiring};
pub use numa::{Slit, Srat};
pub use table::{AcpiError, PhysicalMemory};

use super::paging::{self, direct::direct_mapped};

/// The firmware's tables. All but the FADT are read where they lie, each time.
#[derive(Debug)]
pub struct Tables<'m> {
    /// CPUs and interrupt controllers.
    pub madt: Madt<'m>,
    /// Power-management registers.
    pub fadt: Fadt,
    /// The nodes of CPUs and memory; None without NUMA.
    pub srat: Result<Option<Srat<'m>>, AcpiError>,
    /// The distances between nodes; None if all are equally far from each other.
    pub slit: Result<Option<Slit<'m>>, AcpiError>,
}

/// Finds and checks the tables behind the root pointer at physical address `rsdp`. MADT and FADT
/// must be there; a bad SRAT or SLIT is left to the caller to report.
///
/// # Errors
///
/// Returns the [`AcpiError`] of the first bad or missing table among the root table, MADT and FADT.
pub fn read<'m>(rsdp: u64, memory: &impl PhysicalMemory<'m>) -> Result<Tables<'m>, AcpiError> {
    let root = table::Root::find(rsdp, memory)?;
    let missing = |signature| AcpiError::Missing { signature };
    let madt = root.table(b"APIC")?.ok_or(missing(*b"APIC"))?;
    let fadt = root.table(b"FACP")?.ok_or(missing(*b"FACP"))?;
    let srat = root.table(b"SRAT");
    let slit = root.table(b"SLIT");
    Ok(Tables {
        madt: Madt::parse(madt)?,
        fadt: Fadt::parse(&fadt)?,
        srat: srat.and_then(|table| table.map(Srat::parse).transpose()),
        slit: slit.and_then(|table| table.map(Slit::parse).transpose()),
    })
}

/// Physical memory as the direct map shows it.
#[derive(Debug)]
pub struct DirectMap;

impl PhysicalMemory<'static> for DirectMap {
    fn bytes(&self, start: u64, len: usize) -> Option<&'static [u8]> {
        let last = start.checked_add(len as u64)?.checked_sub(1)?;
        let mut page = start & !0xfff;
        while page <= last {
            if !direct_mapped(page) {
                return None;
            }
            page += 4096;
        }
        // SAFETY: the pages are mapped, and firmware tables are not written while the kernel runs.
        Some(unsafe { core::slice::from_raw_parts(paging::phys_to_virt(start), len) })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    /// Builds a table with a correct length and checksum.
    pub(super) fn table(signature: &[u8; 4], body: &[u8]) -> std::vec::Vec<u8> {
        let mut bytes = std::vec![0; 36];
        bytes[..4].copy_from_slice(signature);
        bytes[4..8].copy_from_slice(&(36 + body.len() as u32).to_le_bytes());
        bytes.extend(body);
        let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[9] = sum.wrapping_neg();
        bytes
    }

    struct Memory(std::vec::Vec<u8>);

    impl<'m> PhysicalMemory<'m> for &'m Memory {
        fn bytes(&self, start: u64, len: usize) -> Option<&'m [u8]> {
            self.0.get(start as usize..start as usize + len)
        }
    }

    fn machine(tables: &[std::vec::Vec<u8>]) -> Memory {
        let mut memory = std::vec![0u8; 0x100];
        let mut addresses = std::vec::Vec::new();
        for table in tables {
            addresses.extend((memory.len() as u32).to_le_bytes());
            memory.extend(table);
        }
        let root = memory.len() as u32;
        memory.extend(table(b"RSDT", &addresses));
        memory[..8].copy_from_slice(b"RSD PTR ");
        memory[16..20].copy_from_slice(&root.to_le_bytes());
        let sum = memory[..20]
            .iter()
            .fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        memory[8] = sum.wrapping_neg();
        Memory(memory)
    }

    fn fadt() -> std::vec::Vec<u8> {
        let mut body = std::vec![0; 80];
        body[46 - 36] = 9;
        body[76 - 36..78 - 36].copy_from_slice(&0x608u16.to_le_bytes());
        body[91 - 36] = 4;
        table(b"FACP", &body)
    }

    fn madt() -> std::vec::Vec<u8> {
        table(b"APIC", &[0, 0, 0xe0, 0xfe, 1, 0, 0, 0])
    }

    #[test]
    fn a_machine_without_numa_tables_is_read() {
        let memory = machine(&[fadt(), madt()]);
        let tables = read(0, &&memory).unwrap();
        assert_eq!(tables.fadt.sci_gsi, 9);
        assert_eq!(tables.fadt.pm_timer, Some(0x608));
        assert_eq!(tables.fadt.pm_timer_bits, 24);
        assert!(matches!(tables.srat, Ok(None)));
    }

    #[test]
    fn a_damaged_srat_does_not_hide_the_rest() {
        let mut srat = table(b"SRAT", &[0; 12]);
        srat[40] ^= 1;
        let memory = machine(&[srat, fadt(), madt()]);
        let tables = read(0, &&memory).unwrap();
        assert!(matches!(tables.srat, Err(AcpiError::Checksum { .. })));
    }

    #[test]
    fn missing_and_wild_tables_are_errors() {
        let memory = machine(&[madt()]);
        let error = read(0, &&memory).unwrap_err();
        assert_eq!(std::format!("{error}"), "no ACPI table FACP");
        let error = read(0x10, &&memory).unwrap_err();
        assert_eq!(error, AcpiError::NoRoot { at: 0x10 });
        let mut long = madt();
        long[4..8].copy_from_slice(&0x10_0000u32.to_le_bytes());
        let memory = machine(&[fadt(), long]);
        let error = read(0, &&memory).unwrap_err();
        assert!(matches!(
            error,
            AcpiError::Unreadable { len: 0x10_0000, .. }
        ));
    }
}
