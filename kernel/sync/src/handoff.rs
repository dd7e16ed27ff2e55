//! A try-lock for draining queues. A caller that finds it taken leaves, and the records that it
//! queued are never stranded.
//!
//! | state | meaning | what changes it |
//! |---|---|---|
//! | FREE | no CPU drains | an offer: OWNED |
//! | OWNED | the owner drains | an offer: AGAIN; the owner: FREE |
//! | AGAIN | a record may have come after the owner looked | the owner: OWNED, and it looks again |

use crate::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const OWNED: u32 = 1;
const AGAIN: u32 = 2;

/// The result of [`Handoff::offer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Offer {
    /// The caller owns the queues now. It drains them and calls [`Handoff::finish`] until that
    /// returns [`Finish::Done`].
    Owner,
    /// Another caller owns the queues, and will look at them once more after this.
    Left,
}

/// The result of [`Handoff::finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Finish {
    /// The caller no longer owns the queues.
    Done,
    /// Something came meanwhile: the caller still owns the queues and drains them again.
    DrainAgain,
}

/// The state of the ownership; the table in the module's documentation lists the states.
#[derive(Debug)]
pub struct Handoff {
    state: AtomicU32,
}

impl Handoff {
    /// Returns a hand-off without an owner.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Handoff {
            state: AtomicU32::new(FREE),
        }
    }

    /// Returns a hand-off without an owner.
    #[cfg(loom)]
    pub fn new() -> Self {
        Handoff {
            state: AtomicU32::new(FREE),
        }
    }

    /// Offers to drain, after the caller has put something into a queue. Never waits for the owner.
    /// Any context may call it.
    pub fn offer(&self) -> Offer {
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            let next = if seen == FREE { OWNED } else { AGAIN };
            // AGAIN → AGAIN is a write as well: its Release publishes what we queued to the owner's
            // Acquire in `finish`. A mere load would be ordered after nothing, and the owner could
            // miss our record. Acquire on FREE → OWNED pairs with the Release in `finish`: we see
            // how far the last owner came.
            match self
                .state
                .compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(FREE) => return Offer::Owner,
                Ok(_) => return Offer::Left,
                Err(now) => seen = now,
            }
        }
    }

    /// Gives up the ownership, unless an offer came since the owner last looked. Only the owner may
    /// call it.
    pub fn finish(&self) -> Finish {
        match self
            .state
            .compare_exchange(OWNED, FREE, Ordering::Release, Ordering::Relaxed)
        {
            Ok(_) => Finish::Done,
            Err(_) => {
                // Acquire pairs with the Release of every offer that found us here.
                self.state.swap(OWNED, Ordering::Acquire);
                Finish::DrainAgain
            }
        }
    }

    /// Gives up the ownership although records may be left; the caller makes sure that another
    /// offer follows. Only the owner may call it.
    pub fn abandon(&self) {
        // A swap, not a store: the next owner's Acquire must reach the offers that found us here,
        // too.
        self.state.swap(FREE, Ordering::AcqRel);
    }
}

impl Default for Handoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[path = "handoff_tests.rs"]
mod tests;
