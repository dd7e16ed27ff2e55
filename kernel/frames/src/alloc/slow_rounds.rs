//! The rounds of the slow path, from `retry` on: reserves, direct reclaim, a drain of all caches,
//! compaction, OOM.

use crate::{
    alloc::{
        limits::WalkLimits,
        look::LastCheck,
        slow::{AnySlowPath, Outcome},
    },
    base::{
        platform::{MemallocRole, OomOutcome, Point},
        request::Gfp,
        types::{Order, Pfn, ZoneKind},
    },
    cache::cpu::PerCpu,
    zone::high_atomic::Keep,
    zonelist::RetryCheck,
};
use tidemark_sync::Task;

/// The most rounds without progress. After them a request reclaims no more.
const MAX_ROUNDS: u32 = 16;

/// Where a request goes after a round without success.
enum Next {
    Retry,
    NoPage,
}

/// The result of the last try before OOM, and of OOM.
enum Oom {
    /// The last try got a block.
    Got(Pfn),
    /// A victim dies, so memory will be freed.
    VictimDies,
    /// No task is killed for this request.
    NoVictim,
}

impl<P: PerCpu> AnySlowPath<'_, '_, P> {
    /// Completes an attempt after its first walk has failed.
    #[inline(never)]
    pub(crate) fn go_on(&mut self) -> Outcome {
        if self.state.preferred.is_some()
            && let Some(pfn) = self.compact_first()
        {
            return Outcome::Got(pfn);
        }
        let (mut rounds, mut woken) = (0, true);
        loop {
            if self.state.preferred.is_some() {
                if !core::mem::take(&mut woken) {
                    self.wake_reclaimers();
                }
                match self.retry_round(&mut rounds) {
                    Ok(outcome) => return outcome,
                    Err(Next::Retry) => continue,
                    Err(Next::NoPage) => {}
                }
            }
            self.frames.platform().point(Point::SlowCheckNopage);
            if let Some(outcome) = self.last_look(LastCheck::Nopage) {
                return outcome;
            }
            match self.never_fail() {
                Some(Ok(pfn)) => return Outcome::Got(pfn),
                Some(Err(())) => {}
                None => return Outcome::Failed,
            }
        }
    }

    /// Compacts before the first reclaim. Costly orders mostly lack a free run, not free frames. So
    /// do unmovable requests, which would have to take from pageblocks of movable blocks.
    fn compact_first(&self) -> Option<Pfn> {
        let ac = self.ac;
        let is_larger = ac.order > Order::COSTLY || !ac.gfp.contains(Gfp::MOVABLE);
        if ac.order == Order::ZERO || !is_larger || !ac.gfp.contains(Gfp::DIRECT_RECLAIM) {
            return None;
        }
        let task = self.reclaims(self.role())?;
        self.frames.compact(ac, self.limits(), task)
    }

    /// Runs one round from `retry` on. Returns an outcome, or where the request goes on.
    #[doc(alias = "should_reclaim_retry")]
    fn retry_round(&mut self, rounds: &mut u32) -> Result<Outcome, Next> {
        let (frames, ac) = (self.frames, self.ac);
        frames.platform().point(Point::SlowRetry);
        if self.cpuset_has_changed() {
            return Ok(Outcome::Restart);
        }
        if self.look_at_retry() == RetryCheck::Restart {
            self.info.retries += 1;
            return Ok(Outcome::Restart);
        }
        let role = self.role();
        let limits = self.limits_of_round(role);
        if let Some(pfn) = self.try_walk(limits) {
            return Ok(Outcome::Got(pfn));
        }
        let Some(task) = self.reclaims(role) else {
            return Err(Next::NoPage);
        };
        let progress = self.reclaim(task);
        if let Some(pfn) = self.try_walk(limits) {
            return Ok(Outcome::Got(pfn));
        }
        // The missing frames may be in the high-atomic reserve, or in other CPUs' caches.
        frames.give_back_high_atomic(ac, limits.eligible(), Keep::OnePageblock);
        frames.drain_all(task);
        if let Some(pfn) = self.try_walk(limits) {
            return Ok(Outcome::Got(pfn));
        }
        if let Some(pfn) = frames.compact(ac, limits, task) {
            return Ok(Outcome::Got(pfn));
        }
        let is_costly = ac.order > Order::COSTLY;
        if ac.gfp.contains(Gfp::NORETRY) || is_costly && !ac.gfp.contains(Gfp::RETRY_MAYFAIL) {
            return Err(Next::NoPage);
        }
        if progress > 0 && !is_costly {
            *rounds = 0;
        } else {
            *rounds += 1;
        }
        if *rounds <= MAX_ROUNDS && self.could_progress(limits) {
            frames.platform().relax(task);
            return Err(Next::Retry);
        }
        if frames.give_back_high_atomic(ac, limits.eligible(), Keep::Nothing) {
            return Err(Next::Retry);
        }
        frames.platform().point(Point::SlowCheckOom);
        if let Some(outcome) = self.last_look(LastCheck::Oom) {
            return Ok(outcome);
        }
        match self.out_of_memory(task) {
            Oom::Got(pfn) => return Ok(Outcome::Got(pfn)),
            Oom::NoVictim => return Err(Next::NoPage),
            Oom::VictimDies => *rounds = 0,
        }
        let now = frames.platform().memalloc_role(task);
        let has_had_its_share = role == MemallocRole::Victim || ac.gfp.contains(Gfp::NOMEMALLOC);
        if now == MemallocRole::Victim && has_had_its_share {
            // A victim frees its memory sooner if its request fails.
            return Err(Next::NoPage);
        }
        frames.platform().relax(task);
        Err(Next::Retry)
    }

    /// Tries a last time, and then calls OOM, which kills a victim.
    #[doc(alias = "__alloc_pages_may_oom")]
    fn out_of_memory(&mut self, task: &Task) -> Oom {
        let ac = self.ac;
        if let Some(pfn) = self.try_walk(self.limits_of_last_try()) {
            return Oom::Got(pfn);
        }
        let spares_victims = ac.order > Order::COSTLY
            || ac.gfp.contains(Gfp::RETRY_MAYFAIL)
            || ac.gfp.contains(Gfp::THISNODE)
            || ac.eligible.highest < ZoneKind::Normal;
        if spares_victims {
            return Oom::NoVictim;
        }
        let report = ac.report(self.state.confinement.nodes, self.info);
        match self.frames.platform().oom(&report, task) {
            OomOutcome::VictimKilled => Oom::VictimDies,
            OomOutcome::NoVictim => Oom::NoVictim,
        }
    }

    /// Serves NOFAIL at `nopage` by walks below MIN. If they fail, it returns `Some(Err)`, and the
    /// request goes round. Other requests get `None`, and fail.
    fn never_fail(&mut self) -> Option<Result<Pfn, ()>> {
        let task = self.task?;
        if !self.ac.gfp.contains(Gfp::NOFAIL | Gfp::DIRECT_RECLAIM) {
            return None;
        }
        for limits in self.limits_of_nofail() {
            if let Some(pfn) = self.try_walk(limits) {
                return Some(Ok(pfn));
            }
        }
        self.frames.platform().relax(task);
        Some(Err(()))
    }

    /// Walks the list once, by a call that is not inlined: it is for walks that run rarely.
    #[inline(never)]
    pub(crate) fn try_walk(&mut self, limits: WalkLimits) -> Option<Pfn> {
        self.walk_once(limits)
    }
}
