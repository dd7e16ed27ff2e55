//! Deliberate mistakes that the tests must catch; none of them exists outside tests.

use tidemark_sync::atomic::Ordering;

/// A swapped step or a weakened ordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "chosen by tests only"))]
pub(crate) enum Mutant {
    /// No mistake.
    None,
    /// A free adds to the count before it clears the bits.
    AddBeforeClear,
    /// A claim of several words that loses a race keeps the bits that it has set.
    ClaimWithoutRollback,
    /// A pageblock leaves by a load and a store instead of a compare-and-swap.
    LeaveInTwoSteps,
    /// A free tests whether its pageblock is isolated before it adds to the count.
    IsolationReadBeforeAdd,
    /// A whole pageblock is broken up, but its bits are not set.
    BreakUpWithoutBits,
    /// The claim of bits does not acquire.
    RelaxedClaim,
    /// A claim of several words that rolls back clears the bits without releasing.
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
    /// A pageblock is isolated without acquiring what the join released.
    RelaxedIsolate,
    /// The end of an isolation does not release.
    RelaxedUnisolate,
    /// A pageblock leaves without acquiring its last frees.
    RelaxedLeave,
    /// The end of a drain is stored without releasing.
    RelaxedDrained,
    /// A drain is requested without releasing what was done before.
    RelaxedDrainAsked,
    /// A drain is requested without acquiring what earlier requests for one released.
    DrainAskedWithoutAcquire,
    /// The end of a gated section tests for an owed drain before it closes the gate.
    DrainTestedBeforeClear,
    /// The test of the cache limit comes before the gate is opened.
    IsolationTestedBeforeFlag,
    /// A gated section does not test whether it interrupts one.
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
    /// A task is switched away between the end of a gated section and the acknowledgement that is
    /// owed to a grace period.
    #[cfg_attr(
        all(test, loom),
        expect(dead_code, reason = "chosen by enumerations only")
    )]
    SwitchedBeforeGrace,
    /// A free closes the gate before its frame is in the cache.
    FlagClearedEarly,
    /// A free writes the entry after it has cleared the bits.
    EntryAfterBits,
    /// A search for a whole pageblock that finds none does not compare the count of completed
    /// pageblocks.
    FreeHugeNotRecounted,
    /// The addition to the count of completed pageblocks does not release.
    RelaxedNote,
    /// No fence orders what is done after that addition behind it.
    NoteWithoutFence,
    /// New zonelists are published without releasing.
    RelaxedPublish,
    /// Zonelists that may still be walked are written again.
    ReuseWithoutGrace,
    /// A grace period's interrupt acknowledges although it interrupted a pinned section.
    #[cfg_attr(
        all(test, not(loom)),
        expect(dead_code, reason = "chosen by models only")
    )]
    AcknowledgedInside,
    /// A zone's sides of its watermarks are stored without the addition to the zone's word.
    FollowedWithoutCount,
    /// The addition to the zone's word does not order what was moved before.
    RelaxedFollow,
    /// A zone's counter is moved, and no full fence stands before the watermark is read.
    #[cfg_attr(
        all(test, not(loom)),
        expect(dead_code, reason = "chosen by models only")
    )]
    CrossedWithoutFence,
    /// A watermark is moved, and no full fence stands before the counter is read.
    #[cfg_attr(
        all(test, not(loom)),
        expect(dead_code, reason = "chosen by models only")
    )]
    WatermarkMovedWithoutFence,
    /// A drain is acknowledged when its interrupt arrives.
    DrainAcknowledgedEarly,
    /// A request gives up without reading its cpuset again.
    CpusetNotRechecked,
    /// The end of one isolation clears the bits of both.
    OneIsolationForAll,
    /// Blocks of all size classes share pageblocks.
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

/// Returns whether `mutant` is under test on this thread.
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

/// Returns `ordering`, or `Relaxed` if `mutant` is under test.
#[inline(always)]
pub(crate) fn weakened(mutant: Mutant, ordering: Ordering) -> Ordering {
    if is(mutant) {
        Ordering::Relaxed
    } else {
        ordering
    }
}

/// Returns `ordering`, or `weaker` if `mutant` is under test.
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
