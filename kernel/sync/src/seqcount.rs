//! The sequence counter of the zonelist protocols. It has a bare reader, as in `seed`, which never
//! waits, and a seqlock's reader, which waits while the counter is odd.

use crate::atomic::{AtomicU32, Ordering, fence};
use core::ops::ControlFlow;

/// The value of the counter that a reader saw when it began.
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

/// A counter that is odd while its one writer rewrites the data that it guards. The caller holds a
/// lock that serialises writers; readers need none, in any context.
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

    /// Reads the counter without waiting; it may be odd.
    #[inline]
    pub fn begin(&self) -> Cookie {
        // The seed reads it relaxed, too. Loads of the entries may then be satisfied before this
        // one, and the reader misses a whole rebuild (H9). On x86 only the compiler could reorder
        // them.
        Cookie(self.value.load(Ordering::Relaxed))
    }

    /// Returns whether the counter has changed since `cookie` was read, or is odd now.
    #[inline]
    pub fn changed_or_odd(&self, cookie: Cookie) -> bool {
        // This is the seed's smp_rmb: entries are read before the counter is read again. It pairs
        // with the writer's release fence: a reader that saw a new entry sees the odd counter, too.
        fence_unless(LeftOut::ReadFence, Ordering::Acquire);
        let now = self.begin();
        now != cookie || now.is_odd()
    }

    /// Begins as a seqlock does: waits until the counter is even. Before each new look it calls
    /// `spin`, which may break off the wait. Returns the cookie, odd if the wait was broken off,
    /// and how often the counter was found odd.
    #[inline]
    pub fn begin_even(&self, mut spin: impl FnMut() -> ControlFlow<()>) -> (Cookie, u32) {
        let mut found_odd = 0;
        loop {
            // Acquire pairs with the release in `make_even_from`: no entry that is read is older
            // than the count.
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

    /// Checks as a seqlock does: returns whether the counter has changed since `cookie` was read.
    #[inline]
    pub fn changed(&self, cookie: Cookie) -> bool {
        // Pairs with the release fence in `make_odd_from`, as in `changed_or_odd`.
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

    /// Makes the counter odd, to begin a rewrite. The caller holds the writers' lock.
    ///
    /// # Panics
    ///
    /// Panics, in debug builds, if the counter is odd already: two writers are inside.
    #[inline]
    pub fn make_odd(&self) {
        self.make_odd_from(self.value.load(Ordering::Relaxed));
    }

    /// Makes the counter even again, to end a rewrite. The caller holds the writers' lock.
    ///
    /// # Panics
    ///
    /// Panics, in debug builds, if the counter is even: no writer began.
    #[inline]
    pub fn make_even(&self) {
        self.make_even_from(self.value.load(Ordering::Relaxed));
    }

    /// Begins a rewrite; the counter is `even` now.
    #[inline]
    fn make_odd_from(&self, even: u32) {
        debug_assert!(even & 1 == 0, "two writers inside one sequence counter");
        self.value.store(even.wrapping_add(1), Ordering::Relaxed);
        // This is the seed's first smp_wmb: "odd" is visible before any new entry. It pairs with
        // the acquire fence in `changed_or_odd`. A releasing increment would not order the stores
        // after it.
        fence_unless(LeftOut::FirstWriteFence, Ordering::Release);
    }

    /// Ends a rewrite; the counter is `odd` now.
    #[inline]
    fn make_even_from(&self, odd: u32) {
        debug_assert!(odd & 1 == 1, "the end of a writer that did not begin");
        // This is the seed's second smp_wmb: every new entry is visible before "even" is. It pairs
        // with the acquire in `begin_even`.
        let release = if is_left_out(LeftOut::SecondWrite) {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        self.value.store(odd.wrapping_add(1), release);
    }
}

/// An ordering that x86 provides at no cost, left out. Only a model can notice that it is missing.
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

/// Returns whether a model leaves this ordering out; outside of models it never is.
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

/// Executes a fence, unless a model leaves it out.
#[inline(always)]
fn fence_unless(left_out: LeftOut, ordering: Ordering) {
    if !is_left_out(left_out) {
        fence(ordering);
    }
}

#[cfg(test)]
#[path = "seqcount_tests.rs"]
mod tests;
