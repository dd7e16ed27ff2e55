//! The one routine that ends the machine after a fault. It is safe against faults of its own, and
//! against other CPUs that die at the same time.
//!
//! The first CPU that comes here stops the others and takes the console's port away from its owner.
//! It writes out what the rings hold and then its report, tells the host on the second port, and
//! ends the machine. A second CPU stops. If the same CPU dies while it reports, it prints one line
//! and ends the machine at once.

mod backtrace;
mod registers;
mod symbols;

use crate::arch::entry::TrapFrame;
use crate::arch::exceptions::{self, ExceptionInfo};
use crate::arch::{self, ipi, percpu, port, vectors};
use crate::console;
use crate::{link, thread};
use backtrace::{End, Stacks};
use core::fmt::{self, Write};
use core::ops::Range;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use registers::Registers;
use symbols::{Image, Place};
use tidemark_wire::exit_value;

/// The value of [`DYING`] while no CPU dies.
const NOBODY: usize = usize::MAX;

/// The CPU that dies, or [`NOBODY`]. The first CPU that dies writes it, once.
static DYING: AtomicUsize = AtomicUsize::new(NOBODY);
static IMAGE: spin::Once<Image> = spin::Once::new();
static ZONES: spin::Once<ZonesHook> = spin::Once::new();

/// Writes the zones' state into a crash report. It takes no lock and follows no unchecked pointer.
pub type ZonesHook = fn(&mut dyn Write) -> fmt::Result;

/// Registers with the exceptions and the NMI, and remembers the kernel's ELF file, so that
/// backtraces have names. `load_offset` is the amount that was added to the file's addresses.
pub fn init(file: &'static [u8], load_offset: u64) {
    IMAGE.call_once(|| Image::new(file, load_offset));
    exceptions::set_die_hook(on_exception);
}

/// Sets, once, the function that writes the zones' state into a crash report.
pub fn set_zones_hook(hook: ZonesHook) {
    ZONES.call_once(|| hook);
}

/// Handles a panic; the panic handler calls it.
pub fn on_panic(info: &PanicInfo<'_>) -> ! {
    let message = info.message();
    match info.location() {
        Some(at) => die(
            format_args!("{message}, at {}:{}", at.file(), at.line()),
            None,
        ),
        None => die(format_args!("{message}"), None),
    }
}

fn on_exception(frame: &TrapFrame, info: ExceptionInfo) -> ! {
    let name = vectors::name(info.vector);
    let nested = if info.depth > 1 {
        " within an exception"
    } else {
        ""
    };
    match info.address {
        Some(address) => die(
            format_args!(
                "{name}{nested} at address {address:#x}, error {:#x}",
                info.error
            ),
            Some(frame),
        ),
        None => die(
            format_args!("{name}{nested}, error {:#x}", info.error),
            Some(frame),
        ),
    }
}

/// Ends the machine with a report: the reason, registers if there are any, a backtrace and the
/// zones. The exit code is `CRASHED`. Any context may call it.
pub fn die(reason: fmt::Arguments<'_>, frame: Option<&TrapFrame>) -> ! {
    arch::interrupts::disable();
    let me = arch::cpu_id().0;
    match DYING.compare_exchange(NOBODY, me, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {}
        Err(first) if first == me => die_of_the_report(reason),
        // The first CPU stops this one as well; halting here only saves it the wait.
        Err(_) => port::halt_forever(),
    }
    let others = percpu::online_mask() & !percpu::mask_of(arch::cpu_id());
    ipi::stop_others();
    let mut out = Report {
        port: console::drain_after_stop(),
        at_line_start: true,
    };
    // The report's writer never fails.
    let _ = write_report(&mut out, reason, frame, others);
    let rip = frame.map_or_else(|| panicking_place(own_frame_pointer()), |frame| frame.rip);
    link::send_crash(me as u16, rip);
    port::exit(exit_value::CRASHED)
}

fn write_report(
    out: &mut Report,
    reason: fmt::Arguments<'_>,
    frame: Option<&TrapFrame>,
    others: u64,
) -> fmt::Result {
    writeln!(out, "panic: {reason}")?;
    let start = match frame {
        Some(frame) => {
            writeln!(out, "at {}", Named(frame.rip))?;
            write!(out, "{}", Registers(frame))?;
            frame.rbp
        }
        None => own_frame_pointer(),
    };
    write_backtrace(out, start)?;
    for cpu in percpu::cpus_in(others) {
        match ipi::stopped_at(cpu) {
            Some([rip, ..]) => writeln!(out, "cpu{} was at {}", cpu.0, Named(rip))?,
            None => writeln!(out, "cpu{} did not stop", cpu.0)?,
        }
    }
    if let Some(zones) = ZONES.get() {
        zones(out)?;
    }
    Ok(())
}

/// Ends a CPU that died while it reported its own death: it prints one line, and walks no stack and
/// takes no lock.
fn die_of_the_report(reason: fmt::Arguments<'_>) -> ! {
    static DEPTH: AtomicU32 = AtomicU32::new(0);
    if DEPTH.fetch_add(1, Ordering::Relaxed) == 0 {
        let mut out = Report {
            // SAFETY: the other CPUs were stopped before the report began. What this CPU was
            // sending does not go on.
            port: unsafe { console::port::broken_open() },
            at_line_start: true,
        };
        let _ = writeln!(out, "\npanic: died while reporting: {reason}");
    }
    port::exit(exit_value::CRASHED)
}

/// A writer of lines straight to the port, each with the time and the CPU before it.
struct Report {
    port: console::port::Serial,
    at_line_start: bool,
}

impl Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            if self.at_line_start {
                self.port.send(console::prefix().as_bytes());
            }
            self.port.send(line.as_bytes());
            self.at_line_start = line.ends_with('\n');
        }
        Ok(())
    }
}

/// The function that an address lies in, if the image names it.
fn place_of(address: u64) -> Option<Place<'static>> {
    IMAGE.get()?.place_of(address)
}

/// An address with the function that it lies in, if that is known.
pub(crate) struct Named(pub u64);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match place_of(self.0) {
            Some(place) => write!(f, "{place} ({:#x})", self.0),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

/// Writes the return addresses from a frame pointer on.
fn write_backtrace(out: &mut dyn Write, frame_pointer: u64) -> fmt::Result {
    writeln!(out, "backtrace:")?;
    let mut number = 0;
    let mut result = Ok(());
    let end = backtrace::walk(&KernelStacks, frame_pointer, |address| {
        // The address before the return address belongs to the call, which may be the function's
        // last instruction.
        let call = address - 1;
        if number == 0 && is_panic_machinery(call) {
            return;
        }
        result = result.and(writeln!(out, "  {number}: {}", Named(call)));
        number += 1;
    });
    result?;
    match end {
        End::First => Ok(()),
        End::Unknown(pointer) => {
            writeln!(out, "  (frame pointer {pointer:#x} is in no known stack)")
        }
        End::Limit => writeln!(out, "  …"),
    }
}

/// Calls `f` with the mangled name of each function that led here, innermost first; None where the
/// image has no name.
#[inline(never)]
pub(crate) fn for_each_caller(mut f: impl FnMut(Option<&str>)) {
    backtrace::walk(&KernelStacks, own_frame_pointer(), |address| {
        f(place_of(address - 1).map(|place| place.symbol));
    });
}

/// Calls `f` with each return address from a frame pointer on, innermost first. Any context may
/// call it, an NMI included.
pub(crate) fn for_each_return(frame_pointer: u64, f: impl FnMut(u64)) {
    backtrace::walk(&KernelStacks, frame_pointer, f);
}

/// Writes the name of the function that an address lies in; nothing if the image has none.
pub(crate) fn write_function(out: &mut dyn Write, address: u64) -> fmt::Result {
    match place_of(address) {
        Some(place) => write!(out, "{:#}", rustc_demangle::demangle(place.symbol)),
        None => Ok(()),
    }
}

/// Returns the first address, from a frame pointer on, that does not belong to the machinery of
/// panics itself; 0 if there is none.
fn panicking_place(frame_pointer: u64) -> u64 {
    let mut found = 0;
    backtrace::walk(&KernelStacks, frame_pointer, |address| {
        if found == 0 && !is_panic_machinery(address - 1) {
            found = address - 1;
        }
    });
    found
}

/// Returns whether an address lies in code that only carries a panic from its origin to the report.
fn is_panic_machinery(address: u64) -> bool {
    place_of(address).is_some_and(|place| place.is_panic_machinery())
}

/// The stacks that threads and the processor use.
struct KernelStacks;

impl Stacks for KernelStacks {
    fn bounds_of(&self, address: u64) -> Option<Range<u64>> {
        thread::stack_bounds_of(address)
    }

    fn word_at(&self, address: u64) -> u64 {
        // SAFETY: aligned, and within the bounds of a stack that stays mapped.
        unsafe { core::ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() }
    }
}

/// Returns the caller's frame pointer.
#[inline(always)]
fn own_frame_pointer() -> u64 {
    let pointer: u64;
    // SAFETY: this only reads a register.
    unsafe {
        core::arch::asm!("mov {}, rbp", out(reg) pointer, options(nomem, nostack, preserves_flags))
    };
    pointer
}
