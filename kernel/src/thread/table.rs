//! The thread table: one slot per thread, in static memory, never from memory that may leave.

use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use super::{
    links::{Links, Slot},
    runqueue::Priority,
    timer::Deadlines,
    wait::WaitQueue,
};
use crate::arch::context::Task;
use crate::arch::percpu::{self, CpuId, MAX_CPUS};
use tidemark_sync::{Hook, hook};

/// Slots for threads other than the idle ones, whose slots are their CPUs' numbers.
pub(super) const MAX_SPAWNED: usize = 448;

/// All slots.
pub(super) const MAX_THREADS: usize = MAX_CPUS + MAX_SPAWNED;

/// What a thread executes; when it returns, the thread ends.
pub type Entry = fn(&Task, usize);

/// Names one thread for as long as the kernel runs: a slot's next occupant has another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThreadId {
    slot: Slot,
    generation: u32,
}

impl ThreadId {
    pub(super) fn new(slot: Slot) -> Self {
        Self {
            slot,
            generation: thread(slot).generation.load(Acquire),
        }
    }

    pub(super) fn slot(self) -> Slot {
        self.slot
    }

    /// Whether the thread has not ended.
    pub fn is_alive(self) -> bool {
        // Acquire: pairs with the Release in `retire`; what the thread did before its end is
        // visible to whoever finds it ended.
        thread(self.slot).generation.load(Acquire) == self.generation
    }

    /// One word that names the thread, never 0.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | (u64::from(self.slot) + 1)
    }

    /// What [`ThreadId::to_bits`] made a word of; nothing for 0.
    pub fn from_bits(bits: u64) -> Option<Self> {
        let slot = (bits as u32).checked_sub(1)?;
        Some(Self {
            slot: slot as Slot,
            generation: (bits >> 32) as u32,
        })
    }

    /// A number for logs: the slot.
    pub fn number(self) -> u32 {
        u32::from(self.slot)
    }
}

/// Where a new thread runs, from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On this CPU.
    Cpu(CpuId),
    /// On the online CPU that has the fewest threads.
    Any,
}

/// Why a thread was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// Every slot with a stack is taken.
    NoSlot,
    /// That CPU is absent, stopped, or has not entered the scheduler.
    CpuOffline(CpuId),
}

/// Why a thread was not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// A thread cannot wait for its own end.
    Itself,
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The slot has no thread.
    Free = 0,
    /// Being created.
    New = 1,
    /// Waits for its turn.
    Ready = 2,
    /// Runs.
    Running = 3,
    /// Waits for a wake-up or a deadline.
    Blocked = 4,
    /// Has ended; its stack is still in use for the last switch.
    Dead = 5,
}

impl State {
    fn from_u8(value: u8) -> Self {
        match value {
            0 => State::Free,
            1 => State::New,
            2 => State::Ready,
            3 => State::Running,
            4 => State::Blocked,
            _ => State::Dead,
        }
    }
}

/// One slot.
pub(super) struct Thread {
    /// Where the saved registers lie while the thread does not run. Written by its CPU in the
    /// switch; others read it for backtraces only, and check it against the stack's bounds.
    pub(super) rsp: AtomicU64,
    /// Under the scheduler lock of `home`, but for Free → New, a compare-and-swap by the creator,
    /// and Dead → Free, a store by `home` itself. Read without the lock by reports.
    state: AtomicU8,
    /// A wake-up came while the thread was not blocked. Under the scheduler lock of `home`.
    pub(super) permit: AtomicBool,
    /// [`Priority`]; written by the creator before the thread is ready.
    priority: AtomicU8,
    /// The thread's CPU; written by the creator before the thread is ready.
    home: AtomicU32,
    /// Counts the slot's occupants; moves on when one has ended.
    pub(super) generation: AtomicU32,
    /// Ticks that are left of the thread's turn; 0 while it waits for a new one. Under the
    /// scheduler lock of `home`.
    pub(super) quantum: AtomicU32,
    /// Time on the CPU up to the last switch away. Written by `home` only.
    pub(super) cpu_time_ns: AtomicU64,
    /// [`Entry`] and its argument; written by the creator before the thread is ready.
    pub(super) entry: Hook<Entry>,
    pub(super) arg: AtomicUsize,
    /// The name's bytes. Read without a lock by reports, which tolerate a mixture.
    name: [AtomicU64; 2],
    /// What memory it may use ([`super::Memory`]). Written by anybody, in any context.
    pub(super) memory: AtomicU64,
    /// Threads waiting for the end of this one.
    pub(super) ended: WaitQueue,
}

impl Thread {
    const fn new() -> Self {
        Self {
            rsp: AtomicU64::new(0),
            state: AtomicU8::new(State::Free as u8),
            permit: AtomicBool::new(false),
            priority: AtomicU8::new(Priority::Normal as u8),
            home: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            quantum: AtomicU32::new(0),
            cpu_time_ns: AtomicU64::new(0),
            entry: hook!(fn(&Task, usize)),
            arg: AtomicUsize::new(0),
            name: [const { AtomicU64::new(0) }; 2],
            memory: AtomicU64::new(0),
            ended: WaitQueue::new(),
        }
    }

    pub(super) fn state(&self) -> State {
        State::from_u8(self.state.load(Relaxed))
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    /// Takes a free slot for a new thread.
    pub(super) fn claim(&self) -> bool {
        // Acquire: pairs with the Release in `retire`, so that the last occupant is done with the
        // slot and its stack.
        self.state
            .compare_exchange(State::Free as u8, State::New as u8, Acquire, Relaxed)
            .is_ok()
    }

    /// Gives back the slot of a thread that ended and was switched away from.
    pub(super) fn retire(&self) {
        debug_assert_eq!(self.state(), State::Dead);
        self.forget_memory();
        // Release: pairs with `ThreadId::is_alive`.
        self.generation.fetch_add(1, Release);
        // Release: pairs with `claim`.
        self.state.store(State::Free as u8, Release);
    }

    pub(super) fn priority(&self) -> Priority {
        match self.priority.load(Relaxed) {
            0 => Priority::Low,
            1 => Priority::Normal,
            2 => Priority::High,
            _ => Priority::Top,
        }
    }

    pub(super) fn home(&self) -> CpuId {
        CpuId(self.home.load(Relaxed) as usize)
    }

    pub(super) fn describe(&self, name: &str, home: CpuId, priority: Priority) {
        let mut bytes = [0; 16];
        let length = name.len().min(16);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        let (first, second) = bytes.split_at(8);
        for (word, part) in self.name.iter().zip([first, second]) {
            let mut raw = [0; 8];
            raw.copy_from_slice(part);
            word.store(u64::from_le_bytes(raw), Relaxed);
        }
        self.home.store(home.0 as u32, Relaxed);
        self.priority.store(priority as u8, Relaxed);
        self.permit.store(false, Relaxed);
        self.quantum.store(0, Relaxed);
        self.cpu_time_ns.store(0, Relaxed);
    }

    pub(super) fn name_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (part, word) in bytes.chunks_exact_mut(8).zip(&self.name) {
            part.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        bytes
    }
}

static TABLE: [Thread; MAX_THREADS] = [const { Thread::new() }; MAX_THREADS];

/// Successors in the run queues; each entry under the scheduler lock of the thread's CPU.
pub(super) static RUN_LINKS: Links<MAX_THREADS> = Links::new();

/// Deadlines; each entry under the scheduler lock of the thread's CPU.
pub(super) static DEADLINES: Deadlines<MAX_THREADS> = Deadlines::new();

/// Successors in the wait queues; each entry under the lock of the queue that the thread is on.
pub(super) static WAIT_LINKS: Links<MAX_THREADS> = Links::new();

/// The thread in a slot.
pub(super) fn thread(slot: Slot) -> &'static Thread {
    &TABLE[slot as usize]
}

/// The slot of the running thread; none before its CPU has entered the scheduler. Any context: in
/// a handler, the interrupted thread's.
pub(super) fn current_slot() -> Option<Slot> {
    let at = percpu::thread().addr();
    if at == 0 {
        return None;
    }
    Some(((at - TABLE.as_ptr().addr()) / size_of::<Thread>()) as Slot)
}

/// The running thread; none before its CPU has entered the scheduler. Any context: in a handler,
/// the interrupted one.
#[inline]
pub(super) fn current_thread() -> Option<&'static Thread> {
    // SAFETY: `set_current` alone stores it, and never anything but a thread of the table, which is
    // static.
    unsafe { percpu::thread().cast::<Thread>().cast_const().as_ref() }
}

/// Makes the thread in `slot` the running one. Interrupts are off.
pub(super) fn set_current(slot: Slot) {
    percpu::set_thread(core::ptr::from_ref(thread(slot)).cast_mut().cast());
}

/// Returns the running thread, in a handler the interrupted one; none before the CPU has entered
/// the scheduler. Any context, an NMI included.
pub fn current() -> Option<ThreadId> {
    current_slot().map(ThreadId::new)
}
