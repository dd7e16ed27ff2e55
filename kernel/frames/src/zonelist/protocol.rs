//! What readers and the writer of the lists owe each other.

use super::published::{Generation, Lists, Published};
use crate::base::{
    mistake::Mistake,
    platform::{Platform, Spin},
    request::Gfp,
};
use tidemark_sync::{Cookie, SeqCount, Task};

/// What a request took with it at its begin.
#[doc(alias = "zonelist_iter_cookie")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeginCookie {
    /// What it compares with later, where the protocol has readers do so.
    pub cookie: Cookie,
    /// How often it found the count odd while it waited for an even one.
    pub spins: u32,
}

impl BeginCookie {
    /// A begin that takes nothing.
    pub(crate) const NOTHING: Self = Self {
        cookie: Cookie::from_value(0),
        spins: 0,
    };

    /// Begins by a look at the count, and never waits.
    #[inline]
    pub(super) fn at_once(count: &SeqCount) -> Self {
        let cookie = count.begin();
        Self { cookie, spins: 0 }
    }

    /// Waits while the count is odd. A function of its own, so that a backtrace names it.
    #[inline(never)]
    pub(super) fn read_seqbegin(count: &SeqCount, platform: &impl Platform) -> Self {
        let (cookie, spins) = count.begin_even(|| platform.spin(Spin::ReadBegin));
        Self { cookie, spins }
    }
}

/// Makes the count odd, runs `rewrite`, and makes it even: what every writer with a count does,
/// under its lock.
pub(super) fn write_counted<P: Platform>(count: &SeqCount, platform: &P, rewrite: impl FnOnce()) {
    if platform.planted(Mistake::CountStands) {
        rewrite();
    } else {
        count.write(rewrite);
    }
}

/// A request that found nothing and is about to give up, or to begin another round.
pub struct Reader<'a> {
    /// Its flags; DIRECT_RECLAIM only if it may act on it.
    pub(crate) gfp: Gfp,
    /// What its begin took.
    pub(crate) begun: BeginCookie,
    /// The lists that its last walk walked.
    pub(crate) walked: Generation,
    /// The lists in force now.
    pub(crate) published: &'a Published,
}

/// What a request is told when it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCheck {
    /// Nothing has changed, as far as this protocol can tell.
    Unchanged,
    /// The lists may have changed: begin again.
    Restart,
    /// Other lists are in force: walk those, too.
    WalkAgain,
}

impl RetryCheck {
    /// Returns "restart" if the lists changed.
    pub(super) fn restart_if(changed: bool) -> Self {
        if changed {
            Self::Restart
        } else {
            Self::Unchanged
        }
    }
}

/// A protocol, whichever it is.
pub trait AnyProtocol<P: Platform> {
    /// Returns the protocol as any.
    fn any(&self) -> &dyn Protocol<P>;
}

impl<P: Platform, R: Protocol<P>> AnyProtocol<P> for R {
    #[inline]
    fn any(&self) -> &dyn Protocol<P> {
        self
    }
}

/// What readers and the writer of the lists owe each other. The slow path is written once against
/// it; the fast path never sees it.
pub trait Protocol<P: Platform>: AnyProtocol<P> {
    /// Begins a reader's attempt, at `restart`. Any context.
    fn begin(&self, gfp: Gfp, platform: &P) -> BeginCookie;

    /// Returns whether every walk of a begin starts at its preferred entry, remembered across walks
    /// and not tested again, whatever becomes of the list (H1, H8, H10).
    fn remembers_start(&self) -> bool {
        true
    }

    /// Looks again, before OOM and at `nopage`. Any context.
    fn look(&self, reader: &Reader<'_>) -> RetryCheck;

    /// Looks again, at `retry`. Any context.
    fn look_at_retry(&self, reader: &Reader<'_>) -> RetryCheck {
        let _ = reader;
        RetryCheck::Unchanged
    }

    /// Does what comes before a rebuild, with interrupts on and no lock held but the hot-plug lock,
    /// which sleeps. Not at boot.
    fn prepare(&self, platform: &P, task: &Task) {
        let _ = (platform, task);
    }

    /// Does what comes after a rebuild, in the same way.
    fn finish(&self, platform: &P, task: &Task) {
        let _ = (platform, task);
    }

    /// Makes the lists what the populated zones demand. Task context, or boot.
    fn rebuild(&self, lists: &Lists<'_, P>);

    /// Returns the count for observers, who do not take part: odd while a rebuild is under way.
    fn observe(&self) -> Cookie;
}
