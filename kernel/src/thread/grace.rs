//! Waiting until every CPU has been outside its pinned sections once.
//!
//! Each online CPU is interrupted, idle ones, too. An interrupt does not run inside another
//! handler or an NMI, so its running proves those over; if what it interrupted holds a pin, the
//! unpin acknowledges. Pinned sections neither sleep nor are preempted.

use super::sleep_ns;
use crate::arch::{
    context::{HardIrq, Task},
    cpu_id, ipi, percpu, preempt,
};
use tidemark_sync::grace::Grace;

static GRACE: Grace = Grace::new();

/// Between two looks.
const LOOK_EVERY_NS: u64 = 20_000;

/// Begins a grace period: asks every online CPU to say when it is outside its pinned sections,
/// interrupt handlers and NMI handlers. Waits for the asking only. Task context, interrupts on, no
/// spinlock and no pin held; the caller sees to it that there is one at a time.
pub fn begin(task: &Task) {
    let cpus = percpu::online_mask();
    GRACE.begin(cpus);
    ipi::call_on(cpus, ipi::CallKind::Call, ask, 0, task);
}

/// Whether the grace period that was begun last has ended. Any context.
pub fn is_over() -> bool {
    GRACE.is_over(percpu::online_mask())
}

/// Waits for the end of the grace period that was begun last. CPUs that are not online, or stop
/// meanwhile, are not waited for. Context as [`begin`].
pub fn wait(task: &Task) {
    assert_eq!(preempt::pin_depth(), 0, "a reader waits for itself");
    while !is_over() {
        sleep_ns(task, LOOK_EVERY_NS);
    }
}

/// Registers what an unpin that was asked to acknowledge does.
pub(super) fn set_hooks() {
    preempt::set_unpinned_hook(acknowledge);
}

/// The interrupt: acknowledges, or makes the interrupted code's unpin do so.
fn ask(_: &HardIrq, _: usize) {
    if preempt::pin_depth() == 0 {
        acknowledge();
    } else {
        preempt::want_unpinned();
    }
}

/// On a CPU that holds no pin and is not switched away meanwhile.
fn acknowledge() {
    GRACE.acknowledge(cpu_id().0);
}
