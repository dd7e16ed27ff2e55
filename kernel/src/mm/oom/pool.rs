//! Tasks with memory that may be taken from them.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Most pools that can be registered.
pub const MAX_POOLS: usize = 32;

/// The memory of one killable kernel thread.
///
/// The thread adds and subtracts what it holds, and looks at [`OomPool::killed`] between its steps;
/// when it has been killed it frees everything and calls [`OomPool::revive`].
#[derive(Debug)]
pub struct OomPool {
    name: &'static str,
    /// Written by the owner, read by the selection: a stale value chooses a smaller victim, no more.
    held_frames: AtomicUsize,
    /// Set by the selection, cleared by the owner.
    killed: AtomicBool,
}

impl OomPool {
    /// An empty pool with the name that reports show.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            held_frames: AtomicUsize::new(0),
            killed: AtomicBool::new(false),
        }
    }

    /// The name that reports show.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Frames that the owner holds.
    pub fn held_frames(&self) -> usize {
        self.held_frames.load(Ordering::Relaxed)
    }

    /// Notes frames taken by the owner.
    pub fn add(&self, frames: usize) {
        self.held_frames.fetch_add(frames, Ordering::Relaxed);
    }

    /// Notes frames given back by the owner.
    pub fn sub(&self, frames: usize) {
        self.held_frames.fetch_sub(frames, Ordering::Relaxed);
    }

    /// Whether the owner must free everything it holds.
    pub fn killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// The owner has freed everything and may begin anew.
    pub fn revive(&self) {
        self.killed.store(false, Ordering::Relaxed);
    }

    /// Asks the owner to free everything.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }
}

/// The registered pools.
#[derive(Debug)]
pub struct Registry {
    pools: [AtomicPtr<OomPool>; MAX_POOLS],
}

/// What a selection found.
#[derive(Clone, Copy, Debug)]
pub enum Choice {
    /// A victim of an earlier selection is still freeing.
    Dying(&'static OomPool),
    /// The pool that holds most.
    Victim(&'static OomPool),
    /// Nobody holds anything that could be taken.
    Nobody,
}

impl Registry {
    /// Nobody is registered.
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
            // Release: publishes the pool to `iter`.
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

    fn iter(&self) -> impl Iterator<Item = &'static OomPool> + '_ {
        self.pools.iter().filter_map(|entry| {
            // Acquire: pairs with the Release in `register`.
            let pool = entry.load(Ordering::Acquire);
            // SAFETY: only `register` stores here, and only references that live for good.
            unsafe { pool.as_ref() }
        })
    }

    /// Chooses whom to kill: one victim at a time, the one that holds most.
    pub fn choose(&self) -> Choice {
        if let Some(dying) = self.iter().find(|p| p.killed() && p.held_frames() > 0) {
            return Choice::Dying(dying);
        }
        match self.iter().max_by_key(|p| p.held_frames()) {
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
        assert!(matches!(registry.choose(), Choice::Nobody));
        assert!(registry.register(&A) && registry.register(&B));
        assert!(matches!(registry.choose(), Choice::Nobody));
        A.add(10);
        B.add(20);
        assert!(matches!(registry.choose(), Choice::Victim(p) if p.name() == "b"));
    }

    #[test]
    fn a_dying_victim_is_waited_for() {
        static A: OomPool = OomPool::new("a");
        static B: OomPool = OomPool::new("b");
        let registry = Registry::new();
        assert!(registry.register(&A) && registry.register(&B));
        A.add(10);
        B.add(20);
        A.kill();
        assert!(matches!(registry.choose(), Choice::Dying(p) if p.name() == "a"));
        A.sub(10);
        A.revive();
        assert!(matches!(registry.choose(), Choice::Victim(p) if p.name() == "b"));
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
