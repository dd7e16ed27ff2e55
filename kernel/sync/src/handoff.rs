//! A try-lock for draining queues: whoever finds it taken leaves, and what it left behind is never
//! stranded.
//!
//! | state | meaning | who moves it on |
//! |---|---|---|
//! | FREE | nobody drains | an offer: OWNED |
//! | OWNED | the owner drains | an offer: AGAIN; the owner: FREE |
//! | AGAIN | something may have come after the owner looked | the owner: OWNED, and it looks again |

use crate::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const OWNED: u32 = 1;
const AGAIN: u32 = 2;

/// What an offer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Offer {
    /// The caller owns the queues now: it drains them and calls [`Handoff::finish`] until that says
    /// [`Finish::Done`].
    Owner,
    /// Somebody else does, and will look at the queues once more after this.
    Left,
}

/// What an owner finds when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Finish {
    /// The caller is not the owner any more.
    Done,
    /// Something came meanwhile: the caller is still the owner and drains again.
    DrainAgain,
}

/// The state of the ownership; see the module.
#[derive(Debug)]
pub struct Handoff {
    state: AtomicU32,
}

impl Handoff {
    /// Returns a hand-off that nobody owns.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Handoff {
            state: AtomicU32::new(FREE),
        }
    }

    /// Returns a hand-off that nobody owns.
    #[cfg(loom)]
    pub fn new() -> Self {
        Handoff {
            state: AtomicU32::new(FREE),
        }
    }

    /// Offers to drain, after the caller has put something into a queue. Never waits for the owner.
    pub fn offer(&self) -> Offer {
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            let next = if seen == FREE { OWNED } else { AGAIN };
            // AGAIN → AGAIN is a write as well: its Release publishes what we queued to the owner's
            // Acquire in `finish`. A mere load would be ordered after nothing, and the owner could
            // miss our record. Acquire on FREE → OWNED, with the Release in `finish`: we see how
            // far the last owner came.
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

    /// Gives the ownership up, unless somebody left something since the owner looked last. For the
    /// owner only.
    pub fn finish(&self) -> Finish {
        match self
            .state
            .compare_exchange(OWNED, FREE, Ordering::Release, Ordering::Relaxed)
        {
            Ok(_) => Finish::Done,
            Err(_) => {
                // Acquire, with the Release of every offer that found us here.
                self.state.swap(OWNED, Ordering::Acquire);
                Finish::DrainAgain
            }
        }
    }

    /// Gives the ownership up although something may be left; the caller sees to it that somebody
    /// offers again. For the owner only.
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
