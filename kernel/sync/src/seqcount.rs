//! The sequence counter of the zonelist protocols: bare, as in `seed`, where a reader never waits;
//! and with a seqlock's reader, which waits while it is odd.

use crate::atomic::{AtomicU32, Ordering, fence};
use core::ops::ControlFlow;

/// What a reader saw when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(u32);

impl Cookie {
    /// Returns whether a writer was inside when the counter was read.
    pub const fn is_odd(self) -> bool {
        self.0 & 1 == 1
    }

    /// Returns the counter's value.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// Makes a cookie of a counter's value.
    pub const fn from_value(value: u32) -> Self {
        Self(value)
    }
}

/// A counter that is odd while its one writer rewrites what it stands for. Writers are serialised
/// by a lock that the caller holds; anybody may read, in any context.
#[derive(Debug)]
pub struct SeqCount {
    value: AtomicU32,
}

impl Default for SeqCount {
    fn default() -> Self {
        Self::new()
    }
}

impl SeqCount {
    /// Returns an even counter.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            value: AtomicU32::new(0),
        }
    }

    /// Returns an even counter.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            value: AtomicU32::new(0),
        }
    }

    /// Reads the counter: a plain read that may find it odd and never waits.
    #[inline]
    pub fn begin(&self) -> Cookie {
        // Relaxed is what the seed has: loads of the entries may be satisfied before this one, and
        // a whole rebuild be missed (H9). On x86 only the compiler could do it.
        Cookie(self.value.load(Ordering::Relaxed))
    }

    /// Returns whether the counter changed since `cookie` was read, or is odd now.
    #[inline]
    pub fn changed_or_odd(&self, cookie: Cookie) -> bool {
        // The seed's smp_rmb: entries are read before the counter is read again. Pairs with the
        // writer's release fence: who saw a new entry sees the odd counter, too.
        fence_unless(LeftOut::ReadFence, Ordering::Acquire);
        let now = self.begin();
        now != cookie || now.is_odd()
    }

    /// Begins as a seqlock does: waits until the counter is even, for as long as `spin` says so.
    /// The cookie is odd if the wait was given up. Also returns how often it was found odd.
    #[inline]
    pub fn begin_even(&self, mut spin: impl FnMut() -> ControlFlow<()>) -> (Cookie, u32) {
        let mut found_odd = 0;
        loop {
            // Acquire pairs with the release in `make_even`: no entry is older than the count.
            let cookie = Cookie(self.value.load(Ordering::Acquire));
            if !cookie.is_odd() {
                return (cookie, found_odd);
            }
            found_odd = found_odd.saturating_add(1);
            if spin().is_break() {
                return (cookie, found_odd);
            }
        }
    }

    /// Checks as a seqlock does: returns whether the counter changed since `cookie` was read.
    #[inline]
    pub fn changed(&self, cookie: Cookie) -> bool {
        // Pairs with the release fence in `make_odd`, as in `changed_or_odd`.
        fence_unless(LeftOut::ReadFence, Ordering::Acquire);
        self.begin() != cookie
    }

    /// Runs `rewrite` while the counter is odd. The caller holds the writers' lock.
    #[inline]
    pub fn write<R>(&self, rewrite: impl FnOnce() -> R) -> R {
        self.make_odd();
        let result = rewrite();
        self.make_even();
        result
    }

    /// Begins a writer's part. The caller holds the writers' lock.
    #[inline]
    pub fn make_odd(&self) {
        self.make_odd_from(self.value.load(Ordering::Relaxed));
    }

    /// Ends the part of the writer that made the counter odd.
    #[inline]
    pub fn make_even(&self) {
        self.make_even_from(self.value.load(Ordering::Relaxed));
    }

    /// Begins a part, where the counter is `even` now.
    #[inline]
    fn make_odd_from(&self, even: u32) {
        debug_assert!(even & 1 == 0, "two writers inside one sequence counter");
        self.value.store(even.wrapping_add(1), Ordering::Relaxed);
        // The seed's first smp_wmb: "odd" is visible before any new entry. Pairs with the acquire
        // fence in `changed_or_odd`. (A releasing increment would not order the stores after it.)
        fence_unless(LeftOut::FirstWriteFence, Ordering::Release);
    }

    /// Ends a part, where the counter is `odd` now.
    #[inline]
    fn make_even_from(&self, odd: u32) {
        debug_assert!(odd & 1 == 1, "the end of a writer that did not begin");
        // The seed's second smp_wmb: every new entry is visible before "even" is.
        let release = if is_left_out(LeftOut::SecondWrite) {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        self.value.store(odd.wrapping_add(1), release);
    }
}

/// An ordering that x86 gives for nothing, left out: what only a model can miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeftOut {
    /// The reader's fence before it reads the counter again.
    ReadFence,
    /// The writer's fence after the first increment.
    FirstWriteFence,
    /// The writer's release with the second increment.
    SecondWrite,
}

#[cfg(all(test, loom))]
std::thread_local! {
    static LEFT_OUT: core::cell::Cell<Option<LeftOut>> = const { core::cell::Cell::new(None) };
}

/// Returns whether a model leaves this one out; outside models never.
#[inline(always)]
fn is_left_out(left_out: LeftOut) -> bool {
    #[cfg(all(test, loom))]
    return LEFT_OUT.get() == Some(left_out);
    #[cfg(not(all(test, loom)))]
    {
        let _ = left_out;
        false
    }
}

/// Fences, unless a model leaves it out.
#[inline(always)]
fn fence_unless(left_out: LeftOut, ordering: Ordering) {
    if !is_left_out(left_out) {
        fence(ordering);
    }
}

#[cfg(test)]
#[path = "seqcount_tests.rs"]
mod tests;
