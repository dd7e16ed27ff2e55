//! The FADT: the power-management registers. ACPI 6.5, section 5.2.9.

use super::table::{AcpiError, Table};

/// The registers that the kernel uses; all are I/O ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fadt {
    /// The line of the system control interrupt.
    pub sci_gsi: u32,
    /// Where [`Fadt::acpi_enable`] is written; 0 means that ACPI mode is always on.
    pub smi_command: u16,
    /// What switches the machine to ACPI mode.
    pub acpi_enable: u8,
    /// The PM1a event block: status, then enable, 2 bytes each.
    pub pm1a_event: u16,
    /// The PM1a control register; bit 0 says that ACPI mode is on.
    pub pm1a_control: u16,
    /// The general-purpose event block: status bytes, then as many enable bytes.
    pub gpe0: u16,
    /// Bytes of the general-purpose event block.
    pub gpe0_len: u8,
    /// The 3.579545 MHz timer's register, if there is one.
    pub pm_timer: Option<u16>,
    /// Bits that the timer counts with: 24 or 32.
    pub pm_timer_bits: u32,
}

impl Fadt {
    /// Reads the table.
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
