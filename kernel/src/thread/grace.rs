//! Waiting until every CPU has been outside its pinned sections once.
//!
//! Each online CPU is interrupted, idle ones, too. An interrupt does not run inside another
//! handler or an NMI, so its running proves those over; if what it interrupted holds a pin, the
//! unpin acknowledges. Pinned sections neither sleep nor are preempted.

use super::{Mutex, sleep_ns};
use crate::arch::{
    context::{HardIrq, Task},
    cpu_id, ipi, irqs, percpu,
};
use tidemark_sync::grace::Grace;

static GRACE: Grace = Grace::new();
/// One grace period at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Between two looks, once the interrupts have run.
const LOOK_EVERY_NS: u64 = 20_000;

/// Waits until every online CPU has been outside its pinned sections, its interrupt handlers and
/// its NMI handlers at least once. Task context, interrupts on, no spinlock and no pin held. CPUs
/// that are not online, or stop meanwhile, are not waited for.
pub fn synchronize(task: &Task) {
    assert_eq!(irqs::pin_depth(), 0, "a reader waits for itself");
    let _turn = TURN.lock(task);
    let cpus = percpu::online_mask();
    GRACE.begin(cpus);
    ipi::call_on(cpus, ipi::CallKind::Call, ask, 0, task);
    while !GRACE.is_over(percpu::online_mask()) {
        sleep_ns(task, LOOK_EVERY_NS);
    }
}

/// Registers what an unpin that was asked to acknowledge does.
pub(super) fn set_hooks() {
    irqs::set_unpinned_hook(acknowledge);
}

/// The interrupt: acknowledges, or makes the interrupted code's unpin do so.
fn ask(_: &HardIrq, _: usize) {
    if irqs::pin_depth() == 0 {
        acknowledge();
    } else {
        irqs::want_unpinned();
    }
}

/// On a CPU that holds no pin and is not switched away meanwhile.
fn acknowledge() {
    GRACE.acknowledge(cpu_id().0);
}
