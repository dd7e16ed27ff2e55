//! The reports to the log and to the host about a CPU that hangs.

use super::{Found, Seen, Waits};
use crate::arch::time;
use crate::console::{self, Level, printk};
use crate::panic;
use crate::{link, warn};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering::*};
use tidemark_wire::{LabContext, Text};

/// Number of registers in a line.
const A_LINE: usize = 6;
/// How long a CPU waits for its turn to report.
const TURN_NS: u64 = 1_000_000_000;

/// Whether a CPU reports at this moment.
static TELLING: AtomicBool = AtomicBool::new(false);

/// The function that a hung CPU was in, without most of its path. It is the innermost one that is
/// not the watchdog's, the laboratory's or the machine's own.
pub struct Function<'f>(pub &'f Found);

impl Function<'_> {
    fn is_of_the_machine(name: &str) -> bool {
        let inner = [
            "watchdog::turn",
            "watchdog::found",
            "::lab::",
            "::arch::",
            "platform::",
            "core::",
        ];
        name.is_empty() || inner.iter().any(|part| name.contains(part))
    }
}

impl fmt::Display for Function<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for address in self.0.places() {
            let mut name = Text::<200>::new();
            panic::write_function(&mut name, address)?;
            let name = name.as_str();
            if Self::is_of_the_machine(name) {
                continue;
            }
            let mut parts = name.rsplit("::");
            let function = parts.next().unwrap_or(name);
            // The name of a free function says little without that of its module.
            let is_module = |part: &&str| part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            return match parts.next().filter(is_module) {
                Some(module) => write!(f, "{module}::{function}"),
                None => f.write_str(function),
            };
        }
        f.write_str("an unknown function")
    }
}

/// Returns the address that [`Function`] names; the instruction if it names none.
pub(super) fn place(found: &Found) -> u64 {
    let is_named = |&address: &u64| {
        let mut name = Text::<200>::new();
        panic::write_function(&mut name, address).is_ok()
            && !Function::is_of_the_machine(name.as_str())
    };
    let instruction = found.places().next().unwrap_or(0);
    found.places().find(is_named).unwrap_or(instruction)
}

/// The activity of the CPU, in words.
struct Doing<'f>(&'f Found);

impl fmt::Display for Doing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = match self.0.context() {
            LabContext::Task => "a task",
            LabContext::Interrupt => "an interrupt handler",
            LabContext::Nmi => "an NMI handler",
        };
        match self.0.waits() {
            Waits::No => write!(f, "in {context}"),
            Waits::ForWhatItInterrupted => {
                write!(f, "{context} waits for the rebuild that it has interrupted")
            }
            Waits::ForRebuild { on: Some(cpu) } => {
                write!(f, "{context} waits for the rebuild on cpu{cpu}")
            }
            Waits::ForRebuild { on: None } => write!(f, "{context} waits for a rebuild"),
        }
    }
}

/// The registers and callers, in lines.
pub struct Details<'f>(pub &'f Found);

impl fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.seen() {
            Seen::ByNmi => {}
            Seen::FromWithin => writeln!(
                f,
                "as it says itself, for no NMI interrupts an NMI's handler:"
            )?,
            Seen::FromOutside => writeln!(
                f,
                "no NMI interrupts an NMI's handler; that one interrupted:"
            )?,
        }
        for (number, (name, value)) in self.0.registers().enumerate() {
            let before = match number {
                0 => "",
                _ if number.is_multiple_of(A_LINE) => "\n",
                _ => "  ",
            };
            write!(f, "{before}{name} {value:x}")?;
        }
        writeln!(f)?;
        for (number, address) in self.0.places().enumerate() {
            writeln!(f, "  {number}: {}", panic::Named(address))?;
        }
        Ok(())
    }
}

/// Logs that a CPU hangs and where, even if another CPU owns the port. It is called in an NMI of
/// that CPU, or on its neighbour.
///
/// A reader that waits for what it has interrupted will wait for ever, so the host is told as well.
pub(super) fn tell(cpu: usize, found: &Found) {
    // CPUs report one after the other, but do not wait long for one that does not come to its end.
    time::spin_until(TURN_NS, || !TELLING.swap(true, Acquire));
    warn!(
        "hang: cpu{cpu} took no timer interrupt for {} ms (cpu{} noticed): {}, at {}",
        found.silent_ns() / 1_000_000,
        found.by(),
        Doing(found),
        Function(found),
    );
    // CPUs that wait for the rebuild of another one have little to add.
    let level = match found.waits() {
        Waits::ForRebuild { on: Some(_) } => Level::Debug,
        _ => Level::Info,
    };
    printk(level, format_args!("{}", Details(found)));
    console::write_out_from_hang();
    TELLING.store(false, Release);
    if found.waits() == Waits::ForWhatItInterrupted {
        link::send_stuck_reader(cpu as u16, found.context(), place(found));
    }
}
