//! The one global lock order.

use core::sync::atomic::{AtomicU32, Ordering};

/// The place of every spinlock in the global order. A CPU that holds a lock may only take locks
/// that stand further down. Two locks of one rank are never held together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// Hot-plug slots and their requests.
    Hotplug,
    /// Sleeping locks, events and wait queues.
    WaitQueue,
    /// A CPU's run queue.
    RunQueue,
    /// The lock of the zonelists' writers. Code may print while it holds it.
    ZonelistUpdate,
    /// The kernel's own page tables.
    PageTable,
    /// The interrupt controllers' registers.
    IrqChip,
    /// The second serial port.
    Link,
    /// The console's owner.
    Console,
    /// The port lock of COM1; the tty layer allocates atomically under it.
    SerialPort,
    /// The tty buffer.
    Tty,
    /// Any lock under which no other lock is taken.
    Leaf,
}

/// The ranks of the locks that one CPU holds. Only that CPU reads and writes them, with interrupts
/// off, so relaxed loads and stores are enough.
#[derive(Debug, Default)]
pub struct HeldRanks {
    mask: AtomicU32,
}

impl HeldRanks {
    /// Returns an empty set. An all-zero value is an empty set as well.
    pub const fn new() -> Self {
        Self {
            mask: AtomicU32::new(0),
        }
    }

    /// Returns whether no lock is held.
    pub fn is_empty(&self) -> bool {
        self.mask.load(Ordering::Relaxed) == 0
    }

    /// Returns whether a lock of this rank may be taken now: no lock of its rank or a later one is
    /// held.
    pub fn may_take(&self, rank: Rank) -> bool {
        self.mask.load(Ordering::Relaxed) < 1 << rank as u32
    }

    /// Notes that a lock of this rank is about to be taken.
    ///
    /// # Panics
    ///
    /// Panics if a lock of this or a later rank is held.
    pub(crate) fn enter(&self, rank: Rank) {
        let mask = self.mask.load(Ordering::Relaxed);
        let here = 1 << rank as u32;
        assert!(
            mask < here,
            "lock order: {rank:?} wanted while ranks {mask:#x} are held"
        );
        self.mask.store(mask | here, Ordering::Relaxed);
    }

    /// Notes that a lock of this rank was taken without waiting, which the order never forbids.
    ///
    /// # Panics
    ///
    /// Panics if another lock of this rank is held, because the set could not tell their releases
    /// apart.
    pub(crate) fn note(&self, rank: Rank) {
        let mask = self.mask.load(Ordering::Relaxed);
        let here = 1 << rank as u32;
        assert!(mask & here == 0, "two locks of rank {rank:?} at once");
        self.mask.store(mask | here, Ordering::Relaxed);
    }

    /// Notes that the lock of this rank was released.
    pub(crate) fn leave(&self, rank: Rank) {
        let mask = self.mask.load(Ordering::Relaxed);
        self.mask
            .store(mask & !(1 << rank as u32), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_taken_downwards_pass_and_may_be_released_in_any_order() {
        let held = HeldRanks::new();
        held.enter(Rank::Hotplug);
        held.enter(Rank::Console);
        held.leave(Rank::Hotplug);
        held.enter(Rank::Leaf);
        held.leave(Rank::Leaf);
        held.leave(Rank::Console);
        assert!(held.is_empty());
    }

    #[test]
    #[should_panic(expected = "lock order: ZonelistUpdate")]
    fn a_lock_taken_upwards_panics() {
        let held = HeldRanks::new();
        held.enter(Rank::SerialPort);
        held.enter(Rank::ZonelistUpdate);
    }

    #[test]
    #[should_panic(expected = "lock order: RunQueue")]
    fn two_locks_of_one_rank_panic() {
        let held = HeldRanks::new();
        held.enter(Rank::RunQueue);
        held.enter(Rank::RunQueue);
    }
}
