//! Where the slow path asks the zonelist protocol: at its begin, at `retry`, before OOM, at
//! `nopage`.

use crate::{
    alloc::{
        list_walk::WalkStart,
        slow::{Outcome, SlowPath},
    },
    base::{mistake::Mistake, platform::Spin, request::Gfp},
    cache::cpu::PerCpu,
    zonelist::{BeginCookie, Protocol, Reader, RetryCheck},
};

/// Which of the two last checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastCheck {
    /// Before OOM.
    Oom,
    /// At `nopage`.
    Nopage,
}

impl<P: PerCpu, R: Protocol<P> + ?Sized> SlowPath<'_, '_, P, R> {
    fn is_planted(&self, mistake: Mistake) -> bool {
        self.frames.platform().planted(mistake)
    }

    /// Takes what the request compares with later.
    #[inline(always)]
    pub(crate) fn take_cookie(&self) -> BeginCookie {
        if self.is_planted(Mistake::BeginWaits) {
            self.wait_for_even();
        }
        let flags = self.flags_for_protocol();
        self.protocol.begin(flags, self.frames.platform())
    }

    /// Returns where the walks of a request start whose preferred entry is at `preferred`.
    #[inline(always)]
    pub(crate) fn start_of(&self, preferred: u8) -> WalkStart {
        if self.is_planted(Mistake::StartRemembered) || self.protocol.remembers_start() {
            WalkStart {
                at: preferred,
                is_remembered: true,
            }
        } else {
            WalkStart::tested(0)
        }
    }

    /// Returns the flags by which a protocol tells which requests begin and look.
    #[inline(always)]
    fn flags_for_protocol(&self) -> Gfp {
        if self.is_planted(Mistake::EverybodyLooks) {
            self.ac.gfp | Gfp::DIRECT_RECLAIM
        } else {
            self.ac.gfp
        }
    }

    /// Waits while the count is odd: what the planted mistakes do that wait.
    #[cold]
    #[inline(never)]
    fn wait_for_even(&self) {
        while self.protocol.observe().is_odd() {
            if self.frames.platform().spin(Spin::ReadBegin).is_break() {
                return;
            }
        }
    }

    #[inline]
    fn reader(&self) -> Reader<'_> {
        Reader {
            gfp: self.flags_for_protocol(),
            begun: self.state.begun,
            walked: self.state.walked,
            published: self.frames.lists().published(),
        }
    }

    /// Asks the protocol at `retry`.
    #[inline]
    pub(crate) fn look_at_retry(&self) -> RetryCheck {
        if self.is_planted(Mistake::NoCheckAtRetry) {
            return RetryCheck::Unchanged;
        }
        self.protocol.look_at_retry(&self.reader())
    }

    /// Asks the protocol at one of the last checks.
    #[inline(always)]
    fn look_at_last(&self, check: LastCheck) -> RetryCheck {
        let is_left_out = match check {
            LastCheck::Oom => self.is_planted(Mistake::NoCheckBeforeOom),
            LastCheck::Nopage => self.is_planted(Mistake::NoCheckAtNopage),
        };
        if is_left_out {
            return RetryCheck::Unchanged;
        }
        if self.is_planted(Mistake::CheckWaits) {
            self.wait_for_even();
        }
        if self.is_planted(Mistake::ChangedWithoutOdd)
            && self.protocol.observe() == self.state.begun.cookie
        {
            return RetryCheck::Unchanged;
        }
        self.protocol.look(&self.reader())
    }

    /// Returns whether the task's cpuset is another one than at the begin; counts it if so.
    #[inline(always)]
    pub(crate) fn cpuset_has_changed(&mut self) -> bool {
        let confinement = &self.state.confinement;
        let has_changed = confinement.has_changed(self.frames.platform(), self.task);
        self.info.cpuset_retries += u32::from(has_changed);
        has_changed
    }

    /// Asks cpuset and protocol about a request that is about to give up: nothing, or how it goes
    /// on.
    #[inline(always)]
    pub(crate) fn last_look(&mut self, check: LastCheck) -> Option<Outcome> {
        if self.cpuset_has_changed() {
            return Some(Outcome::Restart);
        }
        loop {
            let found = self.look_at_last(check);
            if found == RetryCheck::Unchanged {
                return None;
            }
            self.info.retries += 1;
            if found == RetryCheck::Restart {
                return Some(Outcome::Restart);
            }
            // Other lists are in force. Once for each publication: this waits for nothing.
            let limits = self.limits_of_round(self.role());
            let mut any = self.any();
            let taken = any.try_walk(limits);
            self.state = any.state;
            if let Some(pfn) = taken {
                return Some(Outcome::Got(pfn));
            }
        }
    }
}
