//! The interrupt handlers that allocate, and the tasks that check and free what they took.

use super::{
    counts::{self, Ending},
    signature,
};
use crate::arch::{
    MAX_CPUS,
    context::{HardIrq, Nmi, Task},
    cpu_id,
    entry::TrapFrame,
    ipi::{self, WorkId},
    irq::IrqError,
    nmi, percpu, time, timer,
};
use crate::mm;
use crate::thread::{self, Ring, quiesce};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use tidemark_frames::{FrameHandle, NodeMask, Order, Owner, OwnerKind, Request, WalkInfo};
use tidemark_sync::Context;
use tidemark_wire::Source;

/// Frames under way to one CPU's checker.
const RING_PLACES: usize = 256;
/// How long a checker sleeps between two looks at its ring.
const CHECK_EVERY_NS: u64 = 1_000_000;

static RINGS: [Ring<u64, RING_PLACES>; MAX_CPUS] = [const { Ring::new() }; MAX_CPUS];
/// Handlers take frames while this is set; written by the demonstration's thread.
static ARMED: AtomicBool = AtomicBool::new(false);
/// Requests that are to fail on purpose.
static FAIL_NEXT: AtomicU32 = AtomicU32::new(0);
static FIRE: spin::Once<WorkId> = spin::Once::new();

/// Hooks the handlers in. Once, before [`arm`].
///
/// # Errors
///
/// [`IrqError`] if a table of handlers is full.
pub fn hook_in() -> Result<(), IrqError> {
    timer::add_hook(|irq| fire(irq, Source::Timer))?;
    let work = ipi::register_work(called)?;
    FIRE.call_once(|| work);
    nmi::add_hook(on_nmi)?;
    crate::console::set_rx_alloc_hook(|irq, _byte| fire(irq, Source::SerialRx));
    crate::hotplug::set_sci_hook(Some(|irq| fire(irq, Source::Sci)));
    Ok(())
}

/// Lets the handlers take frames, or stops them.
pub fn arm(on: bool) {
    ARMED.store(on, Relaxed);
}

/// Whether the handlers take frames.
pub fn armed() -> bool {
    ARMED.load(Relaxed)
}

/// Makes the next request of an interrupt one that no zone may serve.
pub fn plant_failure() {
    FAIL_NEXT.store(1, Relaxed);
}

/// Sends the call-function interrupt to every CPU of `mask`, without waiting. Any context but NMI.
pub fn call(mask: u64) {
    if let Some(&work) = FIRE.get() {
        ipi::raise(mask, work);
    }
}

fn called(irq: &HardIrq) {
    fire(irq, Source::CallFunction);
}

fn on_nmi(nmi: &Nmi, _frame: &TrapFrame) {
    // At rest the oracle counts, and NMIs are the one thing that it cannot keep out.
    if !quiesce::nmis_held() {
        fire(nmi, Source::Nmi);
    }
}

/// Takes a frame, signs it and sends it to the next CPU's checker.
fn fire(context: &impl Context, source: Source) {
    if !armed() {
        return;
    }
    let cpu = cpu_id().0;
    let owner = Owner::new(OwnerKind::Interrupt, (source as u32) << 8 | cpu as u32);
    let mut request = Request::atomic(Order::ZERO).owned_by(owner);
    if FAIL_NEXT.load(Relaxed) != 0 && FAIL_NEXT.swap(0, Relaxed) != 0 {
        request = request.among(NodeMask::NONE);
    }
    let mut walk = WalkInfo::default();
    let Ok(mut block) = mm::frames().alloc_traced(context, &request, &mut walk) else {
        counts::count(source, &walk, Ending::Failed);
        return;
    };
    counts::count(source, &walk, Ending::Served);
    signature::sign(&mut block, source as u64);
    let raw = block.leak().into_raw();
    if RINGS[next_cpu(cpu)].push(raw).is_err() {
        // The checker is behind: its share is freed here, unchecked.
        give_back(raw, None);
    }
}

/// The online CPU after `cpu`, around the end.
fn next_cpu(cpu: usize) -> usize {
    let online = percpu::online_mask();
    let above = online & !(u64::MAX >> (63 - cpu));
    (if above == 0 { online } else { above }).trailing_zeros() as usize
}

fn give_back(raw: u64, key: Option<u64>) {
    let Some(handle) = FrameHandle::from_raw(raw) else {
        crate::warn!("demo: {raw:#x} is not a frame");
        return;
    };
    match mm::frames().adopt(handle) {
        Ok(block) => {
            if let Some(key) = key {
                signature::check(&block, key);
            }
        }
        // The allocator has reported it; the frames stay with whoever has them.
        Err(handle) => crate::warn!("demo: frame {} was freed by somebody else", handle.pfn()),
    }
}

/// Checks and frees what other CPUs' handlers took, until the sources are disarmed and the ring is
/// empty. Started once a CPU.
pub fn checker(task: &Task, cpu: usize) {
    loop {
        let last_round = !armed();
        while let Some(raw) = RINGS[cpu].pop() {
            let key = FrameHandle::from_raw(raw)
                .and_then(|handle| source_of(&handle))
                .map(|source| source as u64);
            give_back(raw, key);
        }
        if last_round {
            return;
        }
        thread::sleep_until(task, time::now_ns() + CHECK_EVERY_NS);
    }
}

/// Which source took a frame, as its entry says.
fn source_of(handle: &FrameHandle) -> Option<Source> {
    match mm::frames().frame_state(handle.pfn()) {
        tidemark_frames::FrameState::Allocated { owner, .. }
            if owner.kind() == OwnerKind::Interrupt =>
        {
            Source::ALL.get((owner.number() >> 8) as usize).copied()
        }
        _ => None,
    }
}
