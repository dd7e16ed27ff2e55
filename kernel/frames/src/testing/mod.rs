//! A machine for tests. Threads are CPUs, and interrupts are function calls at steps.

pub(crate) use crate::base::resizing::resizing;
use crate::{
    AllocReport, Census, CpuCaches, CpuId, Cpuset, Frames, FreeError, MemallocRole, MigrateError,
    Node, NodeId, NodeMask, OomOutcome, Order, Owner, OwnerKind, Pfn, PfnRange, Platform, Point,
    SECTION_FRAMES, SectionMeta, SectionNo, SectionSlot, Spin, Step, Storage, Topology, Variant,
    Zone, ZoneId, ZoneKind,
    base::mutant::{self, Mutant},
};
pub(crate) use machines::*;
use std::{
    cell::{Cell, RefCell},
    ops::ControlFlow,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
};
pub(crate) use tidemark_sync::ContextKind;
use tidemark_sync::{CpuGate, HardIrq, HeldRanks, LocalIrq, Task, grace::Grace};

mod explore_tests;
mod free_huge_tests;
mod imports_tests;
mod known_failures_tests;
mod leaving_tests;
mod machines;
mod model_tests;
mod parts;

std::thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
    static OFF: Cell<u32> = const { Cell::new(0) };
    static TURNED_OFF: Cell<u64> = const { Cell::new(0) };
    static HELD: &'static HeldRanks = Box::leak(Box::new(HeldRanks::new()));
    static STEP: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
    static POINT: RefCell<Option<PointHook>> = const { RefCell::new(None) };
}

pub(crate) type TestFrames = Frames<'static, Host>;
pub(crate) type TestBlock = crate::Block<'static, 'static, Host>;

type PointHook = Box<dyn FnMut(Point)>;
type Shrink = Box<dyn FnMut(NodeId, ZoneKind, usize) -> usize + Send>;
type Migrate = Box<dyn FnMut(Pfn, Owner) -> Result<(), MigrateError> + Send>;
type Oom = Box<dyn FnMut(&AllocReport) -> OomOutcome + Send>;

/// States of the drain interrupt of a CPU.
const IDLE: u8 = 0;
const ASKED: u8 = 1;
const RUNNING: u8 = 2;

/// The platform of tests, with everything that was reported to it.
#[derive(Default)]
pub(crate) struct Host {
    frames: OnceLock<&'static TestFrames>,
    pub(crate) faults: Mutex<Vec<FreeError>>,
    pub(crate) failed: Mutex<Vec<AllocReport>>,
    pub(crate) wakes: AtomicUsize,
    pub(crate) woken: Mutex<Vec<NodeId>>,
    /// Nodes with a reclaimer that has been asked and has not begun.
    pub(crate) asked: AtomicU8,
    pub(crate) drains: AtomicUsize,
    /// The CPU, plus 1, to which the scheduler moves a task once when it asks the other CPUs to
    /// drain.
    pub(crate) moves_to: AtomicUsize,
    pub(crate) shrink: Mutex<Option<Shrink>>,
    pub(crate) reclaimable: AtomicUsize,
    pub(crate) migrate: Mutex<Option<Migrate>>,
    pub(crate) oom: Mutex<Option<Oom>>,
    pub(crate) cpuset: Mutex<Option<Cpuset>>,
    /// The memalloc role of tasks; [`MemallocRole::Ordinary`] if there is none.
    pub(crate) role: Mutex<Option<MemallocRole>>,
    pub(crate) relaxes: AtomicUsize,
    now_ns: AtomicU64,
    /// Whether each CPU runs as a thread of its own, and takes its interrupts itself.
    pub(crate) threaded: Vec<AtomicBool>,
    interrupt: Vec<AtomicU8>,
    /// Number of pins held on each CPU.
    pins: Vec<AtomicUsize>,
    gates: Vec<CpuGate>,
    grace: Grace,
    /// CPUs that were asked to acknowledge the grace period.
    grace_asked: Vec<AtomicBool>,
    pub(crate) graces: AtomicUsize,
    pub(crate) grace_waits: AtomicUsize,
    pub(crate) deferred: AtomicUsize,
    pub(crate) by_exchange: AtomicBool,
    pub(crate) zeroed: Mutex<Vec<(Pfn, Order)>>,
    /// Whether CPUs are threads of shuttle, which may switch between them at every step.
    pub(crate) is_explored: AtomicBool,
    /// Turns of a wait for an even counter until it is ended; 0 means never.
    pub(crate) patience: AtomicUsize,
    spins: AtomicUsize,
}

impl LocalIrq for Host {
    fn push_off() {
        OFF.set(OFF.get() + 1);
        TURNED_OFF.set(TURNED_OFF.get() + 1);
    }

    fn pop_off() {
        OFF.set(
            OFF.get()
                .checked_sub(1)
                .expect("interrupts turned on twice"),
        );
    }

    fn cpu() -> usize {
        CPU.get()
    }

    fn held() -> &'static HeldRanks {
        HELD.with(|held| *held)
    }
}

impl Host {
    fn frames(&self) -> &'static TestFrames {
        self.frames.get().expect("the machine is set up")
    }

    /// Lets other threads run, since this one waits for them.
    fn give_way(&self) {
        if self.is_explored.load(Ordering::Relaxed) {
            switched(shuttle::thread::yield_now);
        } else {
            std::thread::yield_now();
        }
    }

    fn pins(&self) -> &AtomicUsize {
        &self.pins[CPU.get()]
    }

    /// Returns whether the thread must stay on its CPU.
    fn is_pinned(&self) -> bool {
        let gate = self.gate(CpuId(CPU.get()));
        let is_held = if mutant::is(Mutant::SwitchedBeforeDrain) {
            gate.is_open()
        } else if mutant::is(Mutant::SwitchedBeforeGrace) {
            gate.is_open() || gate.owes(CpuGate::DRAIN)
        } else {
            gate.holds() && !mutant::is(Mutant::SwitchedInside)
        };
        self.pins().load(Ordering::Relaxed) > 0 || is_held
    }

    /// Switches the thread away and lets it go on as another CPU, unless it must stay on its own.
    pub(crate) fn switch_to(&self, cpu: usize) {
        if !self.is_pinned() {
            CPU.set(cpu);
        }
    }

    /// Runs the grace period's interrupt, if the thread's CPU was sent one. Outside of pins and
    /// gated sections it acknowledges; otherwise it leaves that to the end of the last of them.
    fn take_grace_interrupt(&self) {
        if !self.grace_asked[CPU.get()].swap(false, Ordering::Acquire) {
            return;
        }
        let gate = self.gate(CpuId(CPU.get()));
        if self.pins().load(Ordering::Relaxed) == 0 && !gate.holds() {
            self.grace.acknowledge(CPU.get());
        } else {
            gate.owe(CpuGate::GRACE);
        }
    }

    /// Acknowledges a grace period if that is owed, and the thread's CPU is outside of pins and
    /// gated sections.
    fn pay_grace(&self) {
        let gate = self.gate(CpuId(CPU.get()));
        let is_outside = self.pins().load(Ordering::Relaxed) == 0 && !gate.is_open();
        if is_outside && gate.take(CpuGate::GRACE) {
            self.grace.acknowledge(CPU.get());
        }
    }

    /// Begins a grace period for the thread's CPU alone, and sends it the interrupt.
    pub(crate) fn begin_grace_here(&self) {
        self.grace.begin(1 << CPU.get());
        self.grace_asked[CPU.get()].store(true, Ordering::Release);
        self.take_grace_interrupt();
    }

    /// Returns whether the grace period that was begun last is over.
    pub(crate) fn grace_is_over(&self) -> bool {
        self.grace.is_over(!0)
    }

    /// Takes the interrupts that are pending for the thread's CPU.
    pub(crate) fn take_interrupts(&self) {
        self.take_grace_interrupt();
        let Some(state) = self.interrupt.get(CPU.get()) else {
            return;
        };
        // Acquire pairs with the release in `drain_others`. A handler is not interrupted by itself.
        let take = state.compare_exchange(ASKED, RUNNING, Ordering::Acquire, Ordering::Relaxed);
        if take.is_ok() {
            self.frames().drain_local(&hard_irq());
            state.store(IDLE, Ordering::Release);
        }
    }
}

impl Platform for Host {
    fn pin(&self) {
        self.pins().fetch_add(1, Ordering::Relaxed);
    }

    fn unpin(&self) {
        let before = self.pins().fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "more unpins than pins");
        self.pay_grace();
        self.take_interrupts();
    }

    fn gate(&self, cpu: CpuId) -> &CpuGate {
        &self.gates[cpu.0]
    }

    fn local_node(&self) -> NodeId {
        NodeId((CPU.get() % self.frames().lists().nodes().len()) as u8)
    }

    fn cpu_online(&self, _cpu: CpuId) -> bool {
        true
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.fetch_add(1_000, Ordering::Relaxed)
    }

    fn relax(&self, _task: &Task) {
        let relaxes = self.relaxes.fetch_add(1, Ordering::Relaxed);
        assert!(relaxes < 10_000_000, "waits for ever");
        self.take_interrupts();
        self.give_way();
    }

    fn drain_others(&self, _task: &Task) {
        self.drains.fetch_add(1, Ordering::Relaxed);
        if let Some(cpu) = self.moves_to.swap(0, Ordering::Relaxed).checked_sub(1) {
            self.switch_to(cpu);
        }
        let here = CPU.get();
        let others = || (0..self.frames().caches().cpus().len()).filter(|&cpu| cpu != here);
        let help = |cpu: usize| {
            if !self.threaded[cpu].load(Ordering::Acquire) {
                // The CPU has no thread, so the waiting threads run its handler, one at a time.
                on_cpu(cpu, || self.take_interrupts());
            }
            self.take_interrupts();
        };
        for cpu in others() {
            // A handler that runs may have read the number of the last drain already.
            let ask = || {
                self.interrupt[cpu]
                    .compare_exchange(IDLE, ASKED, Ordering::Release, Ordering::Relaxed)
                    .is_ok()
            };
            while !ask() {
                help(cpu);
                self.give_way();
            }
        }
        for cpu in others() {
            help(cpu);
            while self.interrupt[cpu].load(Ordering::Acquire) != IDLE {
                self.give_way();
                help(cpu);
            }
        }
    }

    fn begin_grace(&self, _task: &Task) {
        assert!(!irqs_are_off(), "a grace period with interrupts off");
        self.graces.fetch_add(1, Ordering::Relaxed);
        self.grace.begin((1 << self.grace_asked.len()) - 1);
        for asked in &self.grace_asked {
            asked.store(true, Ordering::Release);
        }
    }

    fn wait_for_grace(&self, _task: &Task) {
        while !self.grace.is_over(!0) {
            self.grace_waits.fetch_add(1, Ordering::Relaxed);
            self.take_interrupts();
            for (cpu, threaded) in self.threaded.iter().enumerate() {
                if !threaded.load(Ordering::Acquire) {
                    // No thread runs as this CPU, or this one does so further up on its stack.
                    on_cpu(cpu, || {
                        let open = self.pins().load(Ordering::Relaxed);
                        assert_eq!(open, 0, "waits for a gated section of its own stack");
                        self.take_grace_interrupt();
                    });
                }
            }
            self.give_way();
        }
    }

    fn spin(&self, at: Spin) -> ControlFlow<()> {
        assert_eq!(at, Spin::ReadBegin);
        self.take_interrupts();
        let spins = self.spins.fetch_add(1, Ordering::Relaxed) + 1;
        let patience = self.patience.load(Ordering::Relaxed);
        if patience != 0 && spins.is_multiple_of(patience) {
            return ControlFlow::Break(());
        }
        self.give_way();
        ControlFlow::Continue(())
    }

    fn with_console_deferred(&self, work: &mut dyn FnMut()) {
        self.deferred.fetch_add(1, Ordering::Relaxed);
        work();
        self.deferred.fetch_sub(1, Ordering::Relaxed);
    }

    fn wake_reclaim(&self, node: NodeId, _context: ContextKind) {
        self.woken.lock().unwrap().push(node);
        self.wakes.fetch_add(1, Ordering::Relaxed);
    }

    fn reclaimers_asked(&self) -> NodeMask {
        NodeMask(self.asked.load(Ordering::Relaxed))
    }

    fn shrink(&self, node: NodeId, highest: ZoneKind, frames: usize, _task: &Task) -> usize {
        let shrink = self.shrink.lock().unwrap().take();
        let Some(mut shrink) = shrink else { return 0 };
        let freed = shrink(node, highest, frames);
        self.shrink.lock().unwrap().get_or_insert(shrink);
        freed
    }

    fn reclaimable(&self, _node: NodeId, _highest: ZoneKind) -> usize {
        self.reclaimable.load(Ordering::Relaxed)
    }

    fn migrate(&self, pfn: Pfn, owner: Owner, _task: &Task) -> Result<(), MigrateError> {
        match &mut *self.migrate.lock().unwrap() {
            Some(migrate) => migrate(pfn, owner),
            None => Err(MigrateError::Busy),
        }
    }

    fn frees_by_exchange(&self) -> bool {
        self.by_exchange.load(Ordering::Relaxed)
    }

    fn any_cpuset(&self) -> bool {
        self.cpuset.lock().unwrap().is_some()
    }

    fn cpuset(&self, _task: &Task) -> Option<Cpuset> {
        *self.cpuset.lock().unwrap()
    }

    fn memalloc_role(&self, _task: &Task) -> MemallocRole {
        self.role.lock().unwrap().unwrap_or(MemallocRole::Ordinary)
    }

    fn oom(&self, report: &AllocReport, _task: &Task) -> OomOutcome {
        match &mut *self.oom.lock().unwrap() {
            Some(oom) => oom(report),
            None => OomOutcome::NoVictim,
        }
    }

    fn alloc_failed(&self, report: &AllocReport, _context: ContextKind) {
        self.failed.lock().unwrap().push(*report);
    }

    fn zero(&self, pfn: Pfn, order: Order) {
        self.zeroed.lock().unwrap().push((pfn, order));
    }

    fn report(&self, error: &FreeError) {
        self.faults.lock().unwrap().push(*error);
    }

    fn step(&self, _step: &'static Step) {
        if self.is_explored.load(Ordering::Relaxed) {
            // A load of one of shuttle's atomics is a place to switch at.
            let place = shuttle::sync::atomic::AtomicBool::new(false);
            switched(|| _ = place.load(Ordering::SeqCst));
        }
        self.take_interrupts();
        // The hook is taken out while it runs, so that it does not interrupt itself.
        if let Some(mut step) = STEP.take() {
            step();
            STEP.with(|slot| {
                slot.borrow_mut().get_or_insert(step);
            });
        }
    }

    fn point(&self, point: Point) {
        if let Some(mut hook) = POINT.take() {
            hook(point);
            POINT.with(|slot| {
                slot.borrow_mut().get_or_insert(hook);
            });
        }
    }
}

/// Runs code that may switch to another of shuttle's threads, which share this thread's variables.
fn switched(switch: impl FnOnce()) {
    if std::thread::panicking() {
        // The execution is over, and its blocks are being dropped.
        return;
    }
    let (cpu, off) = (CPU.get(), OFF.get());
    switch();
    CPU.set(cpu);
    OFF.set(off);
}

/// Runs `body` as another CPU.
pub(crate) fn on_cpu<R>(cpu: usize, body: impl FnOnce() -> R) -> R {
    let before = CPU.replace(cpu);
    let result = body();
    CPU.set(before);
    result
}

/// Returns whether interrupts are off on this thread's CPU.
pub(crate) fn irqs_are_off() -> bool {
    OFF.get() > 0
}

/// Returns how often this thread has turned interrupts off.
pub(crate) fn irqs_turned_off() -> u64 {
    TURNED_OFF.get()
}

/// Calls `hook` at every step of this thread, until the guard is dropped.
pub(crate) fn at_steps(hook: impl FnMut() + 'static) -> HookGuard {
    STEP.set(Some(Box::new(hook)));
    HookGuard
}

/// Calls `hook` at every schedule point that this thread reaches, until the guard is dropped.
pub(crate) fn at_points(hook: impl FnMut(Point) + 'static) -> HookGuard {
    POINT.set(Some(Box::new(hook)));
    HookGuard
}

#[must_use = "the hook is gone when this is dropped"]
pub(crate) struct HookGuard;

impl Drop for HookGuard {
    fn drop(&mut self) {
        STEP.set(None);
        POINT.set(None);
    }
}

#[expect(unsafe_code, reason = "a test establishes its contexts itself")]
pub(crate) fn task() -> Task {
    // SAFETY: a test's thread stands for a task, and holds no lock here.
    unsafe { Task::mint() }
}

#[expect(unsafe_code, reason = "a test establishes its contexts itself")]
pub(crate) fn hard_irq() -> HardIrq {
    // SAFETY: the caller plays an interrupt handler.
    unsafe { HardIrq::mint() }
}

#[expect(unsafe_code, reason = "a test establishes its contexts itself")]
pub(crate) fn nmi() -> tidemark_sync::Nmi {
    // SAFETY: the caller plays an NMI handler.
    unsafe { tidemark_sync::Nmi::mint() }
}

/// Demands that the oracle finds nothing wrong, and that no error was reported.
#[track_caller]
pub(crate) fn assert_sound(frames: &TestFrames) -> Census {
    let faults = frames.platform().faults.lock().unwrap();
    assert!(faults.is_empty(), "faults: {faults:?}");
    frames.validate_at_rest().unwrap()
}

/// Returns a test's owner.
pub(crate) const fn test_owner(number: u32) -> Owner {
    Owner::new(OwnerKind::Test, number)
}
