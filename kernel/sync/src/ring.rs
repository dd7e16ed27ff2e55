//! A ring of records of a fixed size. Every context of a CPU may write it, and one reader empties
//! it.
//!
//! A writer reserves a slot, copies its words and commits. It may be interrupted at any step by
//! another writer of the same ring, an NMI included, and it never waits. A full ring refuses the
//! newest record and counts it. The words are atomics, so a reader that was wrong about a slot
//! would see an old record, never undefined behaviour.

use crate::atomic::{AtomicU64, Ordering};

/// A ring of `SLOTS` records of `WORDS` words each; `SLOTS` is a power of two.
#[derive(Debug)]
pub struct Ring<const SLOTS: usize, const WORDS: usize> {
    /// Number of slots ever reserved. Writers change it by compare-and-swap; all read it.
    reserved: AtomicU64,
    /// Number of records ever taken. Only the reader writes it; all read it.
    taken: AtomicU64,
    /// Number of records refused because the ring was full. Writers add to it.
    lost: AtomicU64,
    slots: [Slot<WORDS>; SLOTS],
}

#[derive(Debug)]
struct Slot<const WORDS: usize> {
    /// The number of the record that is whole in `words`, plus 1; 0 before the first.
    committed: AtomicU64,
    words: [AtomicU64; WORDS],
}

/// The error of a push into a full ring: the record is lost, and counted as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The state of a ring's oldest record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The ring holds no record.
    Empty,
    /// A writer is still copying the record.
    InFlight,
    /// The record is whole.
    Ready,
}

/// The points between two accesses of [`Ring::push`], at which the tests interrupt it.
pub trait Steps {
    /// Runs before each access.
    fn step(&mut self);
}

/// The production choice, which does nothing between two accesses.
#[derive(Debug)]
pub struct Straight;

impl Steps for Straight {
    #[inline(always)]
    fn step(&mut self) {}
}

#[cfg(not(loom))]
impl<const WORDS: usize> Slot<WORDS> {
    const fn new() -> Self {
        Slot {
            committed: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
        }
    }
}

impl<const SLOTS: usize, const WORDS: usize> Ring<SLOTS, WORDS> {
    const MASK: u64 = {
        assert!(SLOTS.is_power_of_two(), "a ring's length is a power of two");
        SLOTS as u64 - 1
    };

    /// Returns an empty ring.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Ring {
            reserved: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            slots: [const { Slot::new() }; SLOTS],
        }
    }

    /// Returns an empty ring.
    #[cfg(loom)]
    pub fn new() -> Self {
        Ring {
            reserved: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            slots: core::array::from_fn(|_| Slot {
                committed: AtomicU64::new(0),
                words: core::array::from_fn(|_| AtomicU64::new(0)),
            }),
        }
    }

    /// Stores a record. Callable from every context; a writer may be interrupted by another one at
    /// every step.
    ///
    /// # Errors
    /// Returns [`Full`] if the record was lost.
    pub fn push(&self, record: &[u64; WORDS]) -> Result<(), Full> {
        self.push_in_steps(record, &mut Straight)
    }

    /// Does [`Ring::push`], and calls `steps` before each of its accesses.
    ///
    /// # Errors
    /// Returns [`Full`] if the record was lost.
    #[inline]
    pub fn push_in_steps(
        &self,
        record: &[u64; WORDS],
        steps: &mut (impl Steps + ?Sized),
    ) -> Result<(), Full> {
        let number = loop {
            steps.step();
            let reserved = self.reserved.load(Ordering::Relaxed);
            steps.step();
            // Acquire pairs with the reader's Release in `take`: its reads of the slot are over
            // before we write there.
            let taken = self.taken.load(Ordering::Acquire);
            steps.step();
            // `taken` is the newer of the two and may have passed an old `reserved`: the CAS then
            // fails.
            if reserved.saturating_sub(taken) >= SLOTS as u64 {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return Err(Full);
            }
            // A writer that interrupted us since the load has this slot; the CAS sends us to the
            // next one.
            if self
                .reserved
                .compare_exchange(reserved, reserved + 1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                break reserved;
            }
        };
        let slot = &self.slots[(number & Self::MASK) as usize];
        for (word, &value) in slot.words.iter().zip(record) {
            steps.step();
            word.store(value, Ordering::Relaxed);
        }
        steps.step();
        // Release pairs with the reader's Acquire in `head`: a reader that sees the number sees the
        // words.
        slot.committed.store(number + 1, Ordering::Release);
        steps.step();
        Ok(())
    }

    /// Returns the state of the oldest record. Only the one reader may act on the answer.
    pub fn head(&self) -> Head {
        let number = self.taken.load(Ordering::Relaxed);
        let slot = &self.slots[(number & Self::MASK) as usize];
        // Acquire pairs with the writer's Release: the words are whole if the number is there.
        if slot.committed.load(Ordering::Acquire) == number + 1 {
            Head::Ready
        } else if self.reserved.load(Ordering::Relaxed) > number {
            Head::InFlight
        } else {
            Head::Empty
        }
    }

    /// Returns one word of the oldest record. The result means something only while [`Ring::head`]
    /// returns [`Head::Ready`].
    ///
    /// # Panics
    ///
    /// Panics if `word` is not below `WORDS`.
    pub fn peek(&self, word: usize) -> u64 {
        let number = self.taken.load(Ordering::Relaxed);
        self.slots[(number & Self::MASK) as usize].words[word].load(Ordering::Relaxed)
    }

    /// Takes the oldest record if it is whole. Only the one reader may call it: concurrent readers
    /// would see records twice.
    pub fn take(&self) -> Option<[u64; WORDS]> {
        (self.head() == Head::Ready).then(|| {
            let number = self.taken.load(Ordering::Relaxed);
            let slot = &self.slots[(number & Self::MASK) as usize];
            let record = core::array::from_fn(|i| slot.words[i].load(Ordering::Relaxed));
            // Release pairs with the writer's Acquire of `taken`: the slot is reused only after we
            // have read it.
            self.taken.store(number + 1, Ordering::Release);
            record
        })
    }

    /// Passes over the oldest record, whole or not. It serves when the record's writer was stopped
    /// and will not go on. Only the one reader may call it.
    pub fn skip(&self) {
        let number = self.taken.load(Ordering::Relaxed);
        if self.reserved.load(Ordering::Relaxed) > number {
            self.taken.store(number + 1, Ordering::Release);
        }
    }

    /// Returns the number of records lost so far because the ring was full.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Counts the free slots at this moment; more may be taken by the time the answer arrives.
    pub fn room(&self) -> usize {
        let reserved = self.reserved.load(Ordering::Relaxed);
        let taken = self.taken.load(Ordering::Relaxed);
        SLOTS.saturating_sub(reserved.saturating_sub(taken) as usize)
    }
}

impl<const SLOTS: usize, const WORDS: usize> Default for Ring<SLOTS, WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
