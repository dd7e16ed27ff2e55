//! The cache entry of one page: frame, lock bit, clock bit and the mark of an unread move, in one
//! word.

use core::sync::atomic::{AtomicU64, Ordering};
use tidemark_frames::{FrameHandle, Pfn};

const LOCKED: u64 = 1 << 0;
const REFERENCED: u64 = 1 << 1;
const UNREAD: u64 = 1 << 2;
/// Position of the packed frame handle, whose value 0 means no frame.
const HANDLE_SHIFT: u32 = 4;

fn pfn(word: u64) -> Option<Pfn> {
    FrameHandle::from_raw(word >> HANDLE_SHIFT).map(|handle| handle.pfn())
}

/// The content of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(u64);

impl Word {
    /// Returns the frame that holds the page.
    pub fn pfn(self) -> Option<Pfn> {
        pfn(self.0)
    }

    /// Returns whether some code holds the page's lock.
    pub fn locked(self) -> bool {
        self.0 & LOCKED != 0
    }

    /// Returns whether the page was moved and has not been compared with the file since.
    pub fn is_unread(self) -> bool {
        self.0 & UNREAD != 0
    }

    /// Returns whether the page was read since the clock's hand last passed.
    #[cfg(test)]
    fn referenced(self) -> bool {
        self.0 & REFERENCED != 0
    }
}

/// An entry; zeroed memory is one without a frame. Only the holder of the lock bit changes the
/// rest. Any code may peek, and must then decide again under the lock.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct PageSlot(AtomicU64);

impl PageSlot {
    /// Reads the entry without the lock; the result is a hint.
    pub fn peek(&self) -> Word {
        Word(self.0.load(Ordering::Relaxed))
    }

    /// Takes the lock bit if it is free.
    pub fn try_lock(&self) -> Option<Locked<'_>> {
        let word = self.0.load(Ordering::Relaxed);
        if word & LOCKED != 0 {
            return None;
        }
        // Acquire pairs with the Release in `Locked::drop`, which publishes the frame's content.
        self.0
            .compare_exchange(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        Some(Locked { slot: self, word })
    }
}

/// The right to read and change one page. Dropping it releases the lock.
#[derive(Debug)]
#[must_use]
pub struct Locked<'a> {
    slot: &'a PageSlot,
    /// The entry to be stored at the release, without the lock bit.
    word: u64,
}

impl Locked<'_> {
    /// Returns the frame that holds the page.
    pub fn pfn(&self) -> Option<Pfn> {
        pfn(self.word)
    }

    /// Puts a frame in the entry, which must be empty.
    ///
    /// # Panics
    ///
    /// Panics, in debug builds, if the entry has a frame.
    pub fn put(&mut self, handle: FrameHandle) {
        debug_assert!(self.pfn().is_none(), "a page has one frame");
        self.word = handle.into_raw() << HANDLE_SHIFT | (self.word & REFERENCED);
    }

    /// Takes the frame out of the entry. The clock bit stays for the frame that follows.
    #[must_use]
    pub fn take(&mut self) -> Option<FrameHandle> {
        let raw = self.word >> HANDLE_SHIFT;
        self.word &= REFERENCED;
        FrameHandle::from_raw(raw)
    }

    /// Marks the page as moved and not compared with the file since; the frame is in the entry.
    pub fn set_unread(&mut self) {
        self.word |= UNREAD;
    }

    /// Clears that mark; returns whether it was set.
    pub fn clear_unread(&mut self) -> bool {
        let was = self.word & UNREAD != 0;
        self.word &= !UNREAD;
        was
    }

    /// Sets the clock bit: the page was read.
    pub fn set_referenced(&mut self) {
        self.word |= REFERENCED;
    }

    /// Clears the clock bit; returns whether it was set.
    pub fn clear_referenced(&mut self) -> bool {
        let was = self.word & REFERENCED != 0;
        self.word &= !REFERENCED;
        was
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let empty = self.word >> HANDLE_SHIFT == 0;
        let word = if empty { 0 } else { self.word };
        // Release pairs with the Acquire in `try_lock`: it publishes the frame's content to the
        // next holder.
        self.slot.0.store(word, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(pfn: u64) -> FrameHandle {
        FrameHandle::from_raw(pfn << 8 | 1).unwrap()
    }

    #[test]
    fn a_new_slot_is_empty_and_unlocked() {
        let slot = PageSlot::default();
        assert_eq!(slot.peek().pfn(), None);
        assert!(!slot.peek().locked());
    }

    #[test]
    fn one_holder_at_a_time() {
        let slot = PageSlot::default();
        let held = slot.try_lock().unwrap();
        assert!(slot.try_lock().is_none());
        assert!(slot.peek().locked());
        drop(held);
        assert!(slot.try_lock().is_some());
    }

    #[test]
    fn changes_show_when_the_lock_is_let_go() {
        let slot = PageSlot::default();
        let mut held = slot.try_lock().unwrap();
        held.put(handle(0xff_1234_5678));
        assert_eq!(slot.peek().pfn(), None);
        drop(held);
        assert_eq!(slot.peek().pfn(), Some(Pfn(0xff_1234_5678)));
    }

    #[test]
    fn a_frame_comes_out_as_it_went_in() {
        let slot = PageSlot::default();
        let mut held = slot.try_lock().unwrap();
        held.put(handle(77));
        drop(held);
        let mut held = slot.try_lock().unwrap();
        assert_eq!(held.take(), Some(handle(77)));
        assert_eq!(held.take(), None);
        drop(held);
        assert_eq!(slot.peek().pfn(), None);
    }

    #[test]
    fn migration_keeps_the_note_of_a_reading_and_eviction_drops_it() {
        let slot = PageSlot::default();
        let mut held = slot.try_lock().unwrap();
        held.put(handle(1));
        held.set_referenced();
        assert!(held.take().is_some());
        held.put(handle(2));
        drop(held);
        assert!(slot.peek().referenced());
        let mut held = slot.try_lock().unwrap();
        assert!(held.take().is_some());
        drop(held);
        assert!(!slot.peek().referenced());
    }

    #[test]
    fn what_was_moved_is_unread_until_it_is_compared_or_goes() {
        let slot = PageSlot::default();
        let mut held = slot.try_lock().unwrap();
        held.put(handle(1));
        held.set_unread();
        drop(held);
        assert!(slot.peek().is_unread());
        assert_eq!(slot.peek().pfn(), Some(Pfn(1)));
        let mut held = slot.try_lock().unwrap();
        assert!(held.clear_unread());
        assert!(!held.clear_unread());
        held.set_unread();
        assert!(held.take().is_some());
        held.put(handle(2));
        drop(held);
        assert!(!slot.peek().is_unread());
    }

    #[test]
    fn the_clock_gives_one_second_chance() {
        let slot = PageSlot::default();
        let mut held = slot.try_lock().unwrap();
        held.set_referenced();
        assert!(held.clear_referenced());
        assert!(!held.clear_referenced());
    }
}
