//! Deliberate mistakes that the tests must catch; none of them exists outside tests.

/// A swapped step or a weakened ordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "chosen by tests only"))]
pub(crate) enum Mutant {
    /// As it should be.
    None,
    /// A free adds to the count before it clears the bits.
    AddBeforeClear,
    /// A claim of several words that loses a race keeps what it has.
    ClaimWithoutRollback,
    /// An area leaves by a load and a store.
    LeaveInTwoSteps,
    /// The claim of bits does not acquire.
    RelaxedClaim,
    /// The clearing of bits does not release.
    RelaxedClear,
    /// The addition to the count does not release.
    RelaxedAdd,
    /// A cache tests for a wanted drain before its owner flag is clear.
    DrainTestedBeforeClear,
    /// A cache's isolation test stands before its owner flag is set.
    IsolationTestedBeforeFlag,
    /// New zonelists are put in force without releasing them.
    RelaxedPublish,
    /// Zonelists that may still be walked are written again.
    ReuseWithoutGrace,
    /// A grace period's interrupt acknowledges although it interrupted a pinned section.
    #[cfg_attr(
        all(test, not(loom)),
        expect(dead_code, reason = "chosen by models only")
    )]
    AcknowledgedInside,
    /// A drain is acknowledged when its interrupt arrives.
    DrainAcknowledgedEarly,
    /// A request gives up without a second look at its cpuset.
    CpusetNotRechecked,
    /// Whoever ends an isolation ends everybody's.
    OneIsolationForAll,
    /// Blocks of all sizes share areas.
    SizesMix,
    /// Nothing is compacted.
    NoCompaction,
    /// A compaction leaves its areas isolated.
    CompactionStaysIsolated,
}

#[cfg(test)]
std::thread_local! {
    static CHOSEN: core::cell::Cell<Mutant> = const { core::cell::Cell::new(Mutant::None) };
}

/// Whether `mutant` is the one under test on this thread.
#[cfg(test)]
pub(crate) fn is(mutant: Mutant) -> bool {
    CHOSEN.with(|chosen| chosen.get() == mutant)
}

/// Whether `mutant` is under test: never.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn is(_mutant: Mutant) -> bool {
    false
}

/// Runs `body` with a mutant on this thread.
#[cfg(test)]
pub(crate) fn with<R>(mutant: Mutant, body: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            CHOSEN.with(|chosen| chosen.set(Mutant::None));
        }
    }
    let _reset = Reset;
    CHOSEN.with(|chosen| chosen.set(mutant));
    body()
}
