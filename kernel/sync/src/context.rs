//! Tokens that prove in which context code runs.
//!
//! A token is minted once, by the code that establishes the context (the thread trampoline, an
//! entry stub). It is lent out as `&Task`, `&HardIrq` or `&Nmi`. No token can leave the stack of
//! the CPU that it was minted on.

use core::marker::PhantomData;

/// The three contexts, for counters and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContextKind {
    /// A thread: may sleep, may be preempted.
    Task,
    /// A hard interrupt handler: maskable interrupts are off, and it may not sleep.
    HardIrq,
    /// A handler of non-maskable interrupts: it may have interrupted anything, and takes no lock.
    Nmi,
}

mod sealed {
    pub trait Sealed {}
}

/// A token that proves the context that code runs in.
pub trait Context: sealed::Sealed {
    /// Returns which context this is.
    fn kind(&self) -> ContextKind;

    /// Returns the task token, if this context may sleep.
    fn task(&self) -> Option<&Task>;
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $task:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            /// Not `Send`, not `Sync`: the proof is about the CPU and stack it was made on.
            _here: PhantomData<*const ()>,
        }

        impl $name {
            /// Mints a token.
            ///
            /// # Safety
            ///
            /// The caller runs in this context, and the token does not outlive it.
            pub const unsafe fn mint() -> Self {
                Self { _here: PhantomData }
            }
        }

        impl sealed::Sealed for $name {}

        impl Context for $name {
            #[inline]
            fn kind(&self) -> ContextKind {
                ContextKind::$name
            }

            #[inline]
            fn task(&self) -> Option<&Task> {
                let as_task: fn(&$name) -> Option<&Task> = $task;
                as_task(self)
            }
        }
    };
}

token!(
    /// Proof of running in a thread with no spinlock held. A function that may sleep takes it as an
    /// argument.
    Task,
    |task| Some(task)
);
token!(
    /// Proof of running in a hard interrupt handler, with interrupts off.
    HardIrq,
    |_| None
);
token!(
    /// Proof of running in an NMI handler. NMI code wakes no thread and takes no lock.
    Nmi,
    |_| None
);
