//! Mistakes that a platform can plant in a zonelist protocol, to show what each breaks.

/// A deliberate mistake in a zonelist protocol: see
/// [`Platform::planted`](crate::Platform::planted). The module `mutant` has the mistakes that only
/// a model or a host test can find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mistake {
    /// Requests without DIRECT_RECLAIM take part in the protocol as the others do: they read the
    /// cookie and compare it.
    EverybodyLooks,
    /// The check before OOM is left out.
    NoCheckBeforeOom,
    /// The check at `nopage` is left out; in `snapshot`, the second look there.
    NoCheckAtNopage,
    /// The check at `retry` is left out.
    NoCheckAtRetry,
    /// A counter that is odd now, and was at the begin, passes the check.
    ChangedWithoutOdd,
    /// The begin waits for an even counter.
    BeginWaits,
    /// The check waits for an even counter.
    CheckWaits,
    /// The writer leaves interrupts on, where its protocol turns them off.
    InterruptsOn,
    /// The writer does not defer the console.
    NotDeferred,
    /// The writer defers the console only while it rewrites, and not while its begin and its end
    /// are annotated.
    DeferredLate,
    /// The lock validator is told of the writer's begin while the counter is odd (H5).
    AnnotatedInside,
    /// The writer does not change the counter.
    CountStands,
    /// Lists are written again without a wait for the readers that may still walk them.
    NoGrace,
    /// Lists are published before they are written.
    PublishedEarly,
    /// A request remembers its start across walks.
    StartRemembered,
    /// The hot path remembers a zone by its entry's index alone (H7).
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
