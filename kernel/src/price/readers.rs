//! The readers that make requests while lists are rebuilt: one task for each CPU, the handler of
//! the call-function interrupt, and that of the NMI.

use super::counts::{self, Ending};
use super::{WRITER, window};
use crate::arch::{
    MAX_CPUS,
    context::{HardIrq, Nmi, Task},
    cpu_id,
    entry::TrapFrame,
    ipi::{self, WorkId},
    irq::IrqError,
    nmi, percpu, time,
};
use crate::demo::sources::fresh_walk_serves;
use crate::mm;
use crate::thread::{self, quiesce};
use crate::watchdog;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use tidemark_frames::{Gfp, Order, Owner, OwnerKind, Request, WalkInfo};
use tidemark_sync::Context;
use tidemark_wire::PriceContext;

/// Requests that one interrupt makes, one after the other: more than fit into a rebuild.
const BURST: u32 = 16;
/// Requests that one NMI makes.
const NMI_BURST: u32 = 4;
/// Requests of a task between two points where it gives way to other threads.
const ROUND: u32 = 64;
const IDLE_NS: u64 = 500_000;
/// How long a request of a task is waited for at most, and the pause between two looks at it.
const REQUEST_NS: u64 = 100_000_000;
const LOOK_NS: u64 = 50_000;

const OWNER: Owner = Owner::new(OwnerKind::Test, 10);

static OVER: AtomicBool = AtomicBool::new(false);
/// For each CPU, the number of beginnings and ends of its task's requests. It is odd while one is
/// under way.
static TURNS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
/// Number of tasks that make requests now, or are about to check whether they may.
static BUSY: AtomicU32 = AtomicU32::new(0);
static FIRE: spin::Once<WorkId> = spin::Once::new();

/// Registers the handlers. It is called once.
///
/// # Errors
///
/// Returns an [`IrqError`] if a table of handlers is full.
pub fn hook_in() -> Result<(), IrqError> {
    let work = ipi::register_work(on_call)?;
    FIRE.call_once(|| work);
    nmi::add_hook(on_nmi)
}

/// Sends the call-function interrupt to every CPU of `mask`. Any context but NMI may call it.
pub fn call(mask: u64) {
    if let Some(&work) = FIRE.get() {
        ipi::raise(mask, work);
    }
}

fn on_call(irq: &HardIrq) {
    requests(irq, PriceContext::Irq, Request::atomic(Order::ZERO), BURST);
}

fn on_nmi(nmi: &Nmi, _frame: &TrapFrame) {
    if !quiesce::nmis_held() && !watchdog::sent_this_nmi() {
        let request = Request::atomic(Order::ZERO);
        requests(nmi, PriceContext::Nmi, request, NMI_BURST);
    }
}

/// Makes requests, and gives the frames back at once.
fn requests(context: &impl Context, kind: PriceContext, request: Request, burst: u32) {
    let request = request.with(Gfp::NOWARN).owned_by(OWNER);
    for _ in 0..burst {
        if !window::is_open() {
            return;
        }
        if is_inside_the_writer() {
            if mm::frames().variant().every_reader_waits() {
                counts::leave_out(kind);
            }
            return;
        }
        let turn = &TURNS[cpu_id().0];
        let counts_turns = kind == PriceContext::Task;
        turn.fetch_add(u32::from(counts_turns), Release);
        let mut walk = WalkInfo::default();
        let served = mm::frames().alloc_traced(context, &request, &mut walk);
        let ending = match served {
            Ok(_) => Ending::Served,
            Err(_) if fresh_walk_serves(context, &request, &walk) => Ending::Avoidable,
            Err(_) => Ending::Short,
        };
        counts::count(kind, &walk, ending);
        turn.fetch_add(u32::from(counts_turns), Release);
    }
}

/// Returns whether this has interrupted the writer between its two steps of the counter. A reader
/// that waits for an even counter would wait for ever there. Other readers find lists that do not
/// change and pay nothing. They would only lower the measured share.
fn is_inside_the_writer() -> bool {
    cpu_id() == WRITER && !mm::frames().rebuild_counter().is_multiple_of(2)
}

/// Waits until each request of a task that is under way has ended. It has then seen the lists as
/// they are now, and not as they will be after the next rebuild.
pub fn wait_for_requests(task: &Task) {
    for cpu in percpu::online() {
        // Acquire pairs with the Release of the task's additions.
        let before = TURNS[cpu.0].load(Acquire);
        let deadline = time::now_ns() + REQUEST_NS;
        while before % 2 == 1 && TURNS[cpu.0].load(Acquire) == before {
            if time::now_ns() > deadline {
                break;
            }
            thread::sleep_ns(task, LOOK_NS);
        }
    }
}

/// Makes the tasks end.
pub fn finish() {
    OVER.store(true, Release);
}

/// Makes requests until [`finish`]. It is started once for each CPU but the writer's. Its requests
/// may reclaim, and are not retried for ever.
pub fn task(task: &Task, _: usize) {
    let request = Request::kernel(Order::ZERO).with(Gfp::NORETRY);
    while !OVER.load(Acquire) {
        // SeqCst pairs with the closing of the window, which comes before `wait_for_tasks` looks.
        // Either that look sees this task, or this task sees the window closed.
        BUSY.fetch_add(1, SeqCst);
        let is_open = window::is_open();
        if is_open {
            requests(task, PriceContext::Task, request, ROUND);
        }
        BUSY.fetch_sub(1, SeqCst);
        if is_open {
            thread::yield_now(task);
        } else {
            thread::sleep_until(task, time::now_ns() + IDLE_NS);
        }
    }
}

/// Waits until no task makes requests any more. The window is closed already.
pub fn wait_for_tasks(task: &Task) {
    while BUSY.load(SeqCst) != 0 {
        thread::sleep_ns(task, IDLE_NS);
    }
}
