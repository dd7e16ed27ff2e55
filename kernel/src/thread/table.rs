//! The thread table: one slot for each thread, in static memory, so never in memory that may leave.

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

/// Number of all slots.
pub(super) const MAX_THREADS: usize = MAX_CPUS + MAX_SPAWNED;

/// The function that a thread executes. When it returns, the thread ends.
pub type Entry = fn(&Task, usize);

/// The identity of one thread for as long as the kernel runs. A slot's next occupant has another
/// id.
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

    /// Returns whether the thread has not ended.
    pub fn is_alive(self) -> bool {
        // Acquire pairs with the Release in `retire`: code that finds the thread ended sees what
        // the thread did before its end.
        thread(self.slot).generation.load(Acquire) == self.generation
    }

    /// Returns one word that names the thread, never 0.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | (u64::from(self.slot) + 1)
    }

    /// Returns the id that [`ThreadId::to_bits`] turned into this word; nothing for 0.
    pub fn from_bits(bits: u64) -> Option<Self> {
        let slot = (bits as u32).checked_sub(1)?;
        Some(Self {
            slot: slot as Slot,
            generation: (bits >> 32) as u32,
        })
    }

    /// Returns a number for logs: the slot.
    pub fn number(self) -> u32 {
        u32::from(self.slot)
    }
}

/// The CPU on which a new thread runs, from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// This CPU.
    Cpu(CpuId),
    /// The online CPU that has the fewest threads.
    Any,
}

/// A reason why a thread was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// Every slot with a stack is taken.
    NoSlot,
    /// That CPU is absent, stopped, or has not entered the scheduler.
    CpuOffline(CpuId),
}

/// A reason why a thread was not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// A thread cannot wait for its own end.
    Itself,
}

/// The state of a thread's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The slot has no thread.
    Free = 0,
    /// The thread is being created.
    New = 1,
    /// The thread waits for its turn.
    Ready = 2,
    /// The thread runs.
    Running = 3,
    /// The thread waits for a wake-up or a deadline.
    Blocked = 4,
    /// The thread has ended; its stack is still in use for the last switch.
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

/// A slot of the thread table.
pub(super) struct Thread {
    /// Address of the saved registers while the thread does not run. Its CPU writes it in the
    /// switch. Others read it for backtraces only, and check it against the stack's bounds.
    pub(super) rsp: AtomicU64,
    /// The state, changed under the scheduler lock of `home` with two exceptions. The creator
    /// changes Free to New by a compare-and-swap, and `home` itself stores Free over Dead. Reports
    /// read it without the lock.
    state: AtomicU8,
    /// Whether a wake-up came while the thread was not blocked. It is changed under the scheduler
    /// lock of `home`.
    pub(super) permit: AtomicBool,
    /// The thread's [`Priority`]. The creator writes it before the thread is ready.
    priority: AtomicU8,
    /// The thread's CPU. The creator writes it before the thread is ready.
    home: AtomicU32,
    /// Number of the slot's past occupants; it rises when one has ended.
    pub(super) generation: AtomicU32,
    /// Ticks that are left of the thread's turn; 0 while it waits for a new one. It is changed
    /// under the scheduler lock of `home`.
    pub(super) quantum: AtomicU32,
    /// Time on the CPU up to the last switch away, in nanoseconds. It is written by `home` only.
    pub(super) cpu_time_ns: AtomicU64,
    /// The thread's [`Entry`], with its argument in the next field. The creator writes both before
    /// the thread is ready.
    pub(super) entry: Hook<Entry>,
    pub(super) arg: AtomicUsize,
    /// The bytes of the name. Reports read them without a lock, and tolerate a mixture of two
    /// names.
    name: [AtomicU64; 2],
    /// The thread's cpuset and roles ([`super::Memory`]). Any context writes it.
    pub(super) memory: AtomicU64,
    /// The threads that wait for the end of this one.
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
        // Acquire pairs with the Release in `retire`: the last occupant is done with the slot and
        // its stack.
        self.state
            .compare_exchange(State::Free as u8, State::New as u8, Acquire, Relaxed)
            .is_ok()
    }

    /// Gives back the slot of a thread that ended and was switched away from.
    pub(super) fn retire(&self) {
        debug_assert_eq!(self.state(), State::Dead);
        self.forget_memory();
        // Release pairs with the Acquire in `ThreadId::is_alive`.
        self.generation.fetch_add(1, Release);
        // Release pairs with the Acquire in `claim`.
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

/// The successors in the run queues. The scheduler lock of the thread's CPU guards each entry.
pub(super) static RUN_LINKS: Links<MAX_THREADS> = Links::new();

/// The deadlines. The scheduler lock of the thread's CPU guards each entry.
pub(super) static DEADLINES: Deadlines<MAX_THREADS> = Deadlines::new();

/// The successors in the wait queues. The lock of the queue that the thread is on guards each
/// entry.
pub(super) static WAIT_LINKS: Links<MAX_THREADS> = Links::new();

/// Returns the thread in a slot.
pub(super) fn thread(slot: Slot) -> &'static Thread {
    &TABLE[slot as usize]
}

/// Returns the slot of the running thread; in a handler, that of the interrupted one. Returns none
/// before the CPU has entered the scheduler. Any context may call it.
pub(super) fn current_slot() -> Option<Slot> {
    let at = percpu::thread().addr();
    if at == 0 {
        return None;
    }
    Some(((at - TABLE.as_ptr().addr()) / size_of::<Thread>()) as Slot)
}

/// Returns the running thread; in a handler, the interrupted one. Returns none before the CPU has
/// entered the scheduler. Any context may call it.
#[inline]
pub(super) fn current_thread() -> Option<&'static Thread> {
    // SAFETY: only `set_current` stores it, and it stores only threads of the table, which is
    // static.
    unsafe { percpu::thread().cast::<Thread>().cast_const().as_ref() }
}

/// Makes the thread in `slot` the running one. Interrupts are off.
pub(super) fn set_current(slot: Slot) {
    percpu::set_thread(core::ptr::from_ref(thread(slot)).cast_mut().cast());
}

/// Returns the running thread; in a handler, the interrupted one. Returns none before the CPU has
/// entered the scheduler. Any context may call it, an NMI included.
pub fn current() -> Option<ThreadId> {
    current_slot().map(ThreadId::new)
}
