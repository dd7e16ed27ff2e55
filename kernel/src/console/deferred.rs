//! Deferred printing: which callers only store their records, and how these get written afterwards.

use super::output;
use crate::arch::context::{HardIrq, Nmi, Task};
use crate::arch::ipi::{self, WorkId};
use crate::arch::{Irqs, percpu};
use crate::thread::{self, Event, Placement, Priority};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tidemark_sync::{LocalIrq as _, Rank};

/// The work that gets records written; unset until interrupts and threads run.
static WORK: spin::Once<WorkId> = spin::Once::new();
/// The event that wakes the console thread.
static RECORDS_WAIT: Event = Event::new();
static THREAD_RUNS: AtomicBool = AtomicBool::new(false);

/// Defers printing on this CPU while it lives. Records are only stored, and are written out after
/// the last such section has ended.
///
/// The caller stays on its CPU meanwhile, with interrupts off or pinned. Any context but NMI may
/// use it; an NMI defers anyway.
#[must_use = "printing is synchronous again as soon as this is dropped"]
#[derive(Debug)]
pub struct Deferred {
    /// Makes the type not `Send`: the count belongs to the CPU that began the section.
    _here: PhantomData<*const ()>,
}

/// Returns the running CPU's count of deferred sections. Only its own CPU writes it, and an
/// interrupt restores what it found, so plain loads and stores are enough.
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

/// Returns whether the caller may only store its records. It may not write in an NMI, in a deferred
/// section, or while it holds the port's lock or one that comes after it.
///
/// An unpinned caller may be asked about a CPU that it has just left: it then stores and asks,
/// which is right anywhere.
pub(crate) fn must_only_store() -> bool {
    percpu::in_nmi()
        || depth().load(Ordering::Relaxed) > 0
        || !Irqs::held().may_take(Rank::SerialPort)
}

/// Returns whether [`ask`] has any effect yet.
pub(super) fn can_be_asked() -> bool {
    WORK.is_completed()
}

/// Asks for stored records to be written out soon. Before [`init`] it does nothing, and the next
/// print writes them. Any context may call it.
pub(super) fn ask() {
    let Some(&work) = WORK.get() else { return };
    if percpu::in_nmi() {
        // SAFETY: this is an NMI, for as long as the call lasts.
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
        // Otherwise the end of the deferred section that this interrupted asks again.
        output::flush(output::Share::Some);
    }
}

fn write_when_asked(task: &Task, _argument: usize) {
    loop {
        RECORDS_WAIT.wait_forever(task);
        output::flush(output::Share::All);
    }
}
