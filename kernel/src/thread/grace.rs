//! Waits until every CPU has been outside its pinned sections once.
//!
//! Each online CPU is interrupted, idle ones included. An interrupt does not run inside another
//! handler or an NMI, so when it runs, those are over. If the interrupted code holds a pin, its
//! unpin acknowledges. Pinned sections neither sleep nor are preempted.

use super::sleep_ns;
use crate::arch::{
    context::{HardIrq, Task},
    cpu_id, ipi, percpu, preempt,
};
use tidemark_sync::grace::Grace;

static GRACE: Grace = Grace::new();

/// Pause between two looks.
const LOOK_EVERY_NS: u64 = 20_000;

/// Begins a grace period. It asks every online CPU to acknowledge when it is outside its pinned
/// sections, interrupt handlers and NMI handlers. It waits only until all are asked. Only task
/// context may call it, with interrupts on and no spinlock or pin held. The caller makes sure that
/// there is one grace period at a time.
pub fn begin(task: &Task) {
    let cpus = percpu::online_mask();
    GRACE.begin(cpus);
    ipi::call_on(cpus, ipi::CallKind::Call, ask, 0, task);
}

/// Returns whether the grace period that was begun last has ended. Any context may call it.
pub fn is_over() -> bool {
    GRACE.is_over(percpu::online_mask())
}

/// Waits for the end of the grace period that was begun last. It does not wait for CPUs that are
/// not online or stop meanwhile. The context is that of [`begin`].
///
/// # Panics
///
/// Panics if the caller holds a pin.
pub fn wait(task: &Task) {
    assert_eq!(preempt::pin_depth(), 0, "a reader waits for itself");
    while !is_over() {
        sleep_ns(task, LOOK_EVERY_NS);
    }
}

/// Registers the function that acknowledges in an unpin.
pub(super) fn set_hooks() {
    preempt::set_unpinned_hook(acknowledge);
}

/// Acknowledges, or makes the interrupted code's unpin do so. Runs in the interrupt.
fn ask(_: &HardIrq, _: usize) {
    if preempt::pin_depth() == 0 {
        acknowledge();
    } else {
        preempt::want_unpinned();
    }
}

/// Acknowledges for the running CPU, which holds no pin. The caller is not switched away meanwhile.
fn acknowledge() {
    GRACE.acknowledge(cpu_id().0);
}
