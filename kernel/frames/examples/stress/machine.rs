//! The platform: threads are CPUs, signals are interrupts.

use crate::{
    counts::COUNTS,
    cpu::{self, Cpu, Doing},
    findings::{Finding, found},
    memory::NODES,
    owners, pages, plant,
    signals::{self, Signal},
    switches,
};
use std::{
    ops::ControlFlow,
    sync::{
        OnceLock,
        atomic::{Ordering::*, compiler_fence},
    },
    time::Instant,
};
use tidemark_frames::{
    AllocReport, Block, CpuId, Cpuset, Frames, FreeError, MigrateError, NodeId, NodeMask,
    OomOutcome, Order, Owner, PerCpu, Pfn, Platform, Point, Spin, Step, Variant, ZoneKind,
};
use tidemark_sync::{ContextKind, CpuGate, HeldRanks, LocalIrq, Task, grace::Grace};

/// The machine, as the allocator sees it.
#[derive(Debug)]
pub struct Machine;

/// A block of the machine's memory.
pub type OurBlock = Block<'static, 'static, Machine>;

static FRAMES: OnceLock<Frames<'static, Machine>> = OnceLock::new();
static BOOTED: OnceLock<Instant> = OnceLock::new();
static GRACE: Grace = Grace::new();
/// The bit of the gate for an acknowledgement that is owed to the grace period.
const OWES_GRACE: u32 = CpuGate::PLATFORM;
/// Turns after which a wait that can never end is given up.
const PATIENCE: u32 = 1_000;

/// Returns the allocator.
pub fn frames() -> &'static Frames<'static, Machine> {
    FRAMES.get().expect("boot has made the allocator")
}

/// Makes this the machine's allocator. Boot calls it once.
pub fn set_frames(made: Frames<'static, Machine>) {
    FRAMES.get_or_init(|| made);
    BOOTED.get_or_init(Instant::now);
}

/// Returns whether the protocol lets a handler wait for the rebuild that it has interrupted (H2,
/// H2-NMI).
fn may_wait_for_itself(variant: Variant, context: ContextKind) -> bool {
    let is_let_in = context == ContextKind::Nmi || !variant.writes_with_interrupts_off();
    variant.every_reader_waits() && is_let_in
}

impl Machine {
    /// Acknowledges the grace period if the CPU owes that, and is outside of pins and gated
    /// sections.
    fn acknowledge_grace(cpu: &Cpu) {
        let is_outside = cpu.pins.load(Relaxed) == 0 && !cpu.gate.holds();
        if is_outside && cpu.gate.take(OWES_GRACE) {
            GRACE.acknowledge(cpu.number);
        }
    }

    /// Handles the call of a grace period: acknowledges now, or leaves that to the end of the pin
    /// or gated section that was interrupted.
    pub fn owe_grace(cpu: &Cpu) {
        cpu.gate.owe(OWES_GRACE);
        Self::acknowledge_grace(cpu);
    }
}

impl LocalIrq for Machine {
    fn push_off() {
        if plant::is(plant::Plant::IrqOn) {
            return;
        }
        // Interrupts go off before the count: an interrupt between the two steps would see one of
        // them done.
        let were_off = signals::irqs_off();
        let cpu = cpu::here();
        if cpu.irqs_off.fetch_add(1, Relaxed) == 0 {
            cpu.were_off.store(were_off, Relaxed);
        }
    }

    fn pop_off() {
        if plant::is(plant::Plant::IrqOn) {
            return;
        }
        let cpu = cpu::here();
        let were_off = cpu.were_off.load(Relaxed);
        if cpu.irqs_off.fetch_sub(1, Relaxed) == 1 && !were_off {
            signals::irqs_on();
        }
    }

    fn cpu() -> usize {
        cpu::here().number
    }

    fn held() -> &'static HeldRanks {
        &cpu::here().held
    }
}

impl PerCpu for Machine {}

impl Platform for Machine {
    // A thread is always the same CPU, so pins are for grace periods only.
    fn pin(&self) {
        cpu::here().pins.fetch_add(1, Relaxed);
        compiler_fence(SeqCst);
    }

    fn unpin(&self) {
        compiler_fence(SeqCst);
        let cpu = cpu::here();
        cpu.pins.fetch_sub(1, Relaxed);
        if cpu.gate.owes(OWES_GRACE) {
            Self::acknowledge_grace(cpu);
        }
    }

    fn gate(&self, cpu: CpuId) -> &CpuGate {
        &cpu::all()[cpu.0].gate
    }

    fn local_node(&self) -> NodeId {
        NodeId((cpu::here().number % NODES) as u8)
    }

    fn cpu_online(&self, _: CpuId) -> bool {
        true
    }

    fn now_ns(&self) -> u64 {
        BOOTED
            .get()
            .map_or(0, |booted| booted.elapsed().as_nanos() as u64)
    }

    fn relax(&self, _: &Task) {
        std::thread::yield_now();
    }

    fn drain_others(&self, _: &Task) {
        let here = cpu::here();
        let before = here.doing(Doing::WaitForDrains);
        let mut wanted = [0; cpu::MAX_CPUS];
        let others = || cpu::all().iter().filter(|cpu| cpu.number != here.number);
        for cpu in others() {
            // SeqCst pairs with `signals::on_call`: a handler that reads this number drains after
            // it.
            wanted[cpu.number] = cpu.drain_asked.fetch_add(1, SeqCst).wrapping_add(1);
            signals::raise(cpu, Signal::Call);
        }
        for cpu in others() {
            let is_behind = || {
                let done = cpu.drain_done.load(SeqCst);
                (done.wrapping_sub(wanted[cpu.number]) as i32) < 0
            };
            while is_behind() {
                std::thread::yield_now();
            }
        }
        here.doing(before);
    }

    fn begin_grace(&self, _: &Task) {
        GRACE.begin((1 << cpu::all().len()) - 1);
        for cpu in cpu::all() {
            cpu.grace_asked.store(true, SeqCst);
            signals::raise(cpu, Signal::Call);
        }
    }

    fn wait_for_grace(&self, _: &Task) {
        let before = cpu::here().doing(Doing::WaitForGrace);
        while !GRACE.is_over(!0) {
            std::thread::yield_now();
        }
        cpu::here().doing(before);
    }

    fn wake_reclaim(&self, node: NodeId, _: ContextKind) {
        switches::want_reclaim(node);
    }

    fn reclaimers_asked(&self) -> NodeMask {
        switches::reclaim_wanted()
    }

    fn shrink(&self, node: NodeId, highest: ZoneKind, frames: usize, _: &Task) -> usize {
        pages::shrink(node, highest, frames)
    }

    fn reclaimable(&self, node: NodeId, highest: ZoneKind) -> usize {
        pages::resident(node, highest)
    }

    fn migrate(&self, pfn: Pfn, owner: Owner, task: &Task) -> Result<(), MigrateError> {
        pages::migrate(pfn, owner, task)
    }

    fn frees_by_exchange(&self) -> bool {
        switches::is_by_exchange()
    }

    fn any_cpuset(&self) -> bool {
        switches::cpuset().is_some()
    }

    fn cpuset(&self, _: &Task) -> Option<Cpuset> {
        switches::cpuset()
    }

    // Requests fail when there is no memory. No task is killed.
    fn oom(&self, _: &AllocReport, _: &Task) -> OomOutcome {
        OomOutcome::NoVictim
    }

    fn alloc_failed(&self, _: &AllocReport, _: ContextKind) {
        COUNTS.warned.add(1);
    }

    fn zero(&self, pfn: Pfn, order: Order) {
        owners::check_nobodys(pfn, order);
    }

    fn report(&self, error: &FreeError) {
        found(Finding::Reported(*error));
    }

    /// Takes a turn of a wait for the rebuild's end. The rebuild is the hot-plug thread's. A
    /// handler on its CPU that finds the counter odd has interrupted it, and waits for itself (H2).
    /// Such a wait is given up after some turns, and counted. Others end by themselves.
    fn spin(&self, _: Spin) -> ControlFlow<()> {
        let (cpu, context) = (cpu::here(), cpu::here().context());
        COUNTS.waited.add(1);
        if context == ContextKind::Task || cpu.number != cpu::of_hotplug().number {
            let is_task = context == ContextKind::Task;
            let before = is_task.then(|| cpu.doing(Doing::WaitForEven));
            std::thread::yield_now();
            before.map(|before| cpu.doing(before));
            return ControlFlow::Continue(());
        }
        // No other thread could end the wait, so the CPU is not given up.
        std::hint::spin_loop();
        let turns = cpu.turns.load(Relaxed) + 1;
        cpu.turns.store(turns % PATIENCE, Relaxed);
        if turns < PATIENCE {
            return ControlFlow::Continue(());
        }
        COUNTS.given_up[context as usize].add(1);
        if !may_wait_for_itself(frames().variant(), context) {
            found(Finding::Endless(frames().variant(), context));
        }
        ControlFlow::Break(())
    }

    fn step(&self, step: &'static Step) {
        cpu::here().at_step(step);
    }

    /// At points of hot-plug and rebuilds, interrupts and NMIs come to all CPUs. A reader of the
    /// lists may be stopped between an entry's two halves (H7), and where it remembers an entry.
    fn point(&self, point: Point) {
        let (every, steals) = match point {
            Point::RebuildOdd | Point::RebuildEven => (1, false),
            Point::OfflineLeft | Point::OnlineCounted => (1, false),
            Point::RebuildEntry | Point::OfflineIsolated => (4, false),
            Point::WalkEntry | Point::SlowWalk | Point::SlowWalked => (500, true),
            _ => return,
        };
        let here = cpu::here();
        // At boot no thread is a CPU yet, and no interrupt comes.
        if !signals::is_armed() || !here.random().one_in(every) {
            return;
        }
        if steals {
            return here.is_stolen();
        }
        for cpu in cpu::all() {
            signals::raise(cpu, Signal::Nmi);
            signals::raise(cpu, Signal::Irq);
        }
        if here.random().one_in(4) {
            here.is_stolen();
        }
    }
}
