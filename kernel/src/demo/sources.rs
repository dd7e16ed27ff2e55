//! The interrupt handlers that allocate, and the tasks that check and free the frames of the
//! handlers.

use super::{
    balloon,
    counts::{self, Ending},
    plant, signature,
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
use crate::options;
use crate::thread::{self, Ring, quiesce};
use crate::watchdog;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use tidemark_frames::{FrameHandle, NodeMask, Order, Owner, OwnerKind, Request, WalkInfo};
use tidemark_sync::Context;
use tidemark_wire::Source;

/// Most frames under way to one CPU's checker.
const RING_PLACES: usize = 256;
/// How long a checker sleeps between two looks at its ring.
const CHECK_EVERY_NS: u64 = 1_000_000;

static RINGS: [Ring<u64, RING_PLACES>; MAX_CPUS] = [const { Ring::new() }; MAX_CPUS];
/// Whether handlers take frames. The demonstration's thread writes it.
static ARMED: AtomicBool = AtomicBool::new(false);
/// Number of requests that are to fail on purpose.
static FAIL_NEXT: AtomicU32 = AtomicU32::new(0);
/// Set when no handler can send another frame. The checkers end once their rings are empty.
static OVER: AtomicBool = AtomicBool::new(false);
/// Number of frames under way to the checkers, and the most that there may be.
static UNDER_WAY: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(0);
static FIRE: spin::Once<WorkId> = spin::Once::new();

/// Registers the handlers. It is called once, before [`arm`].
///
/// # Errors
///
/// Returns an [`IrqError`] if a table of handlers is full.
pub fn hook_in() -> Result<(), IrqError> {
    timer::add_hook(|irq| fire(irq, Source::Timer))?;
    let work = ipi::register_work(called)?;
    FIRE.call_once(|| work);
    nmi::add_hook(on_nmi)?;
    crate::console::set_rx_alloc_hook(|irq, _byte| fire(irq, Source::SerialRx));
    crate::hotplug::set_sci_hook(Some(|irq| fire(irq, Source::Sci)));
    Ok(())
}

/// Lets the handlers take frames.
pub fn arm() {
    LIMIT.store(balloon::share_of_handlers(), Relaxed);
    ARMED.store(true, Relaxed);
}

/// Stops the handlers, and lets the checkers end.
///
/// A handler may have found the sources armed and not have sent its frame yet, while the checker
/// looks at its empty ring for the last time. A call to every other CPU cannot run inside such a
/// handler, be it an interrupt's or an NMI's. So when the call has run everywhere, the last frames
/// are in their rings.
pub fn disarm(task: &Task) {
    ARMED.store(false, SeqCst);
    ipi::call_on_others(ipi::CallKind::Call, |_, _| (), 0, task);
    // Release pairs with the Acquire in `checker`.
    OVER.store(true, Release);
}

/// Makes the next request of an interrupt one that no zone may serve.
pub fn plant_failure() {
    FAIL_NEXT.store(1, Relaxed);
}

/// Sends the call-function interrupt to every CPU of `mask`, without waiting. Any context but NMI
/// may call it.
pub fn call(mask: u64) {
    if let Some(&work) = FIRE.get() {
        ipi::raise(mask, work);
    }
}

fn called(irq: &HardIrq) {
    fire(irq, Source::CallFunction);
}

fn on_nmi(nmi: &Nmi, _frame: &TrapFrame) {
    // While the machine rests the oracle counts, and NMIs are the one thing that it cannot keep
    // out. The watchdog's own NMIs find out where a CPU hangs, and must not hang there, too.
    if options::get().nmi_requests && !quiesce::nmis_held() && !watchdog::sent_this_nmi() {
        fire(nmi, Source::Nmi);
    }
}

/// Takes a frame, signs it and sends it to the next CPU's checker.
fn fire(context: &impl Context, source: Source) {
    if !ARMED.load(Relaxed) {
        return;
    }
    let cpu = cpu_id().0;
    let owner = Owner::new(OwnerKind::Interrupt, (source as u32) << 8 | cpu as u32);
    let mut request = Request::atomic(Order::ZERO).owned_by(owner);
    if FAIL_NEXT.load(Relaxed) != 0 && FAIL_NEXT.swap(0, Relaxed) != 0 {
        request = request.among(NodeMask::NONE);
    }
    let mut walk = WalkInfo::default();
    let served = mm::frames().alloc_traced(context, &request, &mut walk);
    let served = served.ok().filter(|_| !plant::fails(&walk));
    let Some(mut block) = served else {
        let ending = if fresh_walk_serves(context, &request, &walk) {
            Ending::FreshWalkServes
        } else {
            Ending::Failed
        };
        counts::count(source, &walk, ending);
        return;
    };
    counts::count(source, &walk, Ending::Served);
    signature::sign(&mut block, source as u64);
    if UNDER_WAY.fetch_add(1, Relaxed) >= LIMIT.load(Relaxed) {
        // The checkers lag behind, so this frame is freed at once.
        UNDER_WAY.fetch_sub(1, Relaxed);
        return;
    }
    if let Err(rejected) = RINGS[next_cpu(cpu)].push(block.leak().into_raw()) {
        give_back(rejected.0, None);
    }
}

/// Most second requests that are made, because each may race a rebuild in turn.
const SECOND_REQUESTS: u32 = 8;

/// Returns whether a walk of the present lists serves a request that failed over a rebuild: the
/// request is made once more. Any context may call it.
pub fn fresh_walk_serves(context: &impl Context, request: &Request, walk: &WalkInfo) -> bool {
    let mut walk = *walk;
    for _ in 0..SECOND_REQUESTS {
        if !walk.overlapped {
            return false;
        }
        walk = WalkInfo::default();
        let served = mm::frames().alloc_traced(context, request, &mut walk);
        if served.is_ok() {
            return true;
        }
    }
    false
}

/// Returns the online CPU after `cpu`; the first one after the last.
fn next_cpu(cpu: usize) -> usize {
    let online = percpu::online_mask();
    let above = online & !(u64::MAX >> (63 - cpu));
    (if above == 0 { online } else { above }).trailing_zeros() as usize
}

/// Takes back a frame that was under way, checks it if its key is known, and frees it.
fn give_back(raw: u64, key: Option<u64>) {
    UNDER_WAY.fetch_sub(1, Relaxed);
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
        // The allocator has reported it; the frame stays with its present owner.
        Err(handle) => crate::warn!("demo: frame {} was freed by somebody else", handle.pfn()),
    }
}

/// Checks and frees the frames of other CPUs' handlers, until no more can come. It is started once
/// for each CPU.
pub fn checker(task: &Task, cpu: usize) {
    loop {
        let last_round = OVER.load(Acquire);
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

/// Returns the source that took a frame, from the frame's entry.
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
