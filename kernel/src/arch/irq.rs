//! Hard interrupts: handlers by vector and by IO-APIC line.

use super::acpi::Wiring;
use super::context::HardIrq;
use super::entry::TrapFrame;
use super::percpu::{self, CpuId};
use super::{apic, ioapic, ipi, log, timer, vectors};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::*};
use tidemark_sync::{Hook, hook};

/// An interrupt handler. It runs with interrupts off and may not sleep.
pub type Handler = fn(&HardIrq);

/// Why a handler could not be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IrqError {
    /// No IO-APIC serves this line.
    NoSuchGsi(u32),
    /// The vector or line has a handler already.
    Taken(u8),
    /// The fixed table is full.
    Full,
}

impl fmt::Display for IrqError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchGsi(gsi) => write!(f, "no IO-APIC has interrupt line {gsi}"),
            Self::Taken(vector) => write!(f, "vector {vector:#x} has a handler already"),
            Self::Full => write!(f, "the table of handlers is full"),
        }
    }
}

/// The handler of each vector. A handler that is set stays.
static HANDLERS: [Hook<Handler>; 256] = [const { hook!(fn(&HardIrq)) }; 256];
/// The vectors without a handler that came nevertheless and were reported, as bits.
static UNEXPECTED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Adds the handler of `vector`.
///
/// # Errors
///
/// Returns [`IrqError::Taken`] if the vector has a handler already.
pub fn register(vector: u8, handler: Handler) -> Result<(), IrqError> {
    HANDLERS[usize::from(vector)]
        .claim(handler)
        .map_err(|_| IrqError::Taken(vector))
}

/// Adds the handler of a legacy IRQ (COM1 is 4, COM2 is 3), following the MADT's overrides. Routes
/// its line to the boot CPU and unmasks it. Only task context may call it.
///
/// # Errors
///
/// Returns an [`IrqError`] if no IO-APIC serves the line, or if it has a handler already.
pub fn request_isa(irq: u8, handler: Handler) -> Result<(), IrqError> {
    let tables = super::tables().ok_or(IrqError::NoSuchGsi(u32::from(irq)))?;
    request(tables.madt.isa(irq), handler)
}

fn request(wiring: Wiring, handler: Handler) -> Result<(), IrqError> {
    let line = u8::try_from(wiring.gsi)
        .ok()
        .filter(|line| *line < vectors::GSI_COUNT)
        .ok_or(IrqError::NoSuchGsi(wiring.gsi))?;
    let vector = vectors::GSI_BASE + line;
    register(vector, handler)?;
    let boot_cpu = percpu::of(CpuId(0)).apic_id.load(Relaxed);
    if ioapic::route(wiring, vector, boot_cpu) {
        Ok(())
    } else {
        HANDLERS[usize::from(vector)].clear();
        Err(IrqError::NoSuchGsi(wiring.gsi))
    }
}

/// Handles one hard interrupt, on its stack, with interrupts off.
pub(super) fn dispatch(frame: &TrapFrame, vector: u8) {
    let block = percpu::current();
    block.in_irq.store(1, Relaxed);
    // SAFETY: this is the handler of a hard interrupt, and the token ends with it.
    let token = unsafe { HardIrq::mint() };
    match vector {
        vectors::TIMER => timer::handle(&token),
        vectors::CALL | vectors::DRAIN | vectors::TLB => ipi::handle_calls(&token),
        vectors::WORK => ipi::handle_work(&token),
        vectors::RESCHEDULE => super::preempt::set_need_resched(),
        vectors::STOP => ipi::stop_here(frame),
        vectors::SPURIOUS | vectors::WAKE | vectors::REST => {}
        vectors::APIC_ERROR => {
            log::warn(format_args!("local APIC error {:#x}", apic::take_errors()));
        }
        _ => other(&token, vector),
    }
    // A spurious interrupt is not in service. The others end after their handler, which has
    // silenced a level-triggered line by then.
    if vector != vectors::SPURIOUS && vector >= vectors::GSI_BASE {
        apic::end_of_interrupt();
    }
    block.in_irq.store(0, Relaxed);
}

fn other(token: &HardIrq, vector: u8) {
    let Some(handler) = HANDLERS[usize::from(vector)].get() else {
        let bit = 1 << (vector % 64);
        let seen = UNEXPECTED[usize::from(vector / 64)].fetch_or(bit, Relaxed);
        if seen & bit == 0 {
            log::warn(format_args!(
                "interrupt {vector:#x} has no handler; counted from now on"
            ));
        }
        return;
    };
    handler(token);
}
