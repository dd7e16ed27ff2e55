//! Memory hot-plug. The host asks for a DIMM, and the kernel empties it and lets it go; or a DIMM
//! arrives.
//!
//! The interrupt handler only acknowledges, and wakes the hot-plug thread, which does the work.

mod board;
mod dimm;
pub mod gpe;
pub mod policy;
pub mod ports;
pub mod slot;
mod tell;
mod worker;

pub use board::{Obstacle, SlotPhase, SlotView, migrated_frames, phase, view, wait};
pub use slot::MAX_SLOTS;

use crate::arch::acpi::Fadt;
use crate::arch::irq;
use crate::console::Level;
use crate::mm::report;
use crate::thread::{self, Event, Placement, Priority, ThreadId};
use crate::warn;
use core::sync::atomic::Ordering;
use ports::PortBlock;
use slot::Slots;
use tidemark_sync::{HardIrq, Hook, Task, hook};
use worker::{DEADLINE_NS, Worker};

/// A function that is called in the context of the SCI.
pub type SciHook = fn(&HardIrq);

/// The SCI handler signals this event; the hot-plug thread takes it.
static ANNOUNCED: Event = Event::new();
static SCI_HOOK: Hook<SciHook> = hook!(fn(&HardIrq));
static THREAD: spin::Once<ThreadId> = spin::Once::new();
/// The event that the DIMMs present at boot have been brought online.
static PROBED_EVENT: Event = Event::new();

/// Sets, or removes, the function that each system control interrupt calls after it was
/// acknowledged.
pub fn set_sci_hook(hook: Option<SciHook>) {
    match hook {
        Some(hook) => SCI_HOOK.set(hook),
        None => SCI_HOOK.clear(),
    }
}

/// Sets how long a removal may take from now on, in nanoseconds.
pub fn set_deadline_ns(ns: u64) {
    DEADLINE_NS.store(ns, Ordering::Relaxed);
}

/// Starts the thread, which brings online the DIMMs that are there at boot. Then it prints the
/// machine's zones and zonelists, and sets up the interrupt. The thread runs at `placement`. Boot
/// calls this once, after `mm::start`.
///
/// # Panics
///
/// Panics if the thread cannot be created.
pub fn init(fadt: &Fadt, placement: Placement, task: &Task) {
    let thread = thread::spawn("hotplug", placement, Priority::High, run, 0)
        .expect("a slot for the hot-plug thread");
    THREAD.call_once(|| thread);
    PROBED_EVENT.wait_forever(task);
    report::overview(Level::Info);
    let sci = u8::try_from(fadt.sci_gsi).unwrap_or(u8::MAX);
    if let Err(error) = irq::request_isa(sci, on_sci) {
        warn!("no system control interrupt {sci}, so no hot-plug: {error:?}");
        return;
    }
    let ports = gpe::Ports {
        smi_cmd: fadt.smi_command,
        acpi_enable: fadt.acpi_enable,
        pm1a_cnt: fadt.pm1a_control,
        gpe0: fadt.gpe0,
        gpe0_len: fadt.gpe0_len,
    };
    // SAFETY: the ports are the FADT's, and no other code in the kernel uses them.
    if !unsafe { gpe::enable(&ports) } {
        warn!("the machine does not enter ACPI mode, so no hot-plug");
    }
}

/// Returns the hot-plug thread; nothing before [`init`].
#[cfg(feature = "lab")]
pub fn thread() -> Option<ThreadId> {
    THREAD.get().copied()
}

/// Handles the system control interrupt: it only acknowledges, and wakes the thread.
fn on_sci(irq: &HardIrq) {
    if gpe::acknowledge() {
        ANNOUNCED.signal(irq);
    }
    if let Some(hook) = SCI_HOOK.get() {
        hook(irq);
    }
}

fn run(task: &Task, _: usize) {
    // SAFETY: the machine is QEMU's, and only this thread uses the block.
    let mut worker = Worker::new(Slots::new(unsafe { PortBlock::new() }));
    worker.probe(task);
    PROBED_EVENT.signal(task);
    loop {
        // An event between the probe and the enabling of the interrupt stays in the status
        // register. It raises the line when the interrupt is enabled.
        ANNOUNCED.wait_forever(task);
        worker.serve(task);
    }
}
