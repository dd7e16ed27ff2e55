//! The general-purpose event that announces memory hot-plug (ACPI 6.5, section 4.8.4.1).

use crate::arch::port::{inb, inw, outb};
use core::sync::atomic::{AtomicU16, Ordering};

/// The GPE bit of memory hot-plug on q35 and pc.
const MEMORY_BIT: u8 = 1 << 3;
/// The SCI_EN bit in the PM1a control register.
const SCI_EN: u16 = 1;
/// Most polls for the switch to ACPI mode. QEMU switches within the write.
const ENABLE_POLLS: u32 = 100_000;

/// The event registers, as the FADT gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// SMI command port; 0 if the machine is always in ACPI mode.
    pub smi_cmd: u16,
    /// The value to write there to enter ACPI mode.
    pub acpi_enable: u8,
    /// PM1a control register.
    pub pm1a_cnt: u16,
    /// First byte of GPE0's status registers; the enable registers follow them.
    pub gpe0: u16,
    /// Bytes of both kinds of registers together.
    pub gpe0_len: u8,
}

/// The port of GPE0's status register, for the handler; 0 until [`enable`].
static STATUS_PORT: AtomicU16 = AtomicU16::new(0);

/// Enters ACPI mode and lets only memory hot-plug raise the SCI. Returns whether the machine
/// entered ACPI mode.
///
/// The handler must be installed before, because a pending event is delivered at once.
///
/// # Safety
///
/// `ports` are those of this machine's FADT, and no other code writes to them.
pub unsafe fn enable(ports: &Ports) -> bool {
    let half = u16::from(ports.gpe0_len / 2);
    STATUS_PORT.store(ports.gpe0, Ordering::Relaxed);
    // SAFETY: the caller vouches for the ports.
    unsafe {
        if ports.smi_cmd != 0 && inw(ports.pm1a_cnt) & SCI_EN == 0 {
            outb(ports.smi_cmd, ports.acpi_enable);
            let mut polls = 0;
            while inw(ports.pm1a_cnt) & SCI_EN == 0 {
                polls += 1;
                if polls == ENABLE_POLLS {
                    return false;
                }
            }
        }
        for byte in 0..half {
            let bits = if byte == 0 { MEMORY_BIT } else { 0 };
            outb(ports.gpe0 + half + byte, bits);
        }
    }
    true
}

/// Acknowledges a memory hot-plug event. Returns whether there was one. The SCI handler calls it.
pub fn acknowledge() -> bool {
    let port = STATUS_PORT.load(Ordering::Relaxed);
    if port == 0 {
        return false;
    }
    // SAFETY: `enable` stored the port of the status register. Writing 1 clears a bit, so the other
    // events keep theirs.
    unsafe {
        if inb(port) & MEMORY_BIT == 0 {
            return false;
        }
        outb(port, MEMORY_BIT);
    }
    true
}
