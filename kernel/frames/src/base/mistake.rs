//! Mistakes that a platform can plant in a zonelist protocol, to show what each breaks.

tidemark_facts::named! {
    /// A deliberate mistake in a zonelist protocol: see
    /// [`Platform::planted`](crate::Platform::planted). The module `mutant` has the mistakes that
    /// only a model or a host test can find.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[repr(u8)]
    pub enum Mistake {
        /// Their check is one too many.
        EverybodyLooks = "everybody-looks",
            "requests that may not reclaim begin and look as the others do",
        NoCheckBeforeOom = "no-check-before-oom", "no check before OOM",
        NoCheckAtNopage = "no-check-at-nopage",
            "no check at nopage; in snapshot no second look there",
        NoCheckAtRetry = "no-check-at-retry", "no check at retry",
        /// A counter that is odd now, and was at the begin, passes the check.
        ChangedWithoutOdd = "changed-without-odd", "\"changed\" without \"or odd\"",
        BeginWaits = "begin-waits", "the begin waits for an even counter",
        CheckWaits = "check-waits", "the check waits for an even counter",
        /// Its protocol turns them off.
        InterruptsOn = "interrupts-on", "the writer leaves interrupts on",
        NotDeferred = "not-deferred", "the console is not deferred",
        /// It is deferred only while the writer rewrites, and not while its begin and its end are
        /// annotated.
        DeferredLate = "deferred-late", "the console is deferred inside the annotations",
        AnnotatedInside = "annotated-inside", "the begin is annotated when the counter is odd",
        CountStands = "count-stands", "the counter never moves",
        /// The writer does not wait for the readers that may still walk them.
        NoGrace = "no-grace", "lists are written again without a grace period",
        PublishedEarly = "published-early", "lists are put in force before they are written",
        StartRemembered = "start-remembered", "the start is remembered across walks",
        TornRemembered = "torn-remembered",
            "the hot path remembers a zone by its entry's index alone",
    }
}
