//! Deliberate mistakes that the tests must catch; none of them exists outside tests.

use tidemark_sync::atomic::Ordering;

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
    /// A pageblock leaves by a load and a store.
    LeaveInTwoSteps,
    /// A free looks whether its pageblock is isolated before it adds to the count.
    IsolationReadBeforeAdd,
    /// A whole pageblock is broken up, but its bits are not set.
    BreakUpWithoutBits,
    /// The claim of bits does not acquire.
    RelaxedClaim,
    /// A claim of several words that gives back what it has does not release that.
    RelaxedRollback,
    /// The clearing of bits does not release.
    RelaxedClear,
    /// The addition to the count does not release.
    RelaxedAdd,
    /// The reservation does not acquire.
    RelaxedReserve,
    /// The taking of a whole pageblock or pair does not acquire.
    RelaxedTake,
    /// The giving back of a whole pageblock or pair does not release.
    RelaxedGive,
    /// A pageblock joins without releasing what was written for it.
    RelaxedJoin,
    /// A pageblock is isolated without acquiring who joined it.
    RelaxedIsolate,
    /// The end of an isolation does not release.
    RelaxedUnisolate,
    /// A pageblock leaves without acquiring its last frees.
    RelaxedLeave,
    /// The end of a drain is announced without releasing it.
    RelaxedDrained,
    /// A drain is asked for without releasing what was done before.
    RelaxedDrainAsked,
    /// A drain is asked for without acquiring what those who asked before did.
    DrainAskedWithoutAcquire,
    /// A cache tests for a wanted drain before its owner flag is clear.
    DrainTestedBeforeClear,
    /// A cache's isolation test stands before its owner flag is set.
    IsolationTestedBeforeFlag,
    /// A gated section does not look whether it interrupts one.
    FlagNotHeeded,
    /// A task is switched away inside a gated section.
    #[cfg_attr(
        all(test, loom),
        expect(dead_code, reason = "chosen by enumerations only")
    )]
    SwitchedInside,
    /// A task is switched away between the end of a gated section and the drain that is owed there.
    #[cfg_attr(
        all(test, loom),
        expect(dead_code, reason = "chosen by enumerations only")
    )]
    SwitchedBeforeDrain,
    /// A task is switched away between the end of a gated section and a grace period's word that is
    /// owed.
    #[cfg_attr(
        all(test, loom),
        expect(dead_code, reason = "chosen by enumerations only")
    )]
    SwitchedBeforeGrace,
    /// A free clears the owner flag before its frame is in the cache.
    FlagClearedEarly,
    /// A free writes the entry when the bits say free already.
    EntryAfterBits,
    /// A search for a whole pageblock that finds none does not look whether one has come.
    FreeHugeNotRecounted,
    /// The count of pageblocks that have become whole does not release.
    RelaxedNote,
    /// What is done after that count is not kept behind it.
    NoteWithoutFence,
    /// New zonelists are put in force without releasing them.
    RelaxedPublish,
    /// Zonelists that may still be walked are written again.
    ReuseWithoutGrace,
    /// A grace period's interrupt acknowledges although it interrupted a pin.
    #[cfg_attr(
        all(test, not(loom)),
        expect(dead_code, reason = "chosen by models only")
    )]
    AcknowledgedInside,
    /// A zone that crosses a watermark is followed without being counted.
    FollowedWithoutCount,
    /// The counting does not order what was moved before.
    RelaxedFollow,
    /// A zone's counter is moved without a full fence before the look at the watermark.
    #[cfg_attr(
        all(test, not(loom)),
        expect(dead_code, reason = "chosen by models only")
    )]
    CrossedWithoutFence,
    /// A watermark is moved without a full fence before the look at the counter.
    #[cfg_attr(
        all(test, not(loom)),
        expect(dead_code, reason = "chosen by models only")
    )]
    WatermarkMovedWithoutFence,
    /// A drain is acknowledged when its interrupt arrives.
    DrainAcknowledgedEarly,
    /// A request gives up without a second look at its cpuset.
    CpusetNotRechecked,
    /// Whoever ends an isolation ends everybody's.
    OneIsolationForAll,
    /// Blocks of all sizes share pageblocks.
    SizesMix,
    /// Nothing is compacted.
    NoCompaction,
    /// A compaction leaves its pageblocks isolated.
    CompactionStaysIsolated,
}

#[cfg(test)]
std::thread_local! {
    static CHOSEN: core::cell::Cell<Mutant> = const { core::cell::Cell::new(Mutant::None) };
}

/// Returns whether `mutant` is the one under test on this thread.
#[cfg(test)]
pub(crate) fn is(mutant: Mutant) -> bool {
    CHOSEN.with(|chosen| chosen.get() == mutant)
}

/// Returns whether `mutant` is under test: never.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn is(_mutant: Mutant) -> bool {
    false
}

/// Returns this ordering, or none if `mutant` is under test.
#[inline(always)]
pub(crate) fn weakened(mutant: Mutant, ordering: Ordering) -> Ordering {
    if is(mutant) {
        Ordering::Relaxed
    } else {
        ordering
    }
}

/// Returns this ordering, or a weaker one if `mutant` is under test.
#[inline(always)]
pub(crate) fn weakened_to(mutant: Mutant, weaker: Ordering, ordering: Ordering) -> Ordering {
    if is(mutant) { weaker } else { ordering }
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
