//! Intrusive first-in first-out lists of thread slots.
//!
//! A list owns no storage: the successor of slot `i` is entry `i` of a [`Links`] table. So a list
//! never runs out of room, and joining one never fails. A slot is on at most one list for each
//! table.

use core::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Number of a thread's slot in the thread table.
pub(super) type Slot = u16;

/// The value for "no slot", which ends every list.
pub(super) const NIL: Slot = Slot::MAX;

/// The successors of `N` slots. Every entry is written and read under the lock of the list that the
/// slot is on. That lock orders the accesses, so they are relaxed.
pub(super) struct Links<const N: usize>([AtomicU16; N]);

impl<const N: usize> Links<N> {
    /// Returns a table in which no slot has a successor.
    pub(super) const fn new() -> Self {
        Self([const { AtomicU16::new(NIL) }; N])
    }

    /// Returns the slot after `slot`, or [`NIL`].
    pub(super) fn next(&self, slot: Slot) -> Slot {
        self.0[slot as usize].load(Relaxed)
    }

    /// Makes `next` the successor of `slot`.
    pub(super) fn set(&self, slot: Slot, next: Slot) {
        self.0[slot as usize].store(next, Relaxed);
    }
}

/// A list of slots, oldest first. The lock of the structure that contains it guards it.
#[derive(Debug)]
pub(super) struct Fifo {
    head: Slot,
    tail: Slot,
}

impl Fifo {
    /// Returns an empty list.
    pub(super) const fn new() -> Self {
        Self {
            head: NIL,
            tail: NIL,
        }
    }

    /// Returns whether the list is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// Adds `slot` as the youngest.
    pub(super) fn push<const N: usize>(&mut self, links: &Links<N>, slot: Slot) {
        links.set(slot, NIL);
        if self.tail == NIL {
            self.head = slot;
        } else {
            links.set(self.tail, slot);
        }
        self.tail = slot;
    }

    /// Adds `slot` as the oldest, so that it leaves first.
    pub(super) fn push_front<const N: usize>(&mut self, links: &Links<N>, slot: Slot) {
        links.set(slot, self.head);
        if self.head == NIL {
            self.tail = slot;
        }
        self.head = slot;
    }

    /// Takes the oldest slot.
    pub(super) fn pop<const N: usize>(&mut self, links: &Links<N>) -> Option<Slot> {
        let slot = self.head;
        if slot == NIL {
            return None;
        }
        self.head = links.next(slot);
        if self.head == NIL {
            self.tail = NIL;
        }
        Some(slot)
    }

    /// Removes `slot` from any place in the list. Returns false if it is not on the list.
    pub(super) fn remove<const N: usize>(&mut self, links: &Links<N>, slot: Slot) -> bool {
        let mut before = NIL;
        let mut at = self.head;
        while at != NIL {
            let next = links.next(at);
            if at == slot {
                if before == NIL {
                    self.head = next;
                } else {
                    links.set(before, next);
                }
                if self.tail == slot {
                    self.tail = before;
                }
                return true;
            }
            before = at;
            at = next;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(list: &mut Fifo, links: &Links<8>) -> [Slot; 8] {
        let mut out = [NIL; 8];
        for place in &mut out {
            match list.pop(links) {
                Some(slot) => *place = slot,
                None => break,
            }
        }
        out
    }

    #[test]
    fn leaves_in_the_order_of_arrival() {
        let links = Links::<8>::new();
        let mut list = Fifo::new();
        for slot in [5, 0, 7, 2] {
            list.push(&links, slot);
        }
        assert_eq!(drain(&mut list, &links)[..5], [5, 0, 7, 2, NIL]);
        assert!(list.is_empty());
    }

    #[test]
    fn one_added_in_front_leaves_first() {
        let links = Links::<8>::new();
        let mut list = Fifo::new();
        list.push_front(&links, 3);
        list.push(&links, 4);
        list.push_front(&links, 2);
        assert_eq!(drain(&mut list, &links)[..4], [2, 3, 4, NIL]);
    }

    #[test]
    fn removal_keeps_order_at_head_middle_and_tail() {
        for victim in [1, 2, 3] {
            let links = Links::<8>::new();
            let mut list = Fifo::new();
            for slot in [1, 2, 3] {
                list.push(&links, slot);
            }
            assert!(list.remove(&links, victim));
            assert!(!list.remove(&links, victim), "removed twice");
            list.push(&links, 6);
            let mut expected = [1, 2, 3, 6].into_iter().filter(|&slot| slot != victim);
            for got in &drain(&mut list, &links)[..3] {
                assert_eq!(Some(*got), expected.next());
            }
            assert!(list.is_empty());
        }
    }
}
