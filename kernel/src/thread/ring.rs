//! A bounded queue that any context may fill.

use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    sync::atomic::{
        AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// The ring was full; what was to be pushed comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// A bounded first-in first-out queue of at most `N` values (a power of two, at least 2) for any
/// number of producers and consumers, in any context, on any CPU.
///
/// Nobody ever waits: a push that finds no room says so, a pop that finds nothing says so. Each
/// place has a turn counter (D. Vyukov's bounded queue). A producer that is interrupted, by an NMI
/// even, between taking a place and filling it delays what was pushed behind it: a consumer finds
/// the ring empty at that place until the producer goes on. It blocks nobody.
pub struct Ring<T, const N: usize> {
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

// SAFETY: a value is written by the one producer that took the place and read by the one consumer
// that took it, one after the other.
unsafe impl<T: Send, const N: usize> Sync for Ring<T, N> {}

impl<T: Copy, const N: usize> Ring<T, N> {
    const SIZE_OK: () = assert!(N.is_power_of_two() && N >= 2);

    /// Returns an empty ring.
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

    /// Adds a value. Any context.
    ///
    /// # Errors
    ///
    /// [`Full`] with the value.
    pub fn push(&self, value: T) -> Result<(), Full<T>> {
        let mut at = self.tail.load(Relaxed);
        loop {
            let place = &self.places[at % N];
            let free = (at / N) << 1;
            // Acquire: pairs with the Release of the consumer that emptied the place.
            let turn = place.turn.load(Acquire);
            if turn == free {
                match self
                    .tail
                    .compare_exchange_weak(at, at.wrapping_add(1), Relaxed, Relaxed)
                {
                    Ok(_) => {
                        // SAFETY: the exchange gave this place, free for this lap, to us alone.
                        unsafe { (*place.value.get()).write(value) };
                        // Release: publishes the value to the Acquire in `pop`.
                        place.turn.store(free | 1, Release);
                        return Ok(());
                    }
                    Err(now) => at = now,
                }
            } else {
                let now = self.tail.load(Relaxed);
                if now == at {
                    // Still holds (or is being relieved of) the value of a lap ago.
                    return Err(Full(value));
                }
                at = now;
            }
        }
    }

    /// Takes the oldest value. Any context.
    pub fn pop(&self) -> Option<T> {
        let mut at = self.head.load(Relaxed);
        loop {
            let place = &self.places[at % N];
            let filled = (at / N) << 1 | 1;
            // Acquire: pairs with the Release in `push`.
            let turn = place.turn.load(Acquire);
            if turn == filled {
                match self
                    .head
                    .compare_exchange_weak(at, at.wrapping_add(1), Relaxed, Relaxed)
                {
                    Ok(_) => {
                        // SAFETY: the exchange gave this place and its value to us alone.
                        let value = unsafe { (*place.value.get()).assume_init_read() };
                        // Release: the next lap's producer writes after our read.
                        place.turn.store(filled.wrapping_add(1), Release);
                        return Some(value);
                    }
                    Err(now) => at = now,
                }
            } else {
                let now = self.head.load(Relaxed);
                if now == at {
                    return None;
                }
                at = now;
            }
        }
    }

    /// Returns how many values there are, a moment ago.
    pub fn len(&self) -> usize {
        let head = self.head.load(Relaxed);
        self.tail.load(Relaxed).saturating_sub(head).min(N)
    }

    /// Returns whether there was nothing a moment ago.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Copy, const N: usize> Default for Ring<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> core::fmt::Debug for Ring<T, N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ring")
            .field("head", &self.head)
            .field("tail", &self.tail)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::{thread, vec::Vec};

    #[test]
    fn values_leave_in_order_and_a_full_ring_says_so() {
        let ring = Ring::<u32, 4>::new();
        for lap in 0..10 {
            for value in 0..4 {
                assert_eq!(ring.push(lap * 4 + value), Ok(()));
            }
            assert_eq!(ring.push(99), Err(Full(99)));
            assert_eq!(ring.len(), 4);
            for value in 0..4 {
                assert_eq!(ring.pop(), Some(lap * 4 + value));
            }
            assert_eq!(ring.pop(), None);
        }
    }

    #[test]
    fn nothing_is_lost_doubled_or_reordered_between_many() {
        const PRODUCERS: usize = 3;
        const EACH: usize = 20_000;
        let ring = Ring::<(usize, usize), 8>::new();
        let taken = thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let ring = &ring;
                scope.spawn(move || {
                    for number in 0..EACH {
                        while ring.push((producer, number)).is_err() {
                            thread::yield_now();
                        }
                    }
                });
            }
            let consumers: Vec<_> = (0..2)
                .map(|_| {
                    let ring = &ring;
                    scope.spawn(move || {
                        let mut taken = Vec::new();
                        while taken.last() != Some(&(usize::MAX, 0)) {
                            match ring.pop() {
                                Some(value) => taken.push(value),
                                None => thread::yield_now(),
                            }
                        }
                        taken.pop();
                        taken
                    })
                })
                .collect();
            scope.spawn(|| {
                // Ends each consumer once everything was handed out.
                while ring.head.load(Relaxed) < PRODUCERS * EACH {
                    thread::yield_now();
                }
                for _ in 0..2 {
                    while ring.push((usize::MAX, 0)).is_err() {}
                }
            });
            consumers
                .into_iter()
                .map(|consumer| consumer.join().unwrap())
                .collect::<Vec<_>>()
        });
        for one in &taken {
            for producer in 0..PRODUCERS {
                let numbers: Vec<_> = one.iter().filter(|value| value.0 == producer).collect();
                assert!(numbers.is_sorted(), "one consumer saw them out of order");
            }
        }
        let mut all: Vec<_> = taken.concat();
        all.sort_unstable();
        let expected: Vec<_> = (0..PRODUCERS)
            .flat_map(|producer| (0..EACH).map(move |number| (producer, number)))
            .collect();
        assert_eq!(all, expected);
    }
}
