//! The FADT: the power-management registers. ACPI 6.5, section 5.2.9.

use super::table::{AcpiError, Table};

/// The registers that the kernel uses; all are I/O ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fadt {
    /// The line of the system control interrupt.
    pub sci_gsi: u32,
    /// The port that [`Fadt::acpi_enable`] is written to; 0 means that ACPI mode is always on.
    pub smi_command: u16,
    /// The value that switches the machine to ACPI mode.
    pub acpi_enable: u8,
    /// The PM1a event block: status, then enable, 2 bytes each.
    pub pm1a_event: u16,
    /// The PM1a control register; its bit 0 is set in ACPI mode.
    pub pm1a_control: u16,
    /// The general-purpose event block: status bytes, then as many enable bytes.
    pub gpe0: u16,
    /// Bytes in the general-purpose event block, status and enable together.
    pub gpe0_len: u8,
    /// The register of the 3.579545 MHz timer, if there is one.
    pub pm_timer: Option<u16>,
    /// Width of the timer's counter in bits: 24 or 32.
    pub pm_timer_bits: u32,
}

impl Fadt {
    /// Reads the table.
    ///
    /// # Errors
    ///
    /// Returns an [`AcpiError`] if the table is malformed.
    pub fn parse(table: &Table<'_>) -> Result<Self, AcpiError> {
        let port = |offset| table.u32(offset).map(|port| port as u16);
        let wide = table.u32(112)? & 1 << 8 != 0;
        let timer_len = table.u8(91)?;
        let timer = port(76)?;
        Ok(Self {
            sci_gsi: u32::from(table.u16(46)?),
            smi_command: port(48)?,
            acpi_enable: table.u8(52)?,
            pm1a_event: port(56)?,
            pm1a_control: port(64)?,
            gpe0: port(80)?,
            gpe0_len: table.u8(92)?,
            pm_timer: (timer != 0 && timer_len == 4).then_some(timer),
            pm_timer_bits: if wide { 32 } else { 24 },
        })
    }
}
