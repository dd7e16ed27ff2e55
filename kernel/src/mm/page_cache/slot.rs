//! One page's entry in the cache: frame, lock bit and clock bit in one word.

use core::sync::atomic::{AtomicU64, Ordering};

const LOCKED: u64 = 1 << 0;
const PRESENT: u64 = 1 << 1;
const REFERENCED: u64 = 1 << 2;
const PFN_SHIFT: u32 = 12;

/// What an entry says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(u64);

impl Word {
    /// The frame that holds the page, by number.
    pub fn frame(self) -> Option<u64> {
        (self.0 & PRESENT != 0).then_some(self.0 >> PFN_SHIFT)
    }

    /// Whether somebody works on the page.
    pub fn locked(self) -> bool {
        self.0 & LOCKED != 0
    }

    /// Whether the page was read since the clock's hand last passed.
    pub fn referenced(self) -> bool {
        self.0 & REFERENCED != 0
    }
}

/// An entry. Only the holder of its lock bit changes the rest; anybody may peek, and must then
/// decide again under the lock.
#[derive(Debug, Default)]
pub struct PageSlot(AtomicU64);

impl PageSlot {
    /// An entry without a frame.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Looks without the lock: a hint.
    pub fn peek(&self) -> Word {
        Word(self.0.load(Ordering::Relaxed))
    }

    /// Takes the lock bit if nobody holds it.
    pub fn try_lock(&self) -> Option<Locked<'_>> {
        let word = self.0.load(Ordering::Relaxed);
        if word & LOCKED != 0 {
            return None;
        }
        // Acquire: pairs with the Release in `Locked::drop`, which publishes the frame's content.
        self.0
            .compare_exchange(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        Some(Locked { slot: self, word })
    }
}

/// The right to read and change one page; dropping it lets go of the lock.
#[must_use]
pub struct Locked<'a> {
    slot: &'a PageSlot,
    /// The entry to be, without the lock bit.
    word: u64,
}

impl Locked<'_> {
    /// What the entry says; never `locked`.
    pub fn word(&self) -> Word {
        Word(self.word)
    }

    /// Puts a frame in the entry, in place of what is there.
    pub fn set_frame(&mut self, frame: u64) {
        self.word = frame << PFN_SHIFT | PRESENT | (self.word & REFERENCED);
    }

    /// Empties the entry.
    pub fn clear_frame(&mut self) {
        self.word = 0;
    }

    /// Notes a reading, for the clock.
    pub fn set_referenced(&mut self) {
        self.word |= REFERENCED;
    }

    /// Takes the note of a reading away; returns whether there was one.
    pub fn clear_referenced(&mut self) -> bool {
        let was = self.word & REFERENCED != 0;
        self.word &= !REFERENCED;
        was
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Release: publishes the frame's content to the next holder (`try_lock`).
        self.slot.0.store(self.word, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_slot_is_empty_and_unlocked() {
        let slot = PageSlot::new();
        assert_eq!(slot.peek().frame(), None);
        assert!(!slot.peek().locked());
    }

    #[test]
    fn one_holder_at_a_time() {
        let slot = PageSlot::new();
        let held = slot.try_lock().unwrap();
        assert!(slot.try_lock().is_none());
        assert!(slot.peek().locked());
        drop(held);
        assert!(slot.try_lock().is_some());
    }

    #[test]
    fn changes_show_when_the_lock_is_let_go() {
        let slot = PageSlot::new();
        let mut held = slot.try_lock().unwrap();
        held.set_frame(0x12_3456);
        assert_eq!(slot.peek().frame(), None);
        drop(held);
        assert_eq!(slot.peek().frame(), Some(0x12_3456));
    }

    #[test]
    fn migration_keeps_the_clock_bit_and_eviction_drops_it() {
        let slot = PageSlot::new();
        let mut held = slot.try_lock().unwrap();
        held.set_frame(1);
        held.set_referenced();
        held.set_frame(2);
        drop(held);
        assert_eq!(slot.peek().frame(), Some(2));
        assert!(slot.peek().referenced());
        let mut held = slot.try_lock().unwrap();
        held.clear_frame();
        drop(held);
        assert!(!slot.peek().referenced());
        assert_eq!(slot.peek().frame(), None);
    }

    #[test]
    fn the_clock_gives_one_second_chance() {
        let slot = PageSlot::new();
        let mut held = slot.try_lock().unwrap();
        held.set_referenced();
        assert!(held.clear_referenced());
        assert!(!held.clear_referenced());
    }
}
