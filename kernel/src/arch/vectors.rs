//! The meaning of each interrupt vector.

/// The first vector that is no exception of the processor.
pub const FIRST_IRQ: u8 = 32;
/// The first of the vectors that the masked legacy controllers raise if they misfire.
pub const LEGACY: u8 = 0x20;
/// The first of the vectors that IO-APIC lines are routed to: line n has `GSI_BASE + n`.
pub const GSI_BASE: u8 = 0x30;
/// Number of IO-APIC lines that get a vector.
pub const GSI_COUNT: u8 = 0x80;
/// A vector that only ends a halt.
pub const WAKE: u8 = 0xe7;
/// Work that a bit asks for. It is raised from an NMI as well, as a fixed self-IPI by shorthand.
pub const WORK: u8 = 0xe8;
/// A function to run, whose sender waits.
pub const CALL: u8 = 0xe9;
/// A call as `CALL`, for draining per-CPU caches.
pub const DRAIN: u8 = 0xea;
/// A call as `CALL`, for a TLB shootdown.
pub const TLB: u8 = 0xeb;
/// A request to look at the run queue.
pub const RESCHEDULE: u8 = 0xec;
/// A request to stop for good.
pub const STOP: u8 = 0xed;
/// An error that the local APIC reports.
pub const APIC_ERROR: u8 = 0xee;
/// The local APIC's timer.
pub const TIMER: u8 = 0xef;
/// The end of a rest ([`super::rest`]). It is in a class of its own, above everything that a rest
/// holds back.
pub const REST: u8 = 0xf0;
/// The spurious vector of the local APIC; its low four bits are set, as old parts demand.
pub const SPURIOUS: u8 = 0xff;

/// The non-maskable interrupt.
pub const NMI: u8 = 2;
/// The double fault.
pub const DOUBLE_FAULT: u8 = 8;
/// The general protection fault.
pub const GENERAL_PROTECTION: u8 = 13;
/// The page fault.
pub const PAGE_FAULT: u8 = 14;
/// The machine check.
pub const MACHINE_CHECK: u8 = 18;

const _: () = assert!(GSI_BASE as u16 + GSI_COUNT as u16 <= WAKE as u16);
const _: () = assert!(SPURIOUS & 0xf == 0xf);

/// Returns the name of what `vector` is for.
pub fn name(vector: u8) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug",
        2 => "NMI",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection",
        14 => "page fault",
        16 => "x87 error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD error",
        20 => "virtualization",
        21 => "control protection",
        9 | 15 | 22..FIRST_IRQ => "reserved exception",
        WAKE => "wake",
        WORK => "work",
        CALL => "call",
        DRAIN => "drain",
        TLB => "TLB shootdown",
        RESCHEDULE => "reschedule",
        STOP => "stop",
        APIC_ERROR => "APIC error",
        TIMER => "timer",
        REST => "end of rest",
        SPURIOUS => "spurious",
        GSI_BASE..WAKE => "IO-APIC",
        _ => "unknown",
    }
}
