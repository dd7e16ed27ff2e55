//! The nodes that a thread's requests may use, and its role towards the memory reserves. They are
//! kept here because they end with the thread; `mm::cpuset` documents their meaning.

use super::{
    ThreadId,
    links::Slot,
    table::{self, Thread},
};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A set of nodes, with one bit for each node.
pub type Nodes = u8;

const WALL_SHIFT: u32 = 8;
const CONFINED: u64 = 1 << 16;
const VICTIM: u64 = 1 << 17;
const RECLAIMS_SHIFT: u32 = 20;
const RECLAIM: u64 = 1 << RECLAIMS_SHIFT;
const RECLAIMS: u64 = 0xff << RECLAIMS_SHIFT;
const GENERATION_SHIFT: u32 = 32;

/// Number of threads with a cpuset. While it is 0, requests do not look for one.
static CONFINED_THREADS: AtomicU32 = AtomicU32::new(0);

/// A thread's cpuset and roles in one word. A reader that races with a change therefore sees one
/// cpuset, not parts of two.
///
/// From the lowest bit: 8 bits of nodes, 8 of nodes within the wall, whether these count, and
/// whether the thread is an OOM victim. The depth of reclaim starts at bit 20, the generation at
/// bit 32. The generation changes with each change of the cpuset and with the slot's occupant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(u64);

impl Memory {
    /// Returns the cpuset, if there is one: its nodes, those within its wall, and its generation.
    pub fn cpuset(self) -> Option<(Nodes, Nodes, u32)> {
        let generation = (self.0 >> GENERATION_SHIFT) as u32;
        let nodes = (self.0 as Nodes, (self.0 >> WALL_SHIFT) as Nodes);
        (self.0 & CONFINED != 0).then_some((nodes.0, nodes.1, generation))
    }

    /// Returns whether the thread has been chosen as an OOM victim and has not freed everything
    /// yet.
    pub fn is_victim(self) -> bool {
        self.0 & VICTIM != 0
    }

    /// Returns whether the thread reclaims.
    pub fn reclaims(self) -> bool {
        self.0 & RECLAIMS != 0
    }

    /// Replaces the cpuset by another one, or by none.
    fn confined(self, cpuset: Option<(Nodes, Nodes)>) -> Self {
        let kept = self.0 & (VICTIM | RECLAIMS);
        let generation = (self.0 >> GENERATION_SHIFT).wrapping_add(1) << GENERATION_SHIFT;
        let cpuset = cpuset.map_or(0, |(nodes, wall)| {
            u64::from(nodes) | u64::from(wall | nodes) << WALL_SHIFT | CONFINED
        });
        Self(generation | kept | cpuset)
    }

    fn victim(self, is_victim: bool) -> Self {
        Self(self.0 & !VICTIM | if is_victim { VICTIM } else { 0 })
    }
}

impl Thread {
    /// Changes the word by `step`. Relaxed suffices, because the word publishes nothing else: a
    /// request that saw the old word looks again before it gives up. Any context may call it.
    fn change_memory(&self, step: impl Fn(Memory) -> Memory) {
        let update = |word| Some(step(Memory(word)).0);
        let Ok(before) = self.memory.fetch_update(Relaxed, Relaxed, update) else {
            return;
        };
        let (was, is) = (before & CONFINED, step(Memory(before)).0 & CONFINED);
        if was == 0 && is != 0 {
            CONFINED_THREADS.fetch_add(1, Relaxed);
        } else if was != 0 && is == 0 {
            CONFINED_THREADS.fetch_sub(1, Relaxed);
        }
    }

    /// Resets the word for the slot's next occupant.
    pub(super) fn forget_memory(&self) {
        self.change_memory(|memory| Memory(memory.confined(None).0 & !(VICTIM | RECLAIMS)));
    }
}

/// Gives a thread a cpuset, or removes it. The first set is the nodes that its requests use.
/// Requests without HARDWALL may fall back to the second, which includes the first. It does nothing
/// to a thread that has ended. Any context may call it.
pub fn set_cpuset(id: ThreadId, cpuset: Option<(Nodes, Nodes)>) {
    if id.is_alive() {
        table::thread(id.slot()).change_memory(|memory| memory.confined(cpuset));
    }
}

/// Makes a thread an OOM victim, or ends that. Any context may call it.
pub fn set_victim(id: ThreadId, is_victim: bool) {
    if id.is_alive() {
        table::thread(id.slot()).change_memory(|memory| memory.victim(is_victim));
    }
}

/// Returns the running thread's word; in a handler, that of the interrupted thread. Any context may
/// call it.
#[inline]
pub fn current_memory() -> Memory {
    let thread = table::current_thread();
    Memory(thread.map_or(0, |thread| thread.memory.load(Relaxed)))
}

/// Returns whether any thread has a cpuset.
#[inline]
pub fn any_cpuset() -> bool {
    CONFINED_THREADS.load(Relaxed) != 0
}

/// Makes the running thread count as a reclaimer while it lives. The value stays on the thread that
/// made it.
#[derive(Debug)]
#[must_use = "the thread counts as a reclaimer until this is dropped"]
pub struct Reclaiming {
    slot: Option<Slot>,
    _here: core::marker::PhantomData<*const ()>,
}

impl Reclaiming {
    /// Begins to count the running thread as a reclaimer; nests up to 255 deep.
    pub fn begin(_task: &crate::arch::context::Task) -> Self {
        let slot = table::current_slot();
        if let Some(slot) = slot {
            table::thread(slot).memory.fetch_add(RECLAIM, Relaxed);
        }
        Self {
            slot,
            _here: core::marker::PhantomData,
        }
    }
}

impl Drop for Reclaiming {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            table::thread(slot).memory.fetch_sub(RECLAIM, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpuset_and_its_wall_are_one_word_with_a_generation() {
        let none = Memory(0);
        assert_eq!(none.cpuset(), None);
        let one = none.confined(Some((0b01, 0b110)));
        assert_eq!(one.cpuset(), Some((0b01, 0b111, 1)));
        let other = one.confined(Some((0b01, 0b110)));
        assert_eq!(other.cpuset(), Some((0b01, 0b111, 2)));
        let gone = other.confined(None);
        assert_eq!(gone.cpuset(), None);
        assert_eq!(gone.confined(Some((2, 2))).cpuset(), Some((2, 2, 4)));
    }

    #[test]
    fn victims_and_reclaimers_stay_so_when_their_cpuset_changes() {
        let victim = Memory(RECLAIM).victim(true).confined(Some((1, 1)));
        assert!(victim.is_victim() && victim.reclaims());
        let ended = victim.victim(false);
        assert!(!ended.is_victim() && ended.reclaims());
        assert_eq!(ended.cpuset(), victim.cpuset());
        assert!(!Memory(0).is_victim() && !Memory(0).reclaims());
    }
}
