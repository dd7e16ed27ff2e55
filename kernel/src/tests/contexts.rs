//! Allocation from every context at once: timer interrupts, call and work interrupts, NMIs and tasks
//! of all CPUs, into and out of each other.

use super::support::{
    SOON_NS, ensure, eventually,
    everywhere::{Jobs, Team, call_everywhere, others},
    frames::{Block, OWNER, sign, unsigned},
    host, tests, want,
};
use crate::{
    arch::{
        MAX_CPUS,
        context::{HardIrq, Nmi, Task},
        cpu_id, nmi, percpu, timer,
    },
    console, mm,
    selftest::{Group, Outcome, Report},
};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use spin::Once;
use tidemark_frames::{FrameHandle, Gfp, Order, Request};
use tidemark_sync::{Context, queue::Queue};
use tidemark_wire::Ask;

/// The group.
pub const GROUP: Group = Group {
    name: "contexts",
    tests: tests![
        every_context_of_every_cpu_allocates_at_once,
        an_nmi_of_the_hosts_reaches_every_cpu,
        each_byte_that_com1_receives_allocates,
    ],
};

/// Who allocates, in the order of the counters.
#[derive(Clone, Copy)]
enum Source {
    Task,
    Timer,
    Call,
    Work,
    Nmi,
}

const SOURCES: [&str; 5] = ["task", "timer", "call", "work", "NMI"];

/// Allocations that each source makes on each CPU before the storm ends.
const ENOUGH: u32 = 200;
/// What the frames in the storm are signed with.
const TAG: u64 = 0x7370_726d;

static MADE: [[AtomicU32; 5]; MAX_CPUS] = [const { [const { AtomicU32::new(0) }; 5] }; MAX_CPUS];
static FAILED: AtomicU32 = AtomicU32::new(0);
static BROKEN: AtomicU32 = AtomicU32::new(0);
static CHECKED: AtomicU32 = AtomicU32::new(0);
static ACTIVE: AtomicBool = AtomicBool::new(false);
/// Signed blocks on their way to a task of any CPU that checks and frees them.
static HANDED: Queue<u64, 512> = Queue::new();

fn check_and_free(block: Block) {
    CHECKED.fetch_add(1, SeqCst);
    if unsigned(&block, TAG).is_some() {
        BROKEN.fetch_add(1, SeqCst);
    }
}

fn adopt(raw: u64) {
    match FrameHandle::from_raw(raw).map(|handle| mm::frames().adopt(handle)) {
        Some(Ok(block)) => check_and_free(block),
        _ => {
            BROKEN.fetch_add(1, SeqCst);
        }
    }
}

/// Takes a block, signs it and hands it on; if nobody has room, checks and frees it here.
fn allocate(context: &impl Context, source: Source) {
    let made = &MADE[cpu_id().0][source as usize];
    let nth = made.fetch_add(1, SeqCst);
    let order = Order::new((nth % 4 / 3) as u8 * 2).unwrap_or(Order::ZERO);
    let request = Request::atomic(order).with(Gfp::NOWARN).owned_by(OWNER);
    let Ok(block) = mm::frames().alloc(context, &request) else {
        FAILED.fetch_add(1, SeqCst);
        return;
    };
    sign(&block, TAG);
    if let Err(rejected) = HANDED.push(block.leak().into_raw()) {
        adopt(rejected.0);
    }
}

fn on_tick(irq: &HardIrq) {
    if ACTIVE.load(SeqCst) {
        allocate(irq, Source::Timer);
    }
}

fn on_call(irq: &HardIrq, _: usize) {
    allocate(irq, Source::Call);
}

fn on_work(irq: &HardIrq) {
    allocate(irq, Source::Work);
}

fn on_nmi(nmi: &Nmi) {
    allocate(nmi, Source::Nmi);
}

/// One CPU's task: allocates for itself, frees what others made, and disturbs the next CPU.
fn worker(task: &Task, cpu: usize) {
    let next = percpu::cpus_in(others())
        .find(|next| next.0 > cpu)
        .or_else(|| percpu::cpus_in(others()).next())
        .unwrap_or_else(cpu_id);
    let mut round = 0_u32;
    while ACTIVE.load(SeqCst) {
        round = round.wrapping_add(1);
        allocate(task, Source::Task);
        let request = Request::kernel(Order::ZERO).owned_by(OWNER);
        if let Ok(block) = mm::frames().alloc(task, &request) {
            sign(&block, TAG);
            while let Some(raw) = HANDED.pop() {
                adopt(raw);
            }
            check_and_free(block);
        }
        if round.is_multiple_of(4) {
            nmi::send(next);
        }
        if round.is_multiple_of(8) {
            call_everywhere(on_call, 0, task);
        }
        if round.is_multiple_of(64) {
            mm::frames().drain_all(task);
        }
    }
}

/// The least that any source has made on any CPU.
fn least() -> (u32, usize, usize) {
    percpu::online()
        .flat_map(|cpu| (0..SOURCES.len()).map(move |source| (cpu.0, source)))
        .map(|(cpu, source)| (MADE[cpu][source].load(SeqCst), cpu, source))
        .min()
        .unwrap_or((0, 0, 0))
}

fn every_context_of_every_cpu_allocates_at_once(task: &Task, report: &mut Report) -> Outcome {
    static TICKS: Once<bool> = Once::new();
    let ticks = *TICKS.call_once(|| timer::add_hook(on_tick).is_ok());
    ensure!(report, ticks, "no room for a timer hook");
    let jobs = want!(report, Jobs::set(on_nmi, on_work), "no room for hooks");
    MADE.iter().flatten().for_each(|made| made.store(0, SeqCst));
    for count in [&FAILED, &BROKEN, &CHECKED] {
        count.store(0, SeqCst);
    }
    ACTIVE.store(true, SeqCst);
    let team = Team::start(task, "test-storm", worker);
    let enough = eventually(task, 10 * SOON_NS, || {
        jobs.raise(percpu::online_mask());
        least().0 >= ENOUGH
    });
    ACTIVE.store(false, SeqCst);
    let ended = want!(report, team, "no threads").join(task, SOON_NS);
    drop(jobs);
    while let Some(raw) = HANDED.pop() {
        adopt(raw);
    }
    ensure!(report, ended, "the threads did not end");
    let (made, cpu, source) = least();
    ensure!(
        report,
        enough,
        "cpu{cpu}: {made} allocations by {} only",
        SOURCES[source]
    );
    let [failed, broken] = [&FAILED, &BROKEN].map(|count| count.load(SeqCst));
    ensure!(
        report,
        broken == 0,
        "{broken} of {} blocks were broken",
        CHECKED.load(SeqCst)
    );
    ensure!(
        report,
        failed == 0,
        "{failed} requests failed, with memory free"
    );
    Outcome::Pass
}

/// QEMU raises the NMI line of every CPU's local APIC: LINT1, programmed as the tables say.
fn an_nmi_of_the_hosts_reaches_every_cpu(task: &Task, report: &mut Report) -> Outcome {
    if let Some(reason) = host::missing() {
        return Outcome::Skip(reason);
    }
    let mut before = [0; MAX_CPUS];
    for cpu in percpu::online() {
        before[cpu.0] = nmi::count(cpu);
    }
    let asked = host::ask(task, Ask::InjectNmi);
    ensure!(report, asked == Ok(true), "{asked:?}");
    let missed = || percpu::online().find(|&cpu| nmi::count(cpu) == before[cpu.0]);
    let taken = eventually(task, SOON_NS, || missed().is_none());
    ensure!(report, taken, "{:?} took none", missed());
    Outcome::Pass
}

static RECEIVED: AtomicU32 = AtomicU32::new(0);

/// As a tty's buffer does: with the port's lock held, in its interrupt.
fn on_byte(irq: &HardIrq, _: u8) {
    RECEIVED.fetch_add(1, SeqCst);
    let request = Request::atomic(Order::ZERO)
        .with(Gfp::NOWARN)
        .owned_by(OWNER);
    match mm::frames().alloc(irq, &request) {
        Ok(block) => {
            sign(&block, TAG);
            check_and_free(block);
        }
        Err(_) => {
            FAILED.fetch_add(1, SeqCst);
        }
    }
}

fn each_byte_that_com1_receives_allocates(task: &Task, report: &mut Report) -> Outcome {
    if let Some(reason) = host::missing() {
        return Outcome::Skip(reason);
    }
    const BYTES: u8 = 40;
    for count in [&RECEIVED, &FAILED, &BROKEN] {
        count.store(0, SeqCst);
    }
    console::set_rx_alloc_hook(on_byte);
    let asked = host::ask(task, Ask::Type { bytes: BYTES });
    ensure!(report, asked == Ok(true), "{asked:?}");
    let all = eventually(task, SOON_NS, || RECEIVED.load(SeqCst) >= u32::from(BYTES));
    let [received, failed, broken] = [&RECEIVED, &FAILED, &BROKEN].map(|count| count.load(SeqCst));
    ensure!(report, all, "{received} of {BYTES} bytes came");
    ensure!(
        report,
        failed + broken == 0,
        "{failed} requests failed, {broken} frames were broken"
    );
    Outcome::Pass
}
