//! The trait of the protocols between the readers and the writer of the lists.

use super::published::{Generation, Lists, Published};
use crate::base::{
    mistake::Mistake,
    platform::{Platform, Spin},
    request::Gfp,
};
use tidemark_sync::{Cookie, SeqCount, Task};

/// The result of a protocol's begin, which a request keeps.
#[doc(alias = "zonelist_iter_cookie")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeginCookie {
    /// The cookie, which later checks compare with the counter, if the protocol has such checks.
    pub cookie: Cookie,
    /// How often the begin found the counter odd while it waited for an even one.
    pub spins: u32,
}

impl BeginCookie {
    /// The result of a begin that reads nothing.
    pub(crate) const NOTHING: Self = Self {
        cookie: Cookie::from_value(0),
        spins: 0,
    };

    /// Begins by a read of the counter, without a wait.
    #[inline]
    pub(super) fn at_once(count: &SeqCount) -> Self {
        let cookie = count.begin();
        Self { cookie, spins: 0 }
    }

    /// Begins by a wait while the counter is odd. The function is not inlined, so that a backtrace
    /// names it.
    #[inline(never)]
    pub(super) fn read_seqbegin(count: &SeqCount, platform: &impl Platform) -> Self {
        let (cookie, spins) = count.begin_even(|| platform.spin(Spin::ReadBegin));
        Self { cookie, spins }
    }
}

/// Makes the counter odd, runs `rewrite`, and makes it even. Every writer calls it under its lock,
/// if readers compare with the counter.
pub(super) fn write_counted<P: Platform>(count: &SeqCount, platform: &P, rewrite: impl FnOnce()) {
    if platform.planted(Mistake::CountStands) {
        rewrite();
    } else {
        count.write(rewrite);
    }
}

/// What a check gets of a request that is about to give up, or to begin another round.
pub struct Reader<'a> {
    /// The request's flags; DIRECT_RECLAIM only if a task token lets it act.
    pub(crate) gfp: Gfp,
    /// The result of its begin.
    pub(crate) begun: BeginCookie,
    /// The lists that its last walk read.
    pub(crate) walked: Generation,
    /// The lists in force now.
    pub(crate) published: &'a Published,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCheck {
    /// Nothing has changed, as far as this protocol can tell.
    Unchanged,
    /// The lists may have changed: the request begins again.
    Restart,
    /// Other lists are in force: the request walks those, too.
    WalkAgain,
}

impl RetryCheck {
    /// Returns `Restart` if the lists changed.
    pub(super) fn restart_if(changed: bool) -> Self {
        if changed {
            Self::Restart
        } else {
            Self::Unchanged
        }
    }
}

/// Turns a protocol's own type into a trait object.
pub trait AnyProtocol<P: Platform> {
    /// Returns the protocol as a trait object.
    fn any(&self) -> &dyn Protocol<P>;
}

impl<P: Platform, R: Protocol<P>> AnyProtocol<P> for R {
    #[inline]
    fn any(&self) -> &dyn Protocol<P> {
        self
    }
}

/// A protocol between the readers and the writer of the lists. The slow path uses only this trait;
/// the fast path uses no protocol.
pub trait Protocol<P: Platform>: AnyProtocol<P> {
    /// Begins a reader's attempt, at `restart`. Any context.
    fn begin(&self, gfp: Gfp, platform: &P) -> BeginCookie;

    /// Returns whether every walk of an attempt starts at its preferred entry. The walks then
    /// remember its position and do not test it again, even if the list changes (H1, H8, H10).
    /// A protocol whose lists are never rewritten under a reader can afford to test it each time.
    fn remembers_start(&self) -> bool {
        true
    }

    /// Checks for a change, before OOM and at `nopage`. Any context.
    fn look(&self, reader: &Reader<'_>) -> RetryCheck;

    /// Checks for a change, at `retry`. Any context.
    fn look_at_retry(&self, reader: &Reader<'_>) -> RetryCheck {
        let _ = reader;
        RetryCheck::Unchanged
    }

    /// Prepares a rebuild. The caller has interrupts on, and holds no lock but the hot-plug lock,
    /// which sleeps. It is not called at boot.
    fn prepare(&self, platform: &P, task: &Task) {
        let _ = (platform, task);
    }

    /// Completes a rebuild. Its caller is in the same context as that of `prepare`.
    fn finish(&self, platform: &P, task: &Task) {
        let _ = (platform, task);
    }

    /// Writes the lists of the populated zones. Task context, or boot.
    fn rebuild(&self, lists: &Lists<'_, P>);

    /// Returns the counter for observers, which take no part in the protocol. It is odd while a
    /// rebuild is under way.
    fn observe(&self) -> Cookie;
}
