//! The slow path's use of the zonelist protocol: at its begin, at `retry`, before OOM, and at
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

/// One of the two last checks.
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

    /// Runs the protocol's begin, and returns its cookie for the later checks.
    #[doc(alias = "zonelist_iter_begin")]
    #[inline(always)]
    pub(crate) fn take_cookie(&self) -> BeginCookie {
        if self.is_planted(Mistake::BeginWaits) {
            self.wait_for_even();
        }
        let flags = self.flags_for_protocol();
        self.protocol.begin(flags, self.frames.platform())
    }

    /// Returns the start of the walks of a request with its preferred entry at `preferred`.
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

    /// Returns the flags that tell a protocol whether the request takes part in it.
    #[inline(always)]
    fn flags_for_protocol(&self) -> Gfp {
        if self.is_planted(Mistake::EverybodyLooks) {
            self.ac.gfp | Gfp::DIRECT_RECLAIM
        } else {
            self.ac.gfp
        }
    }

    /// Waits while the counter is odd, for the planted mistakes that wait.
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

    /// Runs the protocol's check at `retry`.
    #[inline]
    pub(crate) fn look_at_retry(&self) -> RetryCheck {
        if self.is_planted(Mistake::NoCheckAtRetry) {
            return RetryCheck::Unchanged;
        }
        self.protocol.look_at_retry(&self.reader())
    }

    /// Runs the protocol's check before OOM or at `nopage`.
    #[doc(alias = "check_retry_zonelist")]
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

    /// Returns whether the task's cpuset has changed since the begin; counts it if so.
    #[doc(alias = "check_retry_cpuset")]
    #[inline(always)]
    pub(crate) fn cpuset_has_changed(&mut self) -> bool {
        let confinement = &self.state.confinement;
        let has_changed = confinement.has_changed(self.frames.platform(), self.task);
        self.info.cpuset_retries += u32::from(has_changed);
        has_changed
    }

    /// Checks cpuset and protocol for a request that is about to give up. Returns `None` if nothing
    /// has changed, else how the request goes on.
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
            // Other lists are in force. The loop turns once for each publication, and waits for
            // nothing.
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
