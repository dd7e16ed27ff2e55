//! The record of a CPU that hangs: where it was, its registers, its callers.

use crate::arch::entry::TrapFrame;
use crate::panic;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use tidemark_wire::LabContext;

/// Number of return addresses that are kept.
const CALLERS: usize = 12;

/// The names of the registers that are kept, in the order of [`Found::registers`].
const REGISTERS: [&str; 18] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "rip", "rsp", "rbp", "rflags",
];
const RIP: usize = 14;
const RSP: usize = 15;
const RBP: usize = 16;
const RFLAGS: usize = 17;
const ALL: u32 = (1 << REGISTERS.len()) - 1;

/// The side that wrote the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Seen {
    /// An NMI on the CPU; everything is known.
    ByNmi,
    /// The CPU's own wait, in an NMI's handler. The callers are known, and rip, rsp, rbp and
    /// rflags.
    FromWithin,
    /// The neighbour of a CPU that is in an NMI's handler. The callers, rip, rsp, rbp and rflags
    /// are known of what that NMI interrupted.
    FromOutside,
}

/// The event that a hung CPU waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// It waits for nothing that the kernel knows.
    No,
    /// It waits for an even counter, during a rebuild on this CPU, if any.
    ForRebuild {
        /// The writer's CPU.
        on: Option<usize>,
    },
    /// It waits, for ever, for an even counter that only the rebuild that its handler has
    /// interrupted would make.
    ForWhatItInterrupted,
}

/// The record. One CPU at a time writes it, mostly the hung CPU itself. It is read once
/// [`Found::is_there`] returns true.
pub struct Found {
    /// When the CPU was found, in nanoseconds since boot, or 0.
    at_ns: AtomicU64,
    silent_ns: AtomicU64,
    /// The CPU that noticed.
    by: AtomicU32,
    seen: AtomicU32,
    context: AtomicU32,
    waits: AtomicU32,
    /// The registers that are known, a bit for each.
    known: AtomicU32,
    registers: [AtomicU64; REGISTERS.len()],
    /// The instruction, then return addresses; 0 after the last.
    at: [AtomicU64; CALLERS],
}

/// The words of [`Found::waits`]: one of these, or the writer's CPU plus [`ON_CPU`].
const WAITS_NOT: u32 = 0;
const WAITS_FOR_ITSELF: u32 = 1;
const WAITS_FOR_NOBODY: u32 = 2;
const ON_CPU: u32 = 3;

impl Found {
    pub(super) const fn new() -> Self {
        Self {
            at_ns: AtomicU64::new(0),
            silent_ns: AtomicU64::new(0),
            by: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            context: AtomicU32::new(0),
            waits: AtomicU32::new(0),
            known: AtomicU32::new(0),
            registers: [const { AtomicU64::new(0) }; REGISTERS.len()],
            at: [const { AtomicU64::new(0) }; CALLERS],
        }
    }

    fn put_registers(&self, registers: &[(usize, u64)]) {
        let mut known = 0;
        for &(number, value) in registers {
            self.registers[number].store(value, Relaxed);
            known |= 1 << number;
        }
        self.known.store(known, Relaxed);
    }

    fn put_callers(&self, rip: u64, rbp: u64) {
        let mut place = self.at.iter();
        let mut put = |address| {
            if let Some(place) = place.next() {
                place.store(address, Relaxed);
            }
        };
        put(rip);
        panic::for_each_return(rbp, &mut put);
        place.for_each(|rest| rest.store(0, Relaxed));
    }

    /// Records what an NMI interrupted. It is called on the CPU itself.
    pub(super) fn write_from_nmi(&self, frame: &TrapFrame) {
        let values = [
            frame.rax,
            frame.rbx,
            frame.rcx,
            frame.rdx,
            frame.rsi,
            frame.rdi,
            frame.r8,
            frame.r9,
            frame.r10,
            frame.r11,
            frame.r12,
            frame.r13,
            frame.r14,
            frame.r15,
            frame.rip,
            frame.rsp,
            frame.rbp,
            frame.rflags,
        ];
        for (kept, value) in self.registers.iter().zip(values) {
            kept.store(value, Relaxed);
        }
        self.known.store(ALL, Relaxed);
        self.put_callers(frame.rip, frame.rbp);
    }

    /// Records the caller's own place. It is called on the CPU itself.
    #[cfg(feature = "lab")]
    #[inline(never)]
    pub(super) fn write_from_within(&self) {
        let (rip, rsp, rbp, rflags): (u64, u64, u64, u64);
        // SAFETY: this reads registers. The flags go by the stack, below which nothing is kept
        // without a red zone.
        unsafe {
            core::arch::asm!(
                "lea {rip}, [rip]",
                "mov {rsp}, rsp",
                "mov {rbp}, rbp",
                "pushfq",
                "pop {rflags}",
                rip = out(reg) rip,
                rsp = out(reg) rsp,
                rbp = out(reg) rbp,
                rflags = out(reg) rflags,
                options(preserves_flags),
            );
        }
        self.put_registers(&[(RIP, rip), (RSP, rsp), (RBP, rbp), (RFLAGS, rflags)]);
        self.put_callers(rip, rbp);
    }

    /// Records what another CPU's NMI interrupted. That CPU's stack may change meanwhile, which a
    /// walk survives.
    pub(super) fn write_from_outside(&self, rip: u64, rsp: u64, rbp: u64, rflags: u64) {
        self.put_registers(&[(RIP, rip), (RSP, rsp), (RBP, rbp), (RFLAGS, rflags)]);
        self.put_callers(rip, rbp);
    }

    /// Completes the record.
    pub(super) fn finish(
        &self,
        now: u64,
        silent_ns: u64,
        by: usize,
        seen: Seen,
        context: LabContext,
        waits: Waits,
    ) {
        self.silent_ns.store(silent_ns, Relaxed);
        self.by.store(by as u32, Relaxed);
        self.seen.store(seen as u32, Relaxed);
        self.context.store(context as u32, Relaxed);
        let waits = match waits {
            Waits::No => WAITS_NOT,
            Waits::ForWhatItInterrupted => WAITS_FOR_ITSELF,
            Waits::ForRebuild { on: None } => WAITS_FOR_NOBODY,
            Waits::ForRebuild { on: Some(cpu) } => ON_CPU + cpu as u32,
        };
        self.waits.store(waits, Relaxed);
        // Release pairs with the Acquire in `at_ns`: a reader that sees the time sees the rest.
        self.at_ns.store(now.max(1), Release);
    }

    /// Returns when the CPU was found to hang, in nanoseconds since boot; nothing if it never was.
    pub fn at_ns(&self) -> Option<u64> {
        Some(self.at_ns.load(Acquire)).filter(|&at| at != 0)
    }

    /// Returns whether the CPU was found to hang.
    pub fn is_there(&self) -> bool {
        self.at_ns().is_some()
    }

    /// Returns for how long its timer had not ticked, in nanoseconds.
    pub fn silent_ns(&self) -> u64 {
        self.silent_ns.load(Relaxed)
    }

    /// Returns the CPU that noticed.
    pub fn by(&self) -> usize {
        self.by.load(Relaxed) as usize
    }

    /// Returns the side that wrote the record.
    pub fn seen(&self) -> Seen {
        match self.seen.load(Relaxed) {
            0 => Seen::ByNmi,
            1 => Seen::FromWithin,
            _ => Seen::FromOutside,
        }
    }

    /// Returns the context that hangs.
    pub fn context(&self) -> LabContext {
        LabContext::of(self.context.load(Relaxed).into())
    }

    /// Returns what it waits for.
    pub fn waits(&self) -> Waits {
        match self.waits.load(Relaxed) {
            WAITS_NOT => Waits::No,
            WAITS_FOR_ITSELF => Waits::ForWhatItInterrupted,
            WAITS_FOR_NOBODY => Waits::ForRebuild { on: None },
            other => Waits::ForRebuild {
                on: Some((other - ON_CPU) as usize),
            },
        }
    }

    /// Returns the registers that are known, by name.
    pub fn registers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let known = self.known.load(Relaxed);
        REGISTERS
            .into_iter()
            .zip(self.registers.iter().map(|kept| kept.load(Relaxed)))
            .enumerate()
            .filter_map(move |(number, register)| (known >> number & 1 == 1).then_some(register))
    }

    /// Returns where the CPU was: the instruction, then the calls that led there.
    pub fn places(&self) -> impl Iterator<Item = u64> {
        self.at
            .iter()
            .map(|address| address.load(Relaxed))
            .take_while(|&address| address != 0)
            .enumerate()
            // A return address lies after its call, which may be the function's last instruction.
            .map(|(number, address)| if number > 0 { address - 1 } else { address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    #[test]
    fn what_was_written_is_read_again() {
        let found = Found::new();
        assert!(!found.is_there());
        found.write_from_outside(0x10, 0x20, 0, 0x46);
        for (number, context) in [LabContext::Task, LabContext::Interrupt, LabContext::Nmi]
            .into_iter()
            .enumerate()
        {
            for waits in [
                Waits::No,
                Waits::ForWhatItInterrupted,
                Waits::ForRebuild { on: None },
                Waits::ForRebuild { on: Some(0) },
                Waits::ForRebuild { on: Some(63) },
            ] {
                let seen = [Seen::ByNmi, Seen::FromWithin, Seen::FromOutside][number];
                found.finish(7, 5, number, seen, context, waits);
                assert_eq!(
                    (found.seen(), found.context(), found.waits()),
                    (seen, context, waits)
                );
                assert_eq!(
                    (found.at_ns(), found.silent_ns(), found.by()),
                    (Some(7), 5, number)
                );
            }
        }
        let registers: Vec<_> = found.registers().collect();
        let expected = [("rip", 0x10), ("rsp", 0x20), ("rbp", 0), ("rflags", 0x46)];
        assert_eq!(registers, expected);
        assert_eq!(found.places().collect::<Vec<_>>(), [0x10]);
    }
}
