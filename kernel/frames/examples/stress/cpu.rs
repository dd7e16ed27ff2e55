//! A CPU: a thread that stays what it is, with the words that its interrupts and its task share.

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

/// What a CPU's task is at: for the watchdog's report.
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
    /// The allocator's word about the gated section that is open.
    pub gate: CpuGate,
    /// Pins that are open.
    pub pins: AtomicU32,
    /// Gated sections with interrupts off that are open.
    pub irqs_off: AtomicU32,
    /// Whether interrupts were off before the outermost of them.
    pub were_off: AtomicBool,
    /// The lock validator's.
    pub held: HeldRanks,
    /// The thread, by the kernel's number.
    pub thread: AtomicI32,
    /// The timers of interrupts and NMIs.
    pub timers: [AtomicPtr<libc::c_void>; 2],
    /// The number of the drain that was asked for last. Others add to it.
    pub drain_asked: AtomicU32,
    /// The number of the drain that its handler has served last.
    pub drain_done: AtomicU32,
    /// Whether it is to acknowledge a grace period. Others set it.
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
    /// The number of the CPU that this thread is. It has no destructor and needs no initialisation,
    /// so that signal handlers may read it.
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

    /// The context that runs.
    pub fn context(&self) -> ContextKind {
        match self.context.load(Relaxed) {
            0 => ContextKind::Task,
            1 => ContextKind::HardIrq,
            _ => ContextKind::Nmi,
        }
    }

    /// Notes that a context begins; returns what it interrupts, for [`Cpu::leave`].
    pub fn enter(&self, context: ContextKind) -> usize {
        self.context.swap(context as usize, Relaxed)
    }

    /// Notes that a context ends.
    pub fn leave(&self, interrupted: usize) {
        self.context.store(interrupted, Relaxed);
    }

    /// The random choices of the context that runs.
    pub fn random(&self) -> &Random {
        &self.random[self.context.load(Relaxed)]
    }

    /// Notes what the task is at; returns what it was at before.
    pub fn doing(&self, doing: Doing) -> Doing {
        Doing::ALL[self.doing.swap(doing as u32, Relaxed) as usize]
    }

    /// Notes that the task has finished an operation.
    pub fn goes_on(&self) {
        // Nobody else adds to it.
        let operations = self.operations.load(Relaxed);
        self.operations.store(operations + 1, Relaxed);
    }

    /// Takes the CPU away from what runs, for up to 200 µs, as a hypervisor does: the others go on.
    /// Any context.
    pub fn is_stolen(&self) {
        let time = libc::timespec {
            tv_sec: 0,
            tv_nsec: self.random().below(200_000) as libc::c_long,
        };
        // SAFETY: the time is initialised; the call is async-signal-safe.
        unsafe { libc::nanosleep(&time, ptr::null_mut()) };
    }

    /// Notes that a step of the allocator is reached. Now and then an interrupt or an NMI comes
    /// right there, or the CPU is stolen.
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

    /// Where it is, as far as it has said so.
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

/// Says how many CPUs there are, and seeds their choices. Once, at boot.
pub fn boot(count: usize, seed: u64) {
    COUNT.store(count, Relaxed);
    for cpu in all() {
        for (context, random) in cpu.random.iter().enumerate() {
            random.seed(seed.wrapping_mul(64) + (cpu.number * 3 + context) as u64);
        }
    }
}

/// The CPUs.
pub fn all() -> &'static [Cpu] {
    &CPUS[..COUNT.load(Relaxed)]
}

/// The CPU whose task plugs memory and rebuilds the zonelists: the only writer of the counter.
pub fn of_hotplug() -> &'static Cpu {
    &CPUS[COUNT.load(Relaxed) - 1]
}

/// The CPU that runs this.
pub fn here() -> &'static Cpu {
    &CPUS[HERE.with(Cell::get)]
}

/// Makes this thread a CPU, for good.
pub fn become_cpu(number: usize) {
    HERE.with(|here| here.set(number));
}
