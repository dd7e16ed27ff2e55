//! Preemptive kernel threads: run queues, sleep and wake, timers, a sleeping mutex, and bringing
//! the machine to rest.
//!
//! A thread stays on the CPU that it was placed on. One lock, the scheduler lock of that CPU,
//! therefore guards everything that decides about it: its state, its place in a queue, its timer.
//! Only that CPU ever switches to or from it. So another CPU can wake a thread that is being
//! switched away from, but cannot run it.
//!
//! Lock order: the wait queue's lock comes before the scheduler's. No thread code takes a second
//! lock of either kind.

pub mod grace;
mod info;
mod links;
mod memory;
mod mutex;
pub mod quiesce;
mod runqueue;
mod sched;
mod stack;
mod switch;
mod table;
mod timer;
mod wait;

pub use info::{ThreadInfo, for_each_thread, stack_bounds_of, state_of};
pub use memory::{Memory, Reclaiming, any_cpuset, current_memory, set_cpuset, set_victim};
pub use mutex::Mutex;
pub use runqueue::Priority;
pub use sched::{idle, init_cpu, join, sleep_ns, sleep_until, spawn, yield_now};
pub use stack::init;
pub use table::{Entry, Placement, SpawnError, State, ThreadId, current};
pub use tidemark_sync::queue::Queue as Ring;
pub use wait::{DeferredWake, Event, TimedOut, WaitQueue};
