//! Printing later: who only stores, and what gets the records written afterwards.

use super::output;
use crate::arch::context::{HardIrq, Nmi, Task};
use crate::arch::ipi::{self, WorkId};
use crate::arch::{Irqs, percpu};
use crate::thread::{self, Event, Placement, Priority};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tidemark_sync::{LocalIrq as _, Rank};

/// The work that writes records out; unset until interrupts and threads run.
static WORK: spin::Once<WorkId> = spin::Once::new();
/// Wakes the console thread.
static RECORDS_WAIT: Event = Event::new();
static THREAD_RUNS: AtomicBool = AtomicBool::new(false);

/// Defers printing on this CPU while it lives: records are stored, and written out after the last
/// one has ended.
///
/// The caller stays on its CPU meanwhile (interrupts off, or pinned). Any context but NMI, which
/// defers anyway.
#[must_use = "printing is synchronous again as soon as this is dropped"]
#[derive(Debug)]
pub struct Deferred {
    /// Not `Send`: the count belongs to the CPU that began the section.
    _here: PhantomData<*const ()>,
}

/// The running CPU's count of deferred sections. Only its own CPU writes it, an interrupt restores
/// what it found, so plain loads and stores are enough.
fn depth() -> &'static AtomicU64 {
    &percpu::current().console[0]
}

impl Deferred {
    /// Begins a deferred section on this CPU; sections nest.
    pub fn enter() -> Self {
        let depth = depth();
        depth.store(depth.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Deferred { _here: PhantomData }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        let depth = depth();
        let left = depth.load(Ordering::Relaxed) - 1;
        depth.store(left, Ordering::Relaxed);
        if left == 0 && output::anything_stored() {
            ask();
        }
    }
}

/// Whether the caller may only store: in an NMI, deferred, or holding the port's lock or one that
/// comes after it.
///
/// An unpinned caller may be asked about a CPU that it has just left: it then stores and asks,
/// which is right anywhere.
pub(crate) fn must_only_store() -> bool {
    percpu::in_nmi()
        || depth().load(Ordering::Relaxed) > 0
        || !Irqs::held().may_take(Rank::SerialPort)
}

/// Whether [`ask`] has any effect yet.
pub(super) fn can_be_asked() -> bool {
    WORK.is_completed()
}

/// Asks for stored records to be written out soon. Any context; before [`init`] the next print does
/// it.
pub(super) fn ask() {
    let Some(&work) = WORK.get() else { return };
    if percpu::in_nmi() {
        // SAFETY: in an NMI, for as long as this call lasts.
        let nmi = unsafe { Nmi::mint() };
        ipi::raise_from_nmi(&nmi, work);
    } else {
        ipi::raise(percpu::mask_of(percpu::cpu_id()), work);
    }
}

/// Starts the console thread and registers the work that wakes it.
pub(super) fn init(_task: &Task) {
    let spawned = thread::spawn(
        "console",
        Placement::Any,
        Priority::High,
        write_when_asked,
        0,
    );
    THREAD_RUNS.store(spawned.is_ok(), Ordering::Release);
    if let Ok(work) = ipi::register_work(on_work) {
        WORK.call_once(|| work);
    }
}

fn on_work(irq: &HardIrq) {
    if THREAD_RUNS.load(Ordering::Acquire) {
        RECORDS_WAIT.signal(irq);
    } else if !must_only_store() {
        // Else the end of the deferred section that we interrupted asks again.
        output::flush(output::Share::Some);
    }
}

fn write_when_asked(task: &Task, _argument: usize) {
    loop {
        // Without a deadline it cannot time out.
        let _ = RECORDS_WAIT.wait(task, None);
        output::flush(output::Share::All);
    }
}
