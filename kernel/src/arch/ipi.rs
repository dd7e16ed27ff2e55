//! Messages between CPUs: calls that the sender waits for, work bits that it does not wait for,
//! reschedule and stop.

use super::context::{HardIrq, Nmi, Task};
use super::entry::TrapFrame;
use super::irq::{Handler, IrqError};
use super::percpu::{self, CpuId, PerCpu};
use super::{apic, nmi, port, time, vectors};
use super::{interrupts, preempt};
use core::ptr;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use tidemark_sync::{Hooks, hook};

/// The kind of a call. Each has a vector of its own, so that the counters tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// A function call of any other kind.
    Call,
    /// A drain of per-CPU caches.
    Drain,
    /// A TLB shootdown.
    Tlb,
}

impl CallKind {
    fn vector(self) -> u8 {
        match self {
            Self::Call => vectors::CALL,
            Self::Drain => vectors::DRAIN,
            Self::Tlb => vectors::TLB,
        }
    }
}

/// The function that runs on the other CPU.
pub type CallFn = fn(&HardIrq, usize);

/// A call under way. It lives on the caller's stack until every CPU is done with it.
struct Call {
    function: CallFn,
    arg: usize,
    /// The CPU that waits for the end of the call.
    from: CpuId,
    /// The CPUs that have not finished, as bits. The last access of a CPU to the call clears its
    /// own bit.
    waiting: AtomicU64,
}

/// Runs `f(arg)` in a hard interrupt on each online CPU of `mask`, the running one included if it
/// is named, and waits until all have done so. It does not wait for CPUs that are not online or
/// stop meanwhile. It starts with interrupts on and no spinlock held: while it waits, it serves the
/// calls of others.
///
/// # Panics
///
/// Panics if interrupts are off.
pub fn call_on(mask: u64, kind: CallKind, f: CallFn, arg: usize, task: &Task) {
    let _ = task;
    // This also catches a held spinlock, which turns interrupts off.
    assert!(
        interrupts::interrupts_enabled(),
        "a call to other CPUs with interrupts off"
    );
    let _pin = preempt::pin();
    let mask = mask & percpu::online_mask();
    let call = Call {
        function: f,
        arg,
        from: percpu::cpu_id(),
        waiting: AtomicU64::new(mask),
    };
    for cpu in percpu::cpus_in(mask) {
        post(percpu::of(cpu), &call, kind.vector());
    }
    let mut spins = 0;
    while call.is_under_way() {
        spins += 1;
        if spins < SPINS {
            core::hint::spin_loop();
        } else {
            doze(&call);
        }
    }
}

impl Call {
    fn is_under_way(&self) -> bool {
        // SeqCst pairs with `handle_calls`. What the calls did is visible once this is false.
        self.waiting.load(SeqCst) & percpu::online_mask() != 0
    }
}

/// How often a waiting caller looks before it halts. Where CPUs outnumber the host's cores, a
/// spinning CPU keeps the awaited CPU from running.
const SPINS: u32 = 200;

/// Halts until an interrupt comes: another CPU's request, the end of the call, or the tick.
fn doze(call: &Call) {
    let dozing = &percpu::of(call.from).dozing;
    interrupts::disable();
    // SeqCst orders the store before the load. The last CPU clears its bit before it looks at
    // `dozing`. So either it sees the doze and sends an interrupt, or this CPU sees the bit clear.
    // An interrupt sent before the halt ends the halt.
    dozing.store(true, SeqCst);
    if call.is_under_way() {
        interrupts::enable_and_halt();
    }
    dozing.store(false, Relaxed);
    interrupts::enable();
}

/// Does what [`call_on`] does, for every online CPU but the running one. The caller stays pinned
/// until the end.
///
/// # Panics
///
/// Panics if interrupts are off.
pub fn call_on_others(kind: CallKind, f: CallFn, arg: usize, task: &Task) {
    let _pin = preempt::pin();
    let mask = percpu::online_mask() & !percpu::mask_of(percpu::cpu_id());
    call_on(mask, kind, f, arg, task);
}

fn post(target: &PerCpu, call: &Call, vector: u8) {
    // Any slot will do; starting from the slot of the running CPU keeps callers apart.
    let from = percpu::cpu_id().0;
    let call = ptr::from_ref(call).cast_mut().cast();
    'posted: while target.is_online() {
        for slot in 0..percpu::MAX_CPUS {
            let slot = (from + slot) % percpu::MAX_CPUS;
            // Release pairs with the Acquire swap in `handle_calls`: it publishes the call.
            let posted =
                target.calls[slot].compare_exchange(ptr::null_mut(), call, Release, Relaxed);
            if posted.is_ok() {
                // The bit is set after the slot: a handler that sees the bit finds the call.
                target.calls_posted.fetch_or(1 << slot, Release);
                break 'posted;
            }
        }
        core::hint::spin_loop();
    }
    apic::send(target.apic_id.load(Relaxed), apic::Message::Vector(vector));
}

pub(super) fn handle_calls(token: &HardIrq) {
    let block = percpu::current();
    let own = !percpu::mask_of(block.id());
    // One interrupt may stand for several posts, so all of them run.
    loop {
        let posted = block.calls_posted.swap(0, Acquire);
        if posted == 0 {
            return;
        }
        for slot in percpu::cpus_in(posted) {
            let call: *const Call = block.calls[slot.0]
                .swap(ptr::null_mut(), Acquire)
                .cast_const()
                .cast();
            // SAFETY: the caller waits for this CPU's bit, which is still set.
            let Some(call) = (unsafe { call.as_ref() }) else {
                continue;
            };
            (call.function)(token, call.arg);
            let from = percpu::of(call.from);
            // SeqCst pairs with the caller's loads. Once no bit is set, the call may be gone.
            let rest = call.waiting.fetch_and(own, SeqCst) & own;
            if rest == 0 && from.dozing.load(SeqCst) {
                let message = apic::Message::Vector(vectors::WAKE);
                apic::send(from.apic_id.load(Relaxed), message);
            }
        }
    }
}

/// A kind of work that a bit asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkId(u8);

static WORK: Hooks<Handler, 32> = Hooks([const { hook!(fn(&HardIrq)) }; 32]);

/// Adds a kind of work (up to 32): the function that a CPU runs when the bit was raised on it.
/// Raising the bit again before the function ran gives one run.
///
/// # Errors
///
/// Returns [`IrqError::Full`] if there are 32 kinds already.
pub fn register_work(f: Handler) -> Result<WorkId, IrqError> {
    let id = WORK.add(f).ok_or(IrqError::Full)?;
    Ok(WorkId(id as u8))
}

/// Asks every online CPU of `mask` to run `work`, the running one included if it is named, and does
/// not wait. Any context but NMI may call it.
pub fn raise(mask: u64, work: WorkId) {
    let bit = 1 << work.0;
    for cpu in percpu::cpus_in(mask & percpu::online_mask()) {
        let block = percpu::of(cpu);
        // The CPU that sets the bit sends the interrupt, and is not switched away in between,
        // because others rely on it.
        interrupts::without_interrupts(|| {
            // Release pairs with the Acquire in `handle_work`.
            if block.work.fetch_or(bit, Release) & bit == 0 {
                let message = apic::Message::Vector(vectors::WORK);
                apic::send(block.apic_id.load(Relaxed), message);
            }
        });
    }
}

/// Asks the running CPU to run `work` once the NMI is over.
pub fn raise_from_nmi(_nmi: &Nmi, work: WorkId) {
    raise_self(work);
}

/// Asks the running CPU to run `work` as soon as it takes interrupts. Any context may call it, NMI
/// included.
pub fn raise_self(work: WorkId) {
    // Unlike `raise`, this sends even if the bit was set already. The CPU may have been interrupted
    // after it set the bit and before it sent, and the interrupt is wanted when this NMI ends.
    percpu::current().work.fetch_or(1 << work.0, Release);
    apic::send_self(vectors::WORK);
}

/// Returns whether the running CPU's APIC has the work interrupt requested and not delivered. Any
/// context may call it.
#[cfg(feature = "lab")]
pub fn is_work_requested() -> bool {
    apic::is_requested(vectors::WORK)
}

pub(super) fn handle_work(token: &HardIrq) {
    let mut work = percpu::current().work.swap(0, Acquire);
    while work != 0 {
        let id = work.trailing_zeros() as usize;
        work &= work - 1;
        if let Some(f) = WORK.0[id].get() {
            f(token);
        }
    }
}

/// Makes `cpu` look at its run queue, by setting its need_resched there. Any context but NMI may
/// call it.
pub fn reschedule(cpu: CpuId) {
    if let Some(block) = percpu::get(cpu) {
        let message = apic::Message::Vector(vectors::RESCHEDULE);
        apic::send(block.apic_id.load(Relaxed), message);
    }
}

/// The CPUs that have to stop, as bits. NMI handlers look at them as well, in case interrupts are
/// off.
static STOP: AtomicU64 = AtomicU64::new(0);
/// The number of the CPU that stops the others, plus 1; 0 before.
static STOPPER: AtomicUsize = AtomicUsize::new(0);

/// How long a CPU may take to stop, after the interrupt and again after the NMI.
const STOP_NS: u64 = 100_000_000;

/// Stops every other CPU for good, by interrupt and then by NMI, and returns the mask of those that
/// did not answer in time. It takes no lock. The dying routine calls it, in any context. Of two
/// CPUs that die at once, the later one stops here for good.
pub fn stop_others() -> u64 {
    interrupts::disable();
    let own = percpu::cpu_id();
    // Relaxed suffices: only the order of the two exchanges matters.
    let first = STOPPER.compare_exchange(0, own.0 + 1, Relaxed, Relaxed);
    if first.is_err_and(|stopper| stopper != own.0 + 1) {
        percpu::set_offline(own);
        port::halt_forever();
    }
    let others = percpu::online_mask() & !percpu::mask_of(own);
    STOP.store(others, Release);
    let stopped = || percpu::online_mask() & others == 0;
    for cpu in percpu::cpus_in(others) {
        let message = apic::Message::Vector(vectors::STOP);
        apic::send(percpu::of(cpu).apic_id.load(Relaxed), message);
    }
    if !time::spin_until(STOP_NS, stopped) {
        percpu::cpus_in(others & percpu::online_mask()).for_each(nmi::send);
        time::spin_until(STOP_NS, stopped);
    }
    percpu::online_mask() & others
}

/// Stops the running CPU for good.
pub(super) fn stop_here(frame: &TrapFrame) -> ! {
    let block = percpu::current();
    for (slot, value) in block
        .stopped_at
        .iter()
        .zip([frame.rip, frame.rbp, frame.rsp])
    {
        slot.store(value, Relaxed);
    }
    percpu::set_offline(block.id());
    port::halt_forever()
}

/// Stops the running CPU if that was asked for. The NMI handler calls it.
pub(super) fn stop_if_asked(frame: &TrapFrame) {
    if STOP.load(Acquire) & percpu::mask_of(percpu::cpu_id()) != 0 {
        stop_here(frame);
    }
}

/// Returns where a stopped CPU was interrupted: rip, rbp and rsp.
pub fn stopped_at(cpu: CpuId) -> Option<[u64; 3]> {
    let block = percpu::get(cpu).filter(|block| !block.is_online())?;
    let at = [0, 1, 2].map(|slot: usize| block.stopped_at[slot].load(Relaxed));
    (at[0] != 0).then_some(at)
}
