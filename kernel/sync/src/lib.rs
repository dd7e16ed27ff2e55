//! What CPUs and contexts need in order to share data: context tokens, counted sections with
//! interrupts off, ranked spinlocks, hooks, queues and rings. The crate also has the zonelists'
//! bare sequence counter, grace periods, and atomics that a model checker can replace.
#![cfg_attr(not(any(test, loom)), no_std)]

pub mod atomic;
pub mod context;
pub mod counted;
mod gate;
pub mod grace;
pub mod handoff;
mod hook;
mod irq;
mod once_ref;
mod plain;
pub mod queue;
mod rank;
pub mod ratelimit;
pub mod ring;
mod seqcount;
mod spinlock;

pub use context::{Context, ContextKind, HardIrq, Nmi, Task};
pub use gate::CpuGate;
pub use hook::{Hook, Hooks};
pub use irq::{IrqOff, LocalIrq};
pub use once_ref::{OnceOr, OnceRef};
pub use plain::{SpinGuard, SpinLock};
pub use rank::{HeldRanks, Rank};
pub use ratelimit::{RateLimit, Say};
pub use seqcount::{Cookie, SeqCount};
pub use spinlock::{IrqSpinGuard, IrqSpinLock};
