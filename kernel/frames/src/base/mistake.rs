//! Mistakes that a platform can have a zonelist protocol make, so that each can be seen to matter.

/// A deliberate mistake in a zonelist protocol: see
/// [`Platform::planted`](crate::Platform::planted). The module `mutant` has those that only a model
/// or a host test can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mistake {
    /// Requests without DIRECT_RECLAIM begin and look as the others do: a check too many.
    EverybodyLooks,
    /// The check before OOM is left out.
    NoCheckBeforeOom,
    /// The check at `nopage` is left out; in `snapshot`, the second look there.
    NoCheckAtNopage,
    /// The check at `retry` is left out.
    NoCheckAtRetry,
    /// A count that is odd, and was at the begin, passes the check.
    ChangedWithoutOdd,
    /// The begin waits for an even count.
    BeginWaits,
    /// The check waits for an even count.
    CheckWaits,
    /// The writer leaves interrupts on, where its protocol turns them off.
    InterruptsOn,
    /// The writer does not defer the console.
    NotDeferred,
    /// The writer defers the console only while it rewrites: after its begin was annotated, and not
    /// until its end is.
    DeferredLate,
    /// The lock validator is told of the writer's begin when the count is odd.
    AnnotatedInside,
    /// The count stays as it is.
    CountStands,
    /// Lists are written again without a wait for those who may walk them.
    NoGrace,
    /// Lists are put in force before they are written.
    PublishedEarly,
    /// The start is remembered across walks.
    StartRemembered,
    /// The hot path remembers a zone by its entry's index alone.
    TornRemembered,
}

impl Mistake {
    /// Every mistake.
    pub const ALL: [Self; 16] = [
        Self::EverybodyLooks,
        Self::NoCheckBeforeOom,
        Self::NoCheckAtNopage,
        Self::NoCheckAtRetry,
        Self::ChangedWithoutOdd,
        Self::BeginWaits,
        Self::CheckWaits,
        Self::InterruptsOn,
        Self::NotDeferred,
        Self::DeferredLate,
        Self::AnnotatedInside,
        Self::CountStands,
        Self::NoGrace,
        Self::PublishedEarly,
        Self::StartRemembered,
        Self::TornRemembered,
    ];

    /// Returns the name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EverybodyLooks => "everybody-looks",
            Self::NoCheckBeforeOom => "no-check-before-oom",
            Self::NoCheckAtNopage => "no-check-at-nopage",
            Self::NoCheckAtRetry => "no-check-at-retry",
            Self::ChangedWithoutOdd => "changed-without-odd",
            Self::BeginWaits => "begin-waits",
            Self::CheckWaits => "check-waits",
            Self::InterruptsOn => "interrupts-on",
            Self::NotDeferred => "not-deferred",
            Self::DeferredLate => "deferred-late",
            Self::AnnotatedInside => "annotated-inside",
            Self::CountStands => "count-stands",
            Self::NoGrace => "no-grace",
            Self::PublishedEarly => "published-early",
            Self::StartRemembered => "start-remembered",
            Self::TornRemembered => "torn-remembered",
        }
    }

    /// Returns the mistake of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mistake| mistake.name() == name)
    }
}
