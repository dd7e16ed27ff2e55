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

/// The error of a push into a full queue; it gives the value back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected<T>(pub T);

/// A bounded first-in first-out queue of at most `N` values (a power of two, at least 2). Any
/// number of producers and consumers may use it, in any context, on any CPU.
///
/// No call ever waits: a push that finds no room and a pop that finds no value return that at once.
/// Each place has a turn counter (D. Vyukov's bounded queue).
///
/// A producer may be interrupted, by an NMI even, between taking a place and filling it. Values
/// pushed behind that place are then delayed: a consumer finds the queue empty there until the
/// producer goes on. No producer or consumer is blocked by it.
pub struct Queue<T, const N: usize> {
    /// Number of places ever taken for filling; the next fill takes place `tail % N`.
    tail: AtomicUsize,
    /// Number of places ever taken for emptying; the next pop takes place `head % N`.
    head: AtomicUsize,
    places: [Place<T>; N],
}

struct Place<T> {
    /// `2 * lap` while the place is free for the fill of that lap, `2 * lap + 1` while it holds
    /// that value.
    turn: AtomicUsize,
    value: UnsafeCell<MaybeUninit<T>>,
}

/// Loads. In models it is an exchange, because loom 0.7 remembers only one last access of each
/// atomic. A thread's own load, followed by its store, makes loom forget another thread's load
/// before both. It then never tries the two the other way round. It does not forget exchanges, and
/// does not order them with plain stores: see `set`.
fn look(atomic: &AtomicUsize, order: Ordering) -> usize {
    if cfg!(loom) {
        atomic.fetch_add(0, order)
    } else {
        atomic.load(order)
    }
}

/// Stores. In models it is an exchange, for the reason that [`look`] gives.
fn set(atomic: &AtomicUsize, value: usize, order: Ordering) {
    if cfg!(loom) {
        atomic.swap(value, order);
    } else {
        atomic.store(value, order);
    }
}

impl<T: Copy> Place<T> {
    /// Writes the value; the caller alone has taken the place, which is free for its lap.
    fn put(&self, value: T) {
        #[cfg(not(loom))]
        // SAFETY: no other code touches the place until the caller publishes its turn.
        unsafe {
            (*self.value.get()).write(value);
        }
        #[cfg(loom)]
        // SAFETY: as above; loom checks it.
        self.value.with_mut(|place| unsafe {
            (*place).write(value);
        });
    }

    /// Reads the value; the caller alone has taken the place, which is filled for its lap.
    fn get(&self) -> T {
        #[cfg(not(loom))]
        // SAFETY: the place holds a value, and no other code touches it until the caller frees the
        // place.
        unsafe {
            (*self.value.get()).assume_init()
        }
        #[cfg(loom)]
        // SAFETY: as above; loom checks it.
        self.value.with(|place| unsafe { (*place).assume_init() })
    }
}

// SAFETY: a value is written by the one producer that took the place, then read by the one consumer
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

    /// Adds a value at the end. Any context may call it.
    ///
    /// # Errors
    ///
    /// Returns [`Rejected`] with the value if the queue is full.
    pub fn push(&self, value: T) -> Result<(), Rejected<T>> {
        // Release: publishes the value to the Acquire in `pop`.
        self.push_with(value, Release)
    }

    /// Does [`Self::push`] with `publish` as the ordering of its last step; tests weaken it.
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
                    // The place still holds the value of a lap ago, or is being emptied of it.
                    return Err(Rejected(value));
                }
                at = now;
            }
        }
    }

    /// Takes the oldest value, if there is one. Any context may call it.
    pub fn pop(&self) -> Option<T> {
        // Release pairs with the Acquire in `push`: the next lap's producer writes after our read.
        self.pop_with(Release)
    }

    /// Does [`Self::pop`] with `relieve` as the ordering of its last step; tests weaken it.
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

    /// Returns the number of values a moment ago. Any context may call it.
    pub fn len(&self) -> usize {
        let head = look(&self.head, Relaxed);
        look(&self.tail, Relaxed).saturating_sub(head).min(N)
    }

    /// Returns whether the queue was empty a moment ago. Any context may call it.
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
