//! Where the slow path asks the zonelist protocol: at its begin, at `retry`, before OOM, at
//! `nopage`.

use crate::{
    alloc::{
        context::Walk,
        reach::Reach,
        slow::{Attempt, Outcome},
    },
    base::{mistake::Mistake, outcome::WalkInfo, platform::Spin, request::Gfp, types::Pfn},
    cache::cpu::PerCpu,
    frames::Frames,
    zonelist::{Begun, Look, Protocol, Reader},
};
use tidemark_sync::Task;

/// Which of the two last checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Before OOM.
    Oom,
    /// At `nopage`.
    Nopage,
}

impl<P: PerCpu> Frames<'_, P> {
    /// Takes what a request compares with later.
    #[inline(always)]
    pub(crate) fn take_cookie(&self, walk: &Walk, protocol: &(impl Protocol<P> + ?Sized)) -> Begun {
        if self.platform().planted(Mistake::BeginWaits) {
            self.wait_for_even(protocol);
        }
        protocol.begin(self.flags_for_protocol(walk), self.platform())
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
    fn flags_for_protocol(&self, walk: &Walk) -> Gfp {
        if self.platform().planted(Mistake::EverybodyLooks) {
            walk.gfp | Gfp::DIRECT_RECLAIM
        } else {
            walk.gfp
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
    fn reader(&self, walk: &Walk, attempt: &Attempt) -> Reader<'_> {
        Reader {
            gfp: self.flags_for_protocol(walk),
            begun: attempt.begun,
            walked: attempt.walked.get(),
            published: self.lists().published(),
        }
    }

    /// Asks the protocol at `retry`.
    #[inline]
    pub(crate) fn look_at_retry(
        &self,
        walk: &Walk,
        protocol: &dyn Protocol<P>,
        attempt: &Attempt,
    ) -> Look {
        if self.platform().planted(Mistake::NoCheckAtRetry) {
            return Look::Unchanged;
        }
        protocol.look_at_retry(&self.reader(walk, attempt))
    }

    /// Asks the protocol at one of the last checks.
    #[inline(always)]
    fn look_at_last(
        &self,
        check: Check,
        walk: &Walk,
        protocol: &(impl Protocol<P> + ?Sized),
        attempt: &Attempt,
    ) -> Look {
        let planted = |mistake| self.platform().planted(mistake);
        let is_left_out = match check {
            Check::Oom => planted(Mistake::NoCheckBeforeOom),
            Check::Nopage => planted(Mistake::NoCheckAtNopage),
        };
        if is_left_out {
            return Look::Unchanged;
        }
        if planted(Mistake::CheckWaits) {
            self.wait_for_even(protocol);
        }
        if planted(Mistake::ChangedWithoutOdd) && protocol.observe() == attempt.begun.cookie {
            return Look::Unchanged;
        }
        protocol.look(&self.reader(walk, attempt))
    }

    /// Asks cpuset and protocol about a request that is about to give up: nothing, or how it goes
    /// on.
    #[inline(always)]
    pub(crate) fn last_look(
        &self,
        check: Check,
        task: Option<&Task>,
        walk: &Walk,
        protocol: &(impl Protocol<P> + ?Sized),
        attempt: &Attempt,
        info: &mut WalkInfo,
    ) -> Option<Outcome> {
        if attempt.confinement.has_changed(self.platform(), task) {
            info.cpuset_retries += 1;
            return Some(Outcome::Restart);
        }
        loop {
            match self.look_at_last(check, walk, protocol, attempt) {
                Look::Unchanged => return None,
                Look::Restart => {
                    info.retries += 1;
                    return Some(Outcome::Restart);
                }
                Look::WalkAgain => {
                    // Once for each publication: not a wait for anybody.
                    info.retries += 1;
                    if let Some(pfn) = self.walk_again(task, walk, attempt) {
                        return Some(Outcome::Got(pfn));
                    }
                }
            }
        }
    }

    /// Walks the lists that are in force now.
    #[inline(always)]
    fn walk_again(&self, task: Option<&Task>, walk: &Walk, attempt: &Attempt) -> Option<Pfn> {
        let standing = self.standing(task, walk);
        let reach = Reach::of_round(walk, &attempt.confinement, standing);
        self.try_walk(walk, attempt, reach)
    }
}
