//! A CPU: a thread, with the words that its interrupts and its task share.

use crate::{
    random::Random,
    signals::{self, Signal},
};
use std::{
    cell::Cell,
    ptr,
    sync::atomic::{
        AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*,
    },
};
use tidemark_frames::Step;
use tidemark_sync::{ContextKind, CpuGate, HeldRanks};

/// The most CPUs of a run.
pub const MAX_CPUS: usize = 16;

/// What a CPU's task is doing, for the watchdog's report.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Doing {
    Nothing,
    Alloc,
    AllocBulk,
    Free,
    Split,
    ReadPages,
    DropPage,
    Reclaim,
    HandOn,
    Offline,
    Online,
    Rebuild,
    Validate,
    WaitForDrains,
    WaitForGrace,
    WaitForEven,
    WaitForOthers,
    Hang,
}

impl Doing {
    const ALL: [Self; 18] = [
        Self::Nothing,
        Self::Alloc,
        Self::AllocBulk,
        Self::Free,
        Self::Split,
        Self::ReadPages,
        Self::DropPage,
        Self::Reclaim,
        Self::HandOn,
        Self::Offline,
        Self::Online,
        Self::Rebuild,
        Self::Validate,
        Self::WaitForDrains,
        Self::WaitForGrace,
        Self::WaitForEven,
        Self::WaitForOthers,
        Self::Hang,
    ];
}

/// One CPU. Only its own thread writes to it, in any context, unless a field says otherwise.
pub struct Cpu {
    /// Its number.
    pub number: usize,
    /// The gate of the CPU's caches.
    pub gate: CpuGate,
    /// Number of pins held.
    pub pins: AtomicU32,
    /// Number of open interrupts-off sections.
    pub irqs_off: AtomicU32,
    /// Whether interrupts were off before the outermost one.
    pub were_off: AtomicBool,
    /// The ranks of the locks held, for the lock validator.
    pub held: HeldRanks,
    /// The thread's number in the kernel.
    pub thread: AtomicI32,
    /// The timers of interrupts and NMIs.
    pub timers: [AtomicPtr<libc::c_void>; 2],
    /// The number of the drain that was asked for last. Other CPUs add to it.
    pub drain_asked: AtomicU32,
    /// The number of the drain that its handler has served last.
    pub drain_done: AtomicU32,
    /// Whether the CPU must acknowledge a grace period. Other CPUs set it.
    pub grace_asked: AtomicBool,
    /// Random choices, by context.
    pub random: [Random; 3],
    /// Turns of the wait for an even counter.
    pub turns: AtomicU32,
    /// Operations that its task has finished. The watchdog reads it.
    pub operations: AtomicU64,
    context: AtomicUsize,
    doing: AtomicU32,
    step: AtomicPtr<Step>,
    /// Steps of the allocator until one is interrupted.
    countdown: AtomicU32,
}

static CPUS: [Cpu; MAX_CPUS] = {
    let mut cpus = [const { Cpu::new(0) }; MAX_CPUS];
    let mut number = 0;
    while number < MAX_CPUS {
        cpus[number].number = number;
        number += 1;
    }
    cpus
};
static COUNT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The number of this thread's CPU. It has no destructor and needs no initialisation, so that
    /// signal handlers may read it.
    static HERE: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl Cpu {
    const fn new(number: usize) -> Self {
        Self {
            number,
            gate: CpuGate::new(),
            pins: AtomicU32::new(0),
            irqs_off: AtomicU32::new(0),
            were_off: AtomicBool::new(false),
            held: HeldRanks::new(),
            thread: AtomicI32::new(0),
            timers: [const { AtomicPtr::new(ptr::null_mut()) }; 2],
            drain_asked: AtomicU32::new(0),
            drain_done: AtomicU32::new(0),
            grace_asked: AtomicBool::new(false),
            random: [const { Random::new() }; 3],
            turns: AtomicU32::new(0),
            operations: AtomicU64::new(0),
            context: AtomicUsize::new(ContextKind::Task as usize),
            doing: AtomicU32::new(Doing::Nothing as u32),
            step: AtomicPtr::new(ptr::null_mut()),
            countdown: AtomicU32::new(1_000),
        }
    }

    /// Returns the context that runs.
    pub fn context(&self) -> ContextKind {
        match self.context.load(Relaxed) {
            0 => ContextKind::Task,
            1 => ContextKind::HardIrq,
            _ => ContextKind::Nmi,
        }
    }

    /// Records that a context begins; returns the one that it interrupts, for [`Cpu::leave`].
    pub fn enter(&self, context: ContextKind) -> usize {
        self.context.swap(context as usize, Relaxed)
    }

    /// Records that a context ends.
    pub fn leave(&self, interrupted: usize) {
        self.context.store(interrupted, Relaxed);
    }

    /// Returns the random choices of the context that runs.
    pub fn random(&self) -> &Random {
        &self.random[self.context.load(Relaxed)]
    }

    /// Records what the task is doing; returns what it was doing before.
    pub fn doing(&self, doing: Doing) -> Doing {
        Doing::ALL[self.doing.swap(doing as u32, Relaxed) as usize]
    }

    /// Records that the task has finished an operation.
    pub fn goes_on(&self) {
        // Only this CPU adds to it.
        let operations = self.operations.load(Relaxed);
        self.operations.store(operations + 1, Relaxed);
    }

    /// Stops the CPU for up to 200 µs, as a hypervisor may do; the others go on. Any context.
    pub fn is_stolen(&self) {
        let time = libc::timespec {
            tv_sec: 0,
            tv_nsec: self.random().below(200_000) as libc::c_long,
        };
        // SAFETY: the time is initialised; the call is async-signal-safe.
        unsafe { libc::nanosleep(&time, ptr::null_mut()) };
    }

    /// Records that a step of the allocator is reached. Now and then an interrupt or an NMI comes
    /// right there, or the CPU is stopped.
    pub fn at_step(&self, step: &'static Step) {
        self.step.store(ptr::from_ref(step).cast_mut(), Relaxed);
        let left = self.countdown.load(Relaxed);
        if left > 0 {
            return self.countdown.store(left - 1, Relaxed);
        }
        let random = self.random();
        self.countdown
            .store(100 + random.below(600) as u32, Relaxed);
        match self.context() {
            _ if random.one_in(8) => self.is_stolen(),
            ContextKind::Task if random.one_in(2) => signals::raise(self, Signal::Irq),
            ContextKind::Task | ContextKind::HardIrq => signals::raise(self, Signal::Nmi),
            ContextKind::Nmi => {}
        }
    }

    /// Returns what the CPU was doing last, and the last step that it has reached.
    pub fn whereabouts(&self) -> String {
        let context = match self.context() {
            ContextKind::Task => "a task",
            ContextKind::HardIrq => "an interrupt",
            ContextKind::Nmi => "an NMI",
        };
        let doing = Doing::ALL[self.doing.load(Relaxed) as usize];
        let step = self.step.load(Relaxed);
        // SAFETY: it is null, or was a reference that lives for ever.
        let step = unsafe { step.as_ref() };
        let step = step.map_or_else(
            || "no step yet".to_owned(),
            |step| format!("last step {}:{}", step.file, step.line),
        );
        format!(
            "cpu{}: in {context}, its task at {doing:?}, {step}; {} pins, gate {}, \
             interrupts off {}, drains asked/done {}/{}",
            self.number,
            self.pins.load(Relaxed),
            if self.gate.is_open() {
                "open"
            } else {
                "closed"
            },
            self.irqs_off.load(Relaxed),
            self.drain_asked.load(Relaxed),
            self.drain_done.load(Relaxed),
        )
    }
}

/// Sets the number of CPUs, and seeds their choices. Boot calls it once.
pub fn boot(count: usize, seed: u64) {
    COUNT.store(count, Relaxed);
    for cpu in all() {
        for (context, random) in cpu.random.iter().enumerate() {
            random.seed(seed.wrapping_mul(64) + (cpu.number * 3 + context) as u64);
        }
    }
}

/// Returns the CPUs.
pub fn all() -> &'static [Cpu] {
    &CPUS[..COUNT.load(Relaxed)]
}

/// Returns the CPU of the task that plugs memory and rebuilds the zonelists. It is the only writer
/// of the counter.
pub fn of_hotplug() -> &'static Cpu {
    &CPUS[COUNT.load(Relaxed) - 1]
}

/// Returns the CPU that runs this.
pub fn here() -> &'static Cpu {
    &CPUS[HERE.with(Cell::get)]
}

/// Makes this thread a CPU, for good.
pub fn become_cpu(number: usize) {
    HERE.with(|here| here.set(number));
}
