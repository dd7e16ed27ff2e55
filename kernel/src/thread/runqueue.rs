//! The order in which the ready threads of one CPU run.

use super::links::{Fifo, Links, Slot};

/// The urgency of a thread. A ready thread always runs before one of a lower priority; threads of
/// the same priority take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Priority {
    /// For work that may wait for everything else (background reclaim, checkers).
    Low = 0,
    /// For most threads.
    Normal = 1,
    /// For threads that soon answer hardware or the host (hot-plug, console, heartbeat).
    High = 2,
    /// For the threads that bring a CPU to rest only (see [`super::quiesce`]).
    Top = 3,
}

/// Number of priorities.
const LEVELS: usize = 4;

/// The ready threads of one CPU. That CPU's scheduler lock guards them.
#[derive(Debug)]
pub(super) struct RunQueue {
    levels: [Fifo; LEVELS],
}

impl RunQueue {
    /// Returns a queue without ready threads.
    pub(super) const fn new() -> Self {
        Self {
            levels: [const { Fifo::new() }; LEVELS],
        }
    }

    /// Adds a ready thread behind those of its priority.
    pub(super) fn push<const N: usize>(
        &mut self,
        links: &Links<N>,
        slot: Slot,
        priority: Priority,
    ) {
        self.levels[priority as usize].push(links, slot);
    }

    /// Adds a thread that was interrupted in its turn, before those of its priority.
    pub(super) fn push_front<const N: usize>(
        &mut self,
        links: &Links<N>,
        slot: Slot,
        priority: Priority,
    ) {
        self.levels[priority as usize].push_front(links, slot);
    }

    /// Takes the thread that runs next: the one that waited longest at the highest priority.
    pub(super) fn pop<const N: usize>(&mut self, links: &Links<N>) -> Option<Slot> {
        self.levels
            .iter_mut()
            .rev()
            .find_map(|level| level.pop(links))
    }

    /// Returns whether a thread of `priority` or above is ready.
    pub(super) fn has_at_least(&self, priority: Priority) -> bool {
        self.levels[priority as usize..]
            .iter()
            .any(|level| !level.is_empty())
    }

    /// Returns whether a thread above `priority` is ready.
    pub(super) fn has_above(&self, priority: Priority) -> bool {
        self.levels[priority as usize + 1..]
            .iter()
            .any(|level| !level.is_empty())
    }

    /// Returns whether no thread is ready.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_at_least(Priority::Low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_priority_first_then_longest_waiting() {
        let links = Links::<8>::new();
        let mut queue = RunQueue::new();
        queue.push(&links, 0, Priority::Low);
        queue.push(&links, 1, Priority::Normal);
        queue.push(&links, 2, Priority::Top);
        queue.push(&links, 3, Priority::Normal);
        queue.push(&links, 4, Priority::High);
        for expected in [2, 4, 1, 3, 0] {
            assert_eq!(queue.pop(&links), Some(expected));
        }
        assert_eq!(queue.pop(&links), None);
    }

    #[test]
    fn equal_threads_take_turns() {
        let links = Links::<8>::new();
        let mut queue = RunQueue::new();
        queue.push(&links, 1, Priority::Normal);
        queue.push(&links, 2, Priority::Normal);
        for expected in [1, 2, 1, 2, 1] {
            let slot = queue.pop(&links).unwrap();
            assert_eq!(slot, expected);
            queue.push(&links, slot, Priority::Normal);
        }
    }

    #[test]
    fn an_interrupted_turn_goes_on_before_equal_threads() {
        let links = Links::<8>::new();
        let mut queue = RunQueue::new();
        queue.push(&links, 1, Priority::Normal);
        queue.push_front(&links, 2, Priority::Normal);
        queue.push(&links, 3, Priority::High);
        for expected in [3, 2, 1] {
            assert_eq!(queue.pop(&links), Some(expected));
        }
    }

    #[test]
    fn comparisons_count_only_ready_threads() {
        let links = Links::<8>::new();
        let mut queue = RunQueue::new();
        assert!(queue.is_empty());
        queue.push(&links, 1, Priority::Normal);
        assert!(queue.has_at_least(Priority::Normal));
        assert!(queue.has_at_least(Priority::Low));
        assert!(!queue.has_at_least(Priority::High));
        assert!(queue.has_above(Priority::Low));
        assert!(!queue.has_above(Priority::Normal));
        assert!(!queue.has_above(Priority::Top));
    }
}
