//! The local APIC (xAPIC, memory-mapped registers). Intel SDM volume 3, chapter 11.

use super::acpi::{Madt, Polarity};
use super::interrupts;
use super::paging::{self, FrameSource, PagingError};
use super::percpu;
use super::vectors;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::*};
use x86_64::registers::model_specific::Msr;

/// Register offsets, in bytes.
mod reg {
    pub const ID: usize = 0x20;
    pub const TASK_PRIORITY: usize = 0x80;
    pub const EOI: usize = 0xb0;
    pub const SPURIOUS: usize = 0xf0;
    #[cfg(feature = "lab")]
    pub const IRR: usize = 0x200;
    pub const ERROR_STATUS: usize = 0x280;
    pub const ICR_LOW: usize = 0x300;
    pub const ICR_HIGH: usize = 0x310;
    pub const LVT_TIMER: usize = 0x320;
    pub const LVT_LINT0: usize = 0x350;
    pub const LVT_LINT1: usize = 0x360;
    pub const LVT_ERROR: usize = 0x370;
    pub const TIMER_INITIAL: usize = 0x380;
    pub const TIMER_CURRENT: usize = 0x390;
    pub const TIMER_DIVIDE: usize = 0x3e0;
}

const APIC_BASE_MSR: u32 = 0x1b;
const APIC_BASE_ENABLE: u64 = 1 << 11;
const APIC_BASE_X2: u64 = 1 << 10;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const PERIODIC: u32 = 1 << 17;
const DELIVER_NMI: u32 = 0b100 << 8;
const DELIVER_INIT: u32 = 0b101 << 8;
const DELIVER_STARTUP: u32 = 0b110 << 8;
const ASSERT: u32 = 1 << 14;
const ACTIVE_LOW: u32 = 1 << 13;
const PENDING: u32 = 1 << 12;
const TO_SELF: u32 = 0b01 << 18;
const DIVIDE_BY_16: u32 = 0b0011;

/// The mapped registers. They are set once by `init`; the same address shows each CPU its own APIC.
static REGISTERS: AtomicPtr<u32> = AtomicPtr::new(ptr::null_mut());
/// Timer ticks a second, after the timer's divider; written once by the calibration.
static TIMER_HZ: AtomicU32 = AtomicU32::new(0);

fn read(register: usize) -> u32 {
    // SAFETY: `register` is an offset of a register, in the mapped page; reads have no effect.
    unsafe { REGISTERS.load(Relaxed).byte_add(register).read_volatile() }
}

fn write(register: usize, value: u32) {
    let registers = REGISTERS.load(Relaxed);
    if !registers.is_null() {
        // SAFETY: `register` is an offset of a register, in the mapped page.
        unsafe { registers.byte_add(register).write_volatile(value) }
    }
}

/// Maps the registers. It is called once, on the boot CPU.
pub(super) fn init(madt: &Madt<'_>, tables: FrameSource<'_>) -> Result<(), PagingError> {
    let registers = paging::map_mmio(madt.local_apic(), 4096, tables)?;
    REGISTERS.store(registers.cast(), Relaxed);
    Ok(())
}

/// Sets up the running CPU's APIC: it is on with nothing pending, NMI pins as the MADT has them,
/// timer off.
pub(super) fn enable(madt: &Madt<'_>, uid: u32) {
    let mut base = Msr::new(APIC_BASE_MSR);
    // SAFETY: this turns the APIC on at the address that it has already.
    unsafe {
        let value = base.read();
        debug_assert!(value & APIC_BASE_X2 == 0, "the firmware chose x2APIC");
        base.write(value | APIC_BASE_ENABLE);
    }
    write(reg::TASK_PRIORITY, 0);
    write(
        reg::SPURIOUS,
        SOFTWARE_ENABLE | u32::from(vectors::SPURIOUS),
    );
    for (lint, register) in [(0, reg::LVT_LINT0), (1, reg::LVT_LINT1)] {
        let entry = match madt.nmi(uid, lint) {
            Some(nmi) if nmi.polarity == Polarity::Low => DELIVER_NMI | ACTIVE_LOW,
            Some(_) => DELIVER_NMI,
            None => MASKED,
        };
        write(register, entry);
    }
    write(reg::ERROR_STATUS, 0);
    write(reg::LVT_ERROR, u32::from(vectors::APIC_ERROR));
    write(reg::LVT_TIMER, MASKED | u32::from(vectors::TIMER));
    write(reg::TIMER_DIVIDE, DIVIDE_BY_16);
    end_of_interrupt();
}

/// Returns the running CPU's APIC id.
pub fn id() -> u32 {
    read(reg::ID) >> 24
}

/// Ends the interrupt that is being handled.
pub(super) fn end_of_interrupt() {
    write(reg::EOI, 0);
}

/// Returns the error bits that came since the last call, and clears them.
pub(super) fn take_errors() -> u32 {
    write(reg::ERROR_STATUS, 0);
    read(reg::ERROR_STATUS)
}

/// A message from one CPU to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// An interrupt.
    Vector(u8),
    /// An NMI.
    Nmi,
    /// A reset to the state in which a CPU waits for `Startup`.
    Init,
    /// A start in real mode at this page of memory.
    Startup(u8),
}

/// Sends `message` to the CPU with this APIC id, in physical destination mode. That CPU may be the
/// sender.
pub(super) fn send(apic_id: u32, message: Message) {
    let low = match message {
        Message::Vector(vector) => u32::from(vector),
        Message::Nmi => DELIVER_NMI,
        Message::Init => DELIVER_INIT,
        Message::Startup(page) => DELIVER_STARTUP | u32::from(page),
    };
    // Between the two writes an interrupt handler's send would change the destination, so
    // interrupts are off. Nothing keeps an NMI handler out, so it puts back the high word that it
    // found. What it sends to itself goes by shorthand, which leaves the high word alone.
    let enabled = interrupts::interrupts_enabled();
    interrupts::disable();
    wait_until_sent();
    let interrupted = percpu::in_nmi().then(|| read(reg::ICR_HIGH));
    write(reg::ICR_HIGH, apic_id << 24);
    write(reg::ICR_LOW, low | ASSERT);
    if let Some(high) = interrupted {
        wait_until_sent();
        write(reg::ICR_HIGH, high);
    }
    if enabled {
        interrupts::enable();
    }
}

/// Returns whether the running CPU's APIC has `vector` requested and not delivered (IRR; Intel SDM
/// vol.~3, 12.8.4). Any context may call it.
#[cfg(feature = "lab")]
pub(super) fn is_requested(vector: u8) -> bool {
    if REGISTERS.load(Relaxed).is_null() {
        return false;
    }
    let word = usize::from(vector / 32) * 0x10;
    read(reg::IRR + word) >> (vector % 32) & 1 == 1
}

/// Interrupts the running CPU with `vector` by shorthand, which takes one write. Any context may
/// call it, NMI included.
pub(super) fn send_self(vector: u8) {
    wait_until_sent();
    write(reg::ICR_LOW, TO_SELF | ASSERT | u32::from(vector));
}

fn wait_until_sent() {
    // Sending takes a few hundred cycles at most. The loop is bounded, because an NMI may come
    // between any two instructions.
    for _ in 0..100_000 {
        if REGISTERS.load(Relaxed).is_null() || read(reg::ICR_LOW) & PENDING == 0 {
            return;
        }
        core::hint::spin_loop();
    }
}

/// Lets the timer run freely and returns a function that counts its ticks, for the calibration.
pub(super) fn timer_ticks() -> impl Fn() -> u64 {
    write(reg::TIMER_INITIAL, u32::MAX);
    || u64::from(u32::MAX - read(reg::TIMER_CURRENT))
}

/// Stores the timer's rate, in ticks a second, and stops it.
pub(super) fn set_timer_hz(hz: u64) {
    write(reg::TIMER_INITIAL, 0);
    TIMER_HZ.store(hz as u32, Relaxed);
}

/// Starts the running CPU's timer at `hz` interrupts a second.
pub(super) fn start_timer(hz: u32) {
    write(reg::LVT_TIMER, PERIODIC | u32::from(vectors::TIMER));
    write(
        reg::TIMER_INITIAL,
        (TIMER_HZ.load(Relaxed) / hz.max(1)).max(1),
    );
}

/// Stops the running CPU's timer.
pub(super) fn stop_timer() {
    write(reg::LVT_TIMER, MASKED | u32::from(vectors::TIMER));
    write(reg::TIMER_INITIAL, 0);
}
