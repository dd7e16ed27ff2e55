//! Mistakes that a platform can have a zonelist protocol make, so that each can be seen to matter.

tidemark_facts::named! {
    /// A deliberate mistake in a zonelist protocol: see
    /// [`Platform::planted`](crate::Platform::planted). The module `mutant` has those that only a
    /// model or a host test can tell.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[repr(u8)]
    pub enum Mistake {
        /// A check too many.
        EverybodyLooks = "everybody-looks",
            "requests that may not reclaim begin and look as the others do",
        NoCheckBeforeOom = "no-check-before-oom", "no check before OOM",
        NoCheckAtNopage = "no-check-at-nopage",
            "no check at nopage; in snapshot no second look there",
        NoCheckAtRetry = "no-check-at-retry", "no check at retry",
        /// A count that is odd, and was at the begin, passes the check.
        ChangedWithoutOdd = "changed-without-odd", "\"changed\" without \"or odd\"",
        BeginWaits = "begin-waits", "the begin waits for an even counter",
        CheckWaits = "check-waits", "the check waits for an even counter",
        /// Where its protocol turns them off.
        InterruptsOn = "interrupts-on", "the writer leaves interrupts on",
        NotDeferred = "not-deferred", "the console is not deferred",
        /// Only while the writer rewrites: after its begin was annotated, and not until its end is.
        DeferredLate = "deferred-late", "the console is deferred inside the annotations",
        AnnotatedInside = "annotated-inside", "the begin is annotated when the counter is odd",
        CountStands = "count-stands", "the counter never moves",
        /// Nobody waits for those who may walk them.
        NoGrace = "no-grace", "lists are written again without a grace period",
        PublishedEarly = "published-early", "lists are put in force before they are written",
        StartRemembered = "start-remembered", "the start is remembered across walks",
        TornRemembered = "torn-remembered",
            "the hot path remembers a zone by its entry's index alone",
    }
}
