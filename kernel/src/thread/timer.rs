//! The deadlines of one CPU's waiting threads, soonest first.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::links::{Links, NIL, Slot};

/// The deadlines of `N` slots, in nanoseconds since boot. Entry `i` is written and read under the
/// scheduler lock of the CPU that slot `i` runs on.
pub(super) struct Deadlines<const N: usize> {
    links: Links<N>,
    at_ns: [AtomicU64; N],
}

impl<const N: usize> Deadlines<N> {
    /// Returns a table without deadlines.
    pub(super) const fn new() -> Self {
        Self {
            links: Links::new(),
            at_ns: [const { AtomicU64::new(0) }; N],
        }
    }

    fn at_ns(&self, slot: Slot) -> u64 {
        self.at_ns[slot as usize].load(Relaxed)
    }
}

/// The armed timers, at most one for each thread, sorted by deadline. Arming walks the list, which
/// holds the sleeping threads of one CPU: a few dozen at most. It never needs room.
#[derive(Debug)]
pub(super) struct TimerList {
    head: Slot,
}

impl TimerList {
    /// Returns a list in which no timer is armed.
    pub(super) const fn new() -> Self {
        Self { head: NIL }
    }

    /// Arms the timer of `slot` for `at_ns`, behind those with the same deadline.
    pub(super) fn arm<const N: usize>(&mut self, table: &Deadlines<N>, slot: Slot, at_ns: u64) {
        table.at_ns[slot as usize].store(at_ns, Relaxed);
        let mut before = NIL;
        let mut next = self.head;
        while next != NIL && table.at_ns(next) <= at_ns {
            before = next;
            next = table.links.next(next);
        }
        table.links.set(slot, next);
        if before == NIL {
            self.head = slot;
        } else {
            table.links.set(before, slot);
        }
    }

    /// Disarms the timer of `slot`. Returns false if it was not armed, because it has expired.
    pub(super) fn disarm<const N: usize>(&mut self, table: &Deadlines<N>, slot: Slot) -> bool {
        let mut before = NIL;
        let mut at = self.head;
        while at != NIL {
            let next = table.links.next(at);
            if at == slot {
                if before == NIL {
                    self.head = next;
                } else {
                    table.links.set(before, next);
                }
                return true;
            }
            before = at;
            at = next;
        }
        false
    }

    /// Takes one thread whose deadline is at or before `now_ns`, soonest first.
    pub(super) fn expire<const N: usize>(
        &mut self,
        table: &Deadlines<N>,
        now_ns: u64,
    ) -> Option<Slot> {
        let slot = self.head;
        if slot == NIL || table.at_ns(slot) > now_ns {
            return None;
        }
        self.head = table.links.next(slot);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expires_in_order_of_deadlines_and_never_early() {
        let table = Deadlines::<8>::new();
        let mut timers = TimerList::new();
        for (slot, at_ns) in [(0, 50), (1, 10), (2, 30), (3, 30), (4, 70)] {
            timers.arm(&table, slot, at_ns);
        }
        assert_eq!(timers.expire(&table, 9), None);
        assert_eq!(timers.expire(&table, 10), Some(1));
        assert_eq!(timers.expire(&table, 60), Some(2));
        assert_eq!(timers.expire(&table, 60), Some(3));
        assert_eq!(timers.expire(&table, 60), Some(0));
        assert_eq!(timers.expire(&table, 60), None);
        assert_eq!(timers.expire(&table, u64::MAX), Some(4));
        assert_eq!(timers.expire(&table, u64::MAX), None);
    }

    #[test]
    fn a_disarmed_timer_does_not_expire() {
        for victim in 0..3 {
            let table = Deadlines::<8>::new();
            let mut timers = TimerList::new();
            for slot in 0..3 {
                timers.arm(&table, slot, 10 * u64::from(slot));
            }
            assert!(timers.disarm(&table, victim));
            assert!(!timers.disarm(&table, victim), "disarmed twice");
            for slot in (0..3).filter(|&slot| slot != victim) {
                assert_eq!(timers.expire(&table, 100), Some(slot));
            }
            assert_eq!(timers.expire(&table, 100), None);
        }
    }
}
