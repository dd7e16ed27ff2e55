//! The memory of tasks that may be taken from them.

use super::report::{Holder, TaskLine};
use crate::thread::{self, ThreadId};
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Most pools that can be registered.
pub const MAX_POOLS: usize = 32;

/// The memory of one killable kernel thread.
///
/// The thread adds and subtracts the frames that it holds, and checks [`OomPool::killed`] between
/// its steps. When it has been killed, it frees everything and calls [`OomPool::revive`].
#[derive(Debug)]
pub struct OomPool {
    name: &'static str,
    /// Frames that the owner holds. The owner writes the number and the selection reads it: a stale
    /// value only makes it choose a smaller victim.
    held_frames: AtomicUsize,
    /// The thread that added last ([`ThreadId::to_bits`]), or 0. A request of the victim's own must
    /// fail rather than wait for the victim.
    holder: AtomicU64,
    /// When the owner was killed, in nanoseconds since boot, or 0. The selection sets it, and the
    /// owner clears it.
    killed_ns: AtomicU64,
}

/// How long the selection waits for a victim before it chooses another one.
const PATIENCE_NS: u64 = 2_000_000_000;

impl OomPool {
    /// Returns an empty pool with the name that reports show.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            held_frames: AtomicUsize::new(0),
            holder: AtomicU64::new(0),
            killed_ns: AtomicU64::new(0),
        }
    }

    /// Returns the name that reports show.
    #[cfg(test)]
    fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the number of frames that the owner holds.
    pub fn held_frames(&self) -> usize {
        self.held_frames.load(Ordering::Relaxed)
    }

    /// Adds frames that the owner took; the owner is the calling thread.
    pub fn add(&self, frames: usize) {
        let holder = thread::current().map_or(0, ThreadId::to_bits);
        self.holder.store(holder, Ordering::Relaxed);
        self.held_frames.fetch_add(frames, Ordering::Relaxed);
    }

    /// Subtracts frames that the owner gave back.
    pub fn sub(&self, frames: usize) {
        self.held_frames.fetch_sub(frames, Ordering::Relaxed);
    }

    /// Returns whether the owner must free everything that it holds.
    pub fn killed(&self) -> bool {
        self.killed_ns.load(Ordering::Relaxed) != 0
    }

    fn holder(&self) -> Option<ThreadId> {
        ThreadId::from_bits(self.holder.load(Ordering::Relaxed))
    }

    /// Returns the pool as reports show it.
    pub(super) fn line(&self) -> TaskLine {
        let thread = self.holder().and_then(|id| {
            let (state, cpu) = thread::state_of(id)?;
            Some(Holder {
                number: id.number(),
                cpu,
                state,
            })
        });
        TaskLine {
            name: self.name,
            held_frames: self.held_frames(),
            killed: self.killed(),
            thread,
        }
    }

    /// Ends the kill: the owner has freed everything and may begin anew.
    pub fn revive(&self) {
        if let Some(holder) = self.holder() {
            thread::set_victim(holder, false);
        }
        self.killed_ns.store(0, Ordering::Relaxed);
    }

    /// Asks the owner to free everything, and lets it have a victim's share of the reserves until
    /// then.
    pub(super) fn kill(&self, now_ns: u64) {
        if let Some(holder) = self.holder() {
            thread::set_victim(holder, true);
        }
        self.killed_ns.store(now_ns.max(1), Ordering::Relaxed);
    }

    /// Returns whether the calling thread is the one that holds the memory.
    pub(super) fn is_mine(&self) -> bool {
        let me = thread::current();
        me.is_some() && me == self.holder()
    }

    /// Returns whether the owner was killed lately and has not freed everything yet.
    fn is_dying(&self, now_ns: u64) -> bool {
        self.killed()
            && self.held_frames() > 0
            && now_ns < self.killed_ns.load(Ordering::Relaxed) + PATIENCE_NS
    }
}

/// The registered pools.
#[derive(Debug)]
pub struct Registry {
    pools: [AtomicPtr<OomPool>; MAX_POOLS],
}

/// The result of a selection.
#[derive(Clone, Copy, Debug)]
pub enum Choice {
    /// A victim of an earlier selection is still freeing.
    Dying(&'static OomPool),
    /// The pool that holds the most frames.
    Victim(&'static OomPool),
    /// No pool holds frames that could be taken.
    Nobody,
}

impl Registry {
    /// Returns a registry without pools.
    pub const fn new() -> Self {
        Self {
            pools: [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_POOLS],
        }
    }

    /// Registers a pool for good. Returns whether there was room.
    #[must_use]
    pub fn register(&self, pool: &'static OomPool) -> bool {
        let new = core::ptr::from_ref(pool).cast_mut();
        self.pools.iter().any(|entry| {
            // Release pairs with the Acquire in `iter`: it publishes the pool.
            entry
                .compare_exchange(
                    core::ptr::null_mut(),
                    new,
                    Ordering::Release,
                    Ordering::Relaxed,
                )
                .is_ok()
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'static OomPool> + '_ {
        self.pools.iter().filter_map(|entry| {
            // Acquire pairs with the Release in `register`.
            let pool = entry.load(Ordering::Acquire);
            // SAFETY: only `register` stores here, and it stores only references that live for
            // good.
            unsafe { pool.as_ref() }
        })
    }

    /// Chooses the pool to kill at `now_ns`, nanoseconds since boot: the one that holds most, and
    /// only one at a time. A victim that does not die in time is passed over.
    pub fn choose(&self, now_ns: u64) -> Choice {
        if let Some(dying) = self.iter().find(|p| p.is_dying(now_ns)) {
            return Choice::Dying(dying);
        }
        match self
            .iter()
            .filter(|p| !p.killed())
            .max_by_key(|p| p.held_frames())
        {
            Some(pool) if pool.held_frames() > 0 => Choice::Victim(pool),
            _ => Choice::Nobody,
        }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_pool_is_chosen() {
        static A: OomPool = OomPool::new("a");
        static B: OomPool = OomPool::new("b");
        let registry = Registry::new();
        assert!(matches!(registry.choose(5), Choice::Nobody));
        assert!(registry.register(&A) && registry.register(&B));
        assert!(matches!(registry.choose(5), Choice::Nobody));
        A.add(10);
        B.add(20);
        assert!(matches!(registry.choose(5), Choice::Victim(p) if p.name() == "b"));
    }

    #[test]
    fn a_dying_victim_is_waited_for() {
        static A: OomPool = OomPool::new("a");
        static B: OomPool = OomPool::new("b");
        let registry = Registry::new();
        assert!(registry.register(&A) && registry.register(&B));
        A.add(10);
        B.add(20);
        A.kill(3);
        assert!(matches!(registry.choose(5), Choice::Dying(p) if p.name() == "a"));
        A.sub(10);
        A.revive();
        assert!(matches!(registry.choose(5), Choice::Victim(p) if p.name() == "b"));
    }

    #[test]
    fn a_victim_that_does_not_die_is_passed_over() {
        static A: OomPool = OomPool::new("a");
        static B: OomPool = OomPool::new("b");
        let registry = Registry::new();
        assert!(registry.register(&A) && registry.register(&B));
        A.add(20);
        B.add(10);
        A.kill(3);
        let late = 3 + PATIENCE_NS;
        assert!(matches!(registry.choose(late - 1), Choice::Dying(p) if p.name() == "a"));
        assert!(matches!(registry.choose(late), Choice::Victim(p) if p.name() == "b"));
        B.kill(late);
        assert!(matches!(
            registry.choose(late + PATIENCE_NS),
            Choice::Nobody
        ));
    }

    #[test]
    fn a_full_registry_refuses() {
        static POOL: OomPool = OomPool::new("p");
        let registry = Registry::new();
        for _ in 0..MAX_POOLS {
            assert!(registry.register(&POOL));
        }
        assert!(!registry.register(&POOL));
    }
}
