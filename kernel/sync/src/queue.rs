//! A bounded queue that any context may fill.

use crate::atomic::{
    AtomicUsize, Ordering,
    Ordering::{Acquire, Relaxed, Release},
};
use core::mem::MaybeUninit;

#[cfg(not(loom))]
use core::cell::UnsafeCell;
#[cfg(loom)]
use loom::cell::UnsafeCell;

/// The queue was full; what was to be pushed comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected<T>(pub T);

/// A bounded first-in first-out queue of at most `N` values (a power of two, at least 2) for any
/// number of producers and consumers, in any context, on any CPU.
///
/// Nobody ever waits: a push that finds no room says so, a pop that finds nothing says so. Each
/// place has a turn counter (D. Vyukov's bounded queue). A producer that is interrupted, by an NMI
/// even, between taking a place and filling it delays what was pushed behind it: a consumer finds
/// the queue empty at that place until the producer goes on. It blocks nobody.
pub struct Queue<T, const N: usize> {
    /// Next place to fill.
    tail: AtomicUsize,
    /// Next place to empty.
    head: AtomicUsize,
    places: [Place<T>; N],
}

struct Place<T> {
    /// `2 * lap` while free for the `lap`th fill, `2 * lap + 1` while it holds that value.
    turn: AtomicUsize,
    value: UnsafeCell<MaybeUninit<T>>,
}

/// Loads. loom 0.7 remembers one last access of each atomic, so a thread's own load, followed by
/// its store, makes it forget another thread's load before both, and it never tries them the other
/// way round; it does not forget exchanges. (Nor does it order them with plain stores: see `set`.)
fn look(atomic: &AtomicUsize, order: Ordering) -> usize {
    if cfg!(loom) {
        atomic.fetch_add(0, order)
    } else {
        atomic.load(order)
    }
}

/// Stores, as [`look`] loads.
fn set(atomic: &AtomicUsize, value: usize, order: Ordering) {
    if cfg!(loom) {
        atomic.swap(value, order);
    } else {
        atomic.store(value, order);
    }
}

impl<T: Copy> Place<T> {
    /// Writes the value; the caller has taken the place, free for its lap, for itself alone.
    fn put(&self, value: T) {
        #[cfg(not(loom))]
        // SAFETY: nobody else touches the place until the caller publishes its turn.
        unsafe {
            (*self.value.get()).write(value);
        }
        #[cfg(loom)]
        // SAFETY: as above; loom checks it.
        self.value.with_mut(|place| unsafe {
            (*place).write(value);
        });
    }

    /// Reads the value; the caller has taken the place, filled for its lap, for itself alone.
    fn get(&self) -> T {
        #[cfg(not(loom))]
        // SAFETY: the place holds a value, and nobody else touches it until the caller relieves it.
        unsafe {
            (*self.value.get()).assume_init()
        }
        #[cfg(loom)]
        // SAFETY: as above; loom checks it.
        self.value.with(|place| unsafe { (*place).assume_init() })
    }
}

// SAFETY: a value is written by the one producer that took the place and read by the one consumer
// that took it, one after the other.
unsafe impl<T: Send, const N: usize> Sync for Queue<T, N> {}

impl<T: Copy, const N: usize> Queue<T, N> {
    const SIZE_OK: () = assert!(N.is_power_of_two() && N >= 2);

    /// Returns an empty queue.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        const { Self::SIZE_OK };
        Self {
            tail: AtomicUsize::new(0),
            head: AtomicUsize::new(0),
            places: [const {
                Place {
                    turn: AtomicUsize::new(0),
                    value: UnsafeCell::new(MaybeUninit::uninit()),
                }
            }; N],
        }
    }

    /// Returns an empty queue.
    #[cfg(loom)]
    pub fn new() -> Self {
        const { Self::SIZE_OK };
        Self {
            tail: AtomicUsize::new(0),
            head: AtomicUsize::new(0),
            places: core::array::from_fn(|_| Place {
                turn: AtomicUsize::new(0),
                value: UnsafeCell::new(MaybeUninit::uninit()),
            }),
        }
    }

    /// Adds a value. Any context.
    ///
    /// # Errors
    ///
    /// [`Rejected`] with the value.
    pub fn push(&self, value: T) -> Result<(), Rejected<T>> {
        // Release: publishes the value to the Acquire in `pop`.
        self.push_with(value, Release)
    }

    /// Does [`Self::push`] with the ordering of its last step; tests weaken it.
    #[inline]
    fn push_with(&self, value: T, publish: Ordering) -> Result<(), Rejected<T>> {
        let mut at = look(&self.tail, Relaxed);
        loop {
            let place = &self.places[at % N];
            let free = (at / N) << 1;
            // Acquire: pairs with the Release of the consumer that emptied the place.
            let turn = look(&place.turn, Acquire);
            if turn == free {
                match self
                    .tail
                    .compare_exchange_weak(at, at.wrapping_add(1), Relaxed, Relaxed)
                {
                    Ok(_) => {
                        place.put(value);
                        set(&place.turn, free | 1, publish);
                        return Ok(());
                    }
                    Err(now) => at = now,
                }
            } else {
                let now = look(&self.tail, Relaxed);
                if now == at {
                    // Still holds (or is being relieved of) the value of a lap ago.
                    return Err(Rejected(value));
                }
                at = now;
            }
        }
    }

    /// Takes the oldest value. Any context.
    pub fn pop(&self) -> Option<T> {
        // Release: the next lap's producer writes after our read.
        self.pop_with(Release)
    }

    /// Does [`Self::pop`] with the ordering of its last step; tests weaken it.
    #[inline]
    fn pop_with(&self, relieve: Ordering) -> Option<T> {
        let mut at = look(&self.head, Relaxed);
        loop {
            let place = &self.places[at % N];
            let filled = (at / N) << 1 | 1;
            // Acquire: pairs with the Release in `push`.
            let turn = look(&place.turn, Acquire);
            if turn == filled {
                match self
                    .head
                    .compare_exchange_weak(at, at.wrapping_add(1), Relaxed, Relaxed)
                {
                    Ok(_) => {
                        let value = place.get();
                        set(&place.turn, filled.wrapping_add(1), relieve);
                        return Some(value);
                    }
                    Err(now) => at = now,
                }
            } else {
                let now = look(&self.head, Relaxed);
                if now == at {
                    return None;
                }
                at = now;
            }
        }
    }

    /// Returns how many values there are, a moment ago.
    pub fn len(&self) -> usize {
        let head = look(&self.head, Relaxed);
        look(&self.tail, Relaxed).saturating_sub(head).min(N)
    }

    /// Returns whether there was nothing a moment ago.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Copy, const N: usize> Default for Queue<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> core::fmt::Debug for Queue<T, N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Queue")
            .field("head", &self.head)
            .field("tail", &self.tail)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
