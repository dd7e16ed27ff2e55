//! Messages between CPUs: calls that are waited for, work bits that are not, reschedule, stop.

use super::context::{HardIrq, Nmi, Task};
use super::irq::IrqError;
use super::percpu::CpuId;

/// Which of the call vectors carries a call; they differ in what the counters say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// A function call.
    Call,
    /// A drain of per-CPU caches.
    Drain,
    /// A TLB shootdown.
    Tlb,
}

/// Runs `f(arg)` in a hard interrupt on each online CPU of `mask` (the own one included, if
/// named) and waits until all have done so. CPUs that are not online or stop meanwhile are not
/// waited for. Starts with interrupts on and no spinlock held.
pub fn call_on(mask: u64, kind: CallKind, f: fn(&HardIrq, usize), arg: usize, task: &Task) {
    let _ = (mask, kind, f, arg, task);
    todo!()
}

/// As [`call_on`] for every online CPU but the running one (the caller is pinned for that long).
pub fn call_on_others(f: fn(&HardIrq, usize), arg: usize, task: &Task) {
    let _ = (f, arg, task);
    todo!()
}

/// A kind of work that can be asked for by a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkId(u8);

/// Adds a kind of work (up to 32): what a CPU runs when the bit was raised on it. Raising it again
/// before it ran makes one run.
pub fn register_work(f: fn(&HardIrq)) -> Result<WorkId, IrqError> {
    let _ = f;
    todo!()
}

/// Asks every online CPU of `mask` to run `work`; does not wait. Any context but NMI.
pub fn raise(mask: u64, work: WorkId) {
    let _ = (mask, work);
    todo!()
}

/// Asks the running CPU to run `work` once the NMI is over.
pub fn raise_from_nmi(nmi: &Nmi, work: WorkId) {
    let _ = (nmi, work);
    todo!()
}

/// Makes `cpu` look at its run queue (its `need_resched` is set by the handler). Any context but NMI.
pub fn reschedule(cpu: CpuId) {
    let _ = cpu;
    todo!()
}

/// Stops every other CPU for good, by interrupt and then by NMI, and returns the mask of those
/// that did not answer in time. For the dying routine: any context, takes no lock.
pub fn stop_others() -> u64 {
    todo!()
}
