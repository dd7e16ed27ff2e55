//! The means of the roles in every scenario: zones at a level, requests, interrupts, a spare.

mod dimm;
mod memory;
mod request;

pub use dimm::{Way, hotplug, hotplug_local, pull_while_kept};
pub use memory::{Level, cache_movable, feed, free_spare, release, squeeze, stop_feeding};
use request::kind;
pub use request::{
    Fate, Kind, fresh_walk_serves, give_back, handlers_make, keep_frames, note_memory, request,
    take_fate,
};

use super::stage::{self, HANDLED};
use crate::arch::context::{HardIrq, Nmi, Task};
use crate::arch::entry::TrapFrame;
use crate::arch::ipi::{self, WorkId};
use crate::arch::{CpuId, cpu_id, nmi, time};
use crate::console;
use crate::thread::{self, Placement, Priority, ThreadId};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use tidemark_frames::{NodeId, Owner, OwnerKind};
use tidemark_wire::{LabPoint, Role};

/// The node whose memory the scenarios squeeze: the one with a DIMM in a MOVABLE zone.
pub const NODE: NodeId = NodeId(1);

/// The node of the reader's CPU.
const LOCAL_NODE: NodeId = NodeId(0);

/// The owner of what the laboratory holds.
const OWNER: Owner = Owner::new(OwnerKind::Test, 7);

/// The difference between the machine and the one that the scenarios need.
pub type Obstacle = &'static str;

static WORK: spin::Once<WorkId> = spin::Once::new();
/// The CPU whose next NMI is the scenario's, plus 1; 0 for none. Its handler clears it.
static NMI_EXPECTED: AtomicU32 = AtomicU32::new(0);
/// Whether a byte that COM1 receives is the scenario's.
static TTY_EXPECTED: AtomicBool = AtomicBool::new(false);

/// Registers the laboratory's handlers of interrupt, NMI and tty. It is called once.
///
/// # Errors
///
/// Returns an obstacle if the kernel has no room for one of them.
pub fn init() -> Result<(), Obstacle> {
    let work = ipi::register_work(on_work).map_err(|_| "no work bit is free")?;
    WORK.call_once(|| work);
    nmi::add_hook(on_nmi).map_err(|_| "no NMI hook is free")?;
    console::set_rx_alloc_hook(on_byte);
    Ok(())
}

/// Raises the laboratory's interrupt on this CPU. Any context may call it.
pub fn raise() {
    if let Some(&work) = WORK.get() {
        ipi::raise_self(work);
    }
}

/// Raises the laboratory's interrupt on this CPU, whose handler makes a request of this kind, and
/// waits until it is over.
pub fn request_in_handler(kind: Kind) {
    handlers_make(kind);
    let before = HANDLED.load(Acquire);
    raise();
    time::spin_until(DEADLINE_NS, || HANDLED.load(Acquire) != before);
}

/// Makes the next NMI on `cpu` the scenario's.
pub fn expect_nmi(cpu: CpuId) {
    NMI_EXPECTED.store(cpu.0 as u32 + 1, Release);
}

fn on_work(irq: &HardIrq) {
    if stage::is_open() {
        stage::in_handler(Role::Reader, || {
            stage::step(LabPoint::IrqTaken, 0);
            request(irq, kind());
            stage::step(LabPoint::IrqOver, 0);
        });
        HANDLED.fetch_add(1, Release);
    }
}

fn on_nmi(nmi: &Nmi, _frame: &TrapFrame) {
    let me = cpu_id().0 as u32 + 1;
    let mine = NMI_EXPECTED.compare_exchange(me, 0, Acquire, Relaxed);
    if stage::is_open() && mine.is_ok() {
        stage::in_handler(Role::Reader, || {
            stage::step(LabPoint::NmiTaken, 0);
            request(nmi, kind());
            stage::step(LabPoint::NmiOver, 0);
        });
        HANDLED.fetch_add(1, Release);
    }
}

/// Begins COM1's receive interrupt as the reader's part, if the scenario waits for a byte. Returns
/// the argument for [`stage::end_handler`].
pub(super) fn begin_tty() -> Option<u8> {
    if !stage::is_open() || !TTY_EXPECTED.load(Acquire) {
        return None;
    }
    let before = stage::begin_handler(Role::Reader);
    stage::step(LabPoint::IrqTaken, 1);
    Some(before)
}

/// Makes the next byte that COM1 receives the scenario's.
pub fn expect_byte() {
    TTY_EXPECTED.store(true, Release);
}

/// Makes the request for a received byte, for which the tty layer allocates a buffer. The port's
/// lock is held.
fn on_byte(irq: &HardIrq, _byte: u8) {
    if stage::is_open() && TTY_EXPECTED.swap(false, AcqRel) {
        request(irq, kind());
        HANDLED.fetch_add(1, Release);
    }
}

/// How long a role may take for its part.
pub const DEADLINE_NS: u64 = 25_000_000_000;

/// Starts a role's thread on a CPU.
///
/// # Errors
///
/// Returns an obstacle if no thread could be made.
pub fn cast(
    name: &str,
    cpu: CpuId,
    part: fn(&Task, usize),
    argument: usize,
) -> Result<ThreadId, Obstacle> {
    let placement = Placement::Cpu(cpu);
    thread::spawn(name, placement, Priority::Normal, part, argument)
        .map_err(|_| "no thread for a role")
}

/// Waits until the threads have ended.
///
/// # Errors
///
/// Returns an obstacle if one has not ended within [`DEADLINE_NS`].
pub fn wait_for(task: &Task, threads: &[ThreadId]) -> Result<(), Obstacle> {
    let deadline = time::now_ns() + DEADLINE_NS;
    while threads.iter().any(|thread| thread.is_alive()) {
        if time::now_ns() >= deadline {
            return Err("a role does not end");
        }
        thread::sleep_ns(task, 1_000_000);
    }
    Ok(())
}
