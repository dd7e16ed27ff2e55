//! Where the slow path asks the zonelist protocol: at its begin, at `retry`, before OOM, at
//! `nopage`.

use crate::{
    alloc::{
        context::AllocContext,
        limits::WalkLimits,
        slow::{Attempt, Outcome},
    },
    base::{mistake::Mistake, outcome::WalkInfo, platform::Spin, request::Gfp, types::Pfn},
    cache::cpu::PerCpu,
    frames::Frames,
    zonelist::{BeginCookie, Protocol, Reader, RetryCheck},
};
use tidemark_sync::Task;

/// Which of the two last checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastCheck {
    /// Before OOM.
    Oom,
    /// At `nopage`.
    Nopage,
}

impl<P: PerCpu> Frames<'_, P> {
    /// Takes what a request compares with later.
    #[inline(always)]
    pub(crate) fn take_cookie(
        &self,
        ac: &AllocContext,
        protocol: &(impl Protocol<P> + ?Sized),
    ) -> BeginCookie {
        if self.platform().planted(Mistake::BeginWaits) {
            self.wait_for_even(protocol);
        }
        protocol.begin(self.flags_for_protocol(ac), self.platform())
    }

    /// Returns where the walks of a request start whose preferred entry is at `preferred`.
    #[inline(always)]
    pub(crate) fn start_of(
        &self,
        protocol: &(impl Protocol<P> + ?Sized),
        preferred: usize,
    ) -> usize {
        if self.platform().planted(Mistake::StartRemembered) {
            preferred
        } else {
            protocol.start(preferred)
        }
    }

    /// Returns the flags by which a protocol tells who begins and looks.
    #[inline(always)]
    fn flags_for_protocol(&self, ac: &AllocContext) -> Gfp {
        if self.platform().planted(Mistake::EverybodyLooks) {
            ac.gfp | Gfp::DIRECT_RECLAIM
        } else {
            ac.gfp
        }
    }

    /// Waits while the count is odd: what the planted mistakes do that wait.
    #[cold]
    #[inline(never)]
    fn wait_for_even(&self, protocol: &(impl Protocol<P> + ?Sized)) {
        while protocol.observe().is_odd() {
            if self.platform().spin(Spin::ReadBegin).is_break() {
                return;
            }
        }
    }

    #[inline]
    fn reader(&self, ac: &AllocContext, attempt: &Attempt) -> Reader<'_> {
        Reader {
            gfp: self.flags_for_protocol(ac),
            begun: attempt.begun,
            walked: attempt.walked.get(),
            published: self.lists().published(),
        }
    }

    /// Asks the protocol at `retry`.
    #[inline]
    pub(crate) fn look_at_retry(
        &self,
        ac: &AllocContext,
        protocol: &dyn Protocol<P>,
        attempt: &Attempt,
    ) -> RetryCheck {
        if self.platform().planted(Mistake::NoCheckAtRetry) {
            return RetryCheck::Unchanged;
        }
        protocol.look_at_retry(&self.reader(ac, attempt))
    }

    /// Asks the protocol at one of the last checks.
    #[inline(always)]
    fn look_at_last(
        &self,
        check: LastCheck,
        ac: &AllocContext,
        protocol: &(impl Protocol<P> + ?Sized),
        attempt: &Attempt,
    ) -> RetryCheck {
        let planted = |mistake| self.platform().planted(mistake);
        let is_left_out = match check {
            LastCheck::Oom => planted(Mistake::NoCheckBeforeOom),
            LastCheck::Nopage => planted(Mistake::NoCheckAtNopage),
        };
        if is_left_out {
            return RetryCheck::Unchanged;
        }
        if planted(Mistake::CheckWaits) {
            self.wait_for_even(protocol);
        }
        if planted(Mistake::ChangedWithoutOdd) && protocol.observe() == attempt.begun.cookie {
            return RetryCheck::Unchanged;
        }
        protocol.look(&self.reader(ac, attempt))
    }

    /// Asks cpuset and protocol about a request that is about to give up: nothing, or how it goes
    /// on.
    #[inline(always)]
    pub(crate) fn last_look(
        &self,
        check: LastCheck,
        task: Option<&Task>,
        ac: &AllocContext,
        protocol: &(impl Protocol<P> + ?Sized),
        attempt: &Attempt,
        info: &mut WalkInfo,
    ) -> Option<Outcome> {
        if attempt.confinement.has_changed(self.platform(), task) {
            info.cpuset_retries += 1;
            return Some(Outcome::Restart);
        }
        loop {
            match self.look_at_last(check, ac, protocol, attempt) {
                RetryCheck::Unchanged => return None,
                RetryCheck::Restart => {
                    info.retries += 1;
                    return Some(Outcome::Restart);
                }
                RetryCheck::WalkAgain => {
                    // Once for each publication: not a wait for anybody.
                    info.retries += 1;
                    if let Some(pfn) = self.walk_again(task, ac, attempt) {
                        return Some(Outcome::Got(pfn));
                    }
                }
            }
        }
    }

    /// Walks the lists that are in force now.
    #[inline(always)]
    fn walk_again(&self, task: Option<&Task>, ac: &AllocContext, attempt: &Attempt) -> Option<Pfn> {
        let role = self.memalloc_role(task, ac);
        let limits = WalkLimits::of_round(ac, &attempt.confinement, role);
        self.try_walk(ac, attempt, limits)
    }
}
