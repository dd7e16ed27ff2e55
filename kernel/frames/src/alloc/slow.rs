//! The slow path: what a request does when no zone is above its LOW watermark.
//!
//! The order of steps is the field's (mm/page_alloc.c of Linux 6.1 to 6.19): cookie, preferred
//! entry, background reclaim, one try at MIN, compaction for larger orders; then rounds of direct
//! reclaim, a drain, and compaction, with the retry checks of the zonelist protocol before OOM and
//! at `nopage`.

use crate::{
    alloc::{context::AllocContext, cpuset::Confinement, limits::WalkLimits, look::LastCheck},
    base::{
        outcome::WalkInfo,
        platform::{AllocReport, MemallocRole, OomOutcome, Pinned, Point},
        request::Gfp,
        types::{NodeMask, Order, Pfn, ZoneId, ZoneKind},
    },
    cache::cpu::PerCpu,
    frames::Frames,
    zone::high_atomic::Keep,
    zonelist::{BeginCookie, Eligible, Generation, Protocol, RetryCheck, with_protocol},
};
use core::cell::Cell;
use tidemark_sync::Task;

/// Rounds without progress after which a request gives up reclaiming.
const MAX_ROUNDS: u32 = 16;

/// How the rounds between one begin and the next ended.
pub(crate) enum Outcome {
    Got(Pfn),
    /// The lists or the cpuset may have changed: begin again.
    Restart,
    Failed,
}

/// What a request remembers from one begin to the next.
pub(crate) struct Attempt {
    pub(crate) begun: BeginCookie,
    /// Its task's cpuset, as it was at the begin.
    pub(crate) confinement: Confinement,
    /// Position in the list where its walks start.
    start: u8,
    /// The zone there; without one the request is without hope.
    preferred: Option<ZoneId>,
    /// The lists that its last walk walked.
    pub(crate) walked: Cell<Generation>,
}

/// What a round without a frame leads to.
enum Next {
    Retry,
    NoPage,
}

/// How a request ended that had come to OOM.
enum Oom {
    /// The last try got a frame.
    Got(Pfn),
    /// A victim dies: memory will come.
    VictimDies,
    /// Nobody is killed for this request.
    Nobody,
}

impl<P: PerCpu> Frames<'_, P> {
    /// Allocates when the fast path found nothing.
    #[inline]
    pub(crate) fn alloc_slow(
        &self,
        task: Option<&Task>,
        ac: &mut AllocContext,
        info: &mut WalkInfo,
    ) -> Option<Pfn> {
        with_protocol!(self.lists().chosen(), protocol => self.alloc_by(task, ac, info, protocol))
    }

    /// Takes the slow path of a protocol: what nearly every request comes through. What comes after
    /// a first walk in vain, or a first begin, is written once for all.
    #[cold]
    #[inline(never)]
    fn alloc_by(
        &self,
        task: Option<&Task>,
        ac: &mut AllocContext,
        info: &mut WalkInfo,
        protocol: &impl Protocol<P>,
    ) -> Option<Pfn> {
        info.slow = true;
        let mut first = None;
        // Written twice, so that requests of handlers pass nothing that only a task may do.
        let outcome = if task.is_none() {
            // What cannot sleep cannot reclaim: nor may it go round an odd counter, which it may
            // itself have interrupted.
            ac.gfp = ac.gfp.without(Gfp::DIRECT_RECLAIM);
            self.begin(None, ac, &mut first, info, (protocol, protocol))
        } else {
            self.begin(task, ac, &mut first, info, (protocol, protocol))
        };
        match outcome {
            Outcome::Got(pfn) => Some(pfn),
            Outcome::Failed => self.fail(task, ac, first, info),
            Outcome::Restart => self.begin_again(task, ac, first, info, protocol),
        }
    }

    /// Goes on from the second begin.
    #[cold]
    #[inline(never)]
    fn begin_again(
        &self,
        task: Option<&Task>,
        ac: &AllocContext,
        mut first: Option<ZoneId>,
        info: &mut WalkInfo,
        protocol: &dyn Protocol<P>,
    ) -> Option<Pfn> {
        loop {
            match self.begin(task, ac, &mut first, info, (protocol, protocol)) {
                Outcome::Got(pfn) => return Some(pfn),
                Outcome::Failed => return self.fail(task, ac, first, info),
                Outcome::Restart => {}
            }
        }
    }

    /// Ends a request for which there is nothing.
    #[inline(always)]
    fn fail(
        &self,
        task: Option<&Task>,
        ac: &AllocContext,
        first: Option<ZoneId>,
        info: &WalkInfo,
    ) -> Option<Pfn> {
        self.count_failure(ac, first);
        if !ac.gfp.contains(Gfp::NOWARN) {
            self.warn(task, ac, info);
        }
        None
    }

    /// Counts a request that failed, where it would have begun.
    #[inline]
    fn count_failure(&self, ac: &AllocContext, first: Option<ZoneId>) {
        let zone = first.unwrap_or_else(|| ZoneId::new(ac.node, ac.eligible.highest));
        let _pinned = Pinned::new(self.platform());
        let events = &self.caches().this_cpu().events[zone.index()];
        events.of(ac.context).failures.add(1);
    }

    #[cold]
    #[inline(never)]
    fn warn(&self, task: Option<&Task>, ac: &AllocContext, info: &WalkInfo) {
        let nodes = Confinement::begin(self.platform(), task, ac).nodes;
        let report = self.alloc_report(ac, nodes, info);
        self.platform().alloc_failed(&report, ac.context);
    }

    /// Goes from `restart` to its end. The protocol comes as the type that it is, and as any.
    #[inline(always)]
    fn begin(
        &self,
        task: Option<&Task>,
        ac: &AllocContext,
        first: &mut Option<ZoneId>,
        info: &mut WalkInfo,
        (protocol, as_any): (&(impl Protocol<P> + ?Sized), &dyn Protocol<P>),
    ) -> Outcome {
        let observed = protocol.observe();
        let begun = self.take_cookie(ac, protocol);
        info.spins = info.spins.saturating_add(begun.spins);
        let was_odd = observed.is_odd() || begun.cookie.is_odd() || begun.spins > 0;
        info.odd |= was_odd;
        self.platform().point(Point::SlowBegin);
        let outcome = self.alloc_from_begin(task, ac, first, info, (protocol, as_any), begun);
        info.overlapped |= was_odd || protocol.observe() != observed;
        outcome
    }

    /// Goes from `restart` to its end, without the observers' part.
    #[inline(always)]
    fn alloc_from_begin(
        &self,
        task: Option<&Task>,
        ac: &AllocContext,
        first: &mut Option<ZoneId>,
        info: &mut WalkInfo,
        (protocol, as_any): (&(impl Protocol<P> + ?Sized), &dyn Protocol<P>),
        begun: BeginCookie,
    ) -> Outcome {
        let attempt = self.prefer(task, ac, protocol, begun);
        *first = attempt.preferred.or(*first);
        if attempt.preferred.is_some() {
            let limits = WalkLimits::of(ac, &attempt.confinement);
            if let Some(pfn) = self.walk_once(ac, &attempt, limits) {
                return Outcome::Got(pfn);
            }
        }
        if self.goes_on(task, ac) {
            return self.go_on(task, ac, as_any, attempt, info);
        }
        // Who has not reclaimed and has no other reserves would walk the same walk again.
        self.platform().point(Point::SlowCheckNopage);
        let looked = self.last_look(LastCheck::Nopage, task, ac, protocol, &attempt, info);
        looked.unwrap_or(Outcome::Failed)
    }

    /// Returns whether a request whose first walk found nothing comes to `retry`: it may reclaim,
    /// or its task, or its flags, give it more of the reserves there.
    #[inline]
    fn goes_on(&self, task: Option<&Task>, ac: &AllocContext) -> bool {
        ac.gfp.contains(Gfp::DIRECT_RECLAIM)
            || self.memalloc_role(task, ac) != MemallocRole::Ordinary
    }

    /// Goes from the first walk in vain to the end of the begin.
    #[inline(never)]
    fn go_on(
        &self,
        task: Option<&Task>,
        ac: &AllocContext,
        protocol: &dyn Protocol<P>,
        attempt: Attempt,
        info: &mut WalkInfo,
    ) -> Outcome {
        if attempt.preferred.is_some()
            && let Some(pfn) = self.compact_first(task, ac, &attempt)
        {
            return Outcome::Got(pfn);
        }
        let (mut rounds, mut woken) = (0, true);
        loop {
            if attempt.preferred.is_some() {
                if !core::mem::take(&mut woken) {
                    self.wake_reclaimers(ac, attempt.confinement.nodes);
                }
                match self.retry_round(task, ac, protocol, &attempt, &mut rounds, info) {
                    Ok(outcome) => return outcome,
                    Err(Next::Retry) => continue,
                    Err(Next::NoPage) => {}
                }
            }
            self.platform().point(Point::SlowCheckNopage);
            let looked = self.last_look(LastCheck::Nopage, task, ac, protocol, &attempt, info);
            if let Some(outcome) = looked {
                return outcome;
            }
            match self.never_fail(task, ac, &attempt) {
                Some(Ok(pfn)) => return Outcome::Got(pfn),
                Some(Err(())) => {}
                None => return Outcome::Failed,
            }
        }
    }

    /// Looks at the cpuset, chooses the preferred entry of the list in force, and wakes the
    /// background reclaimer of each node of it that the request may use.
    #[inline(always)]
    fn prefer(
        &self,
        task: Option<&Task>,
        ac: &AllocContext,
        protocol: &(impl Protocol<P> + ?Sized),
        begun: BeginCookie,
    ) -> Attempt {
        let confinement = Confinement::begin(self.platform(), task, ac);
        let eligible = Eligible {
            highest: ac.eligible.highest,
            nodes: confinement.nodes,
        };
        let _pinned = Pinned::new(self.platform());
        self.learn_first(ac);
        let (list, generation) = self.list_in_force(ac);
        let preferred = list.walk(0, eligible, || ()).next();
        let at = preferred.map_or(list.len(), |(at, _)| at);
        if preferred.is_some() && ac.gfp.contains(Gfp::KSWAPD_RECLAIM) {
            self.wake_nodes(ac, list, at, eligible);
        }
        Attempt {
            begun,
            confinement,
            // A list has 32 entries at most.
            start: self.start_of(protocol, at) as u8,
            preferred: preferred.map(|(_, zone)| zone),
            walked: Cell::new(generation),
        }
    }

    /// Compacts before the first reclaim. Costly orders lack a whole run, not frames, more often
    /// than not; so do the others that would have to break into pageblocks of movable blocks.
    fn compact_first(
        &self,
        task: Option<&Task>,
        ac: &AllocContext,
        attempt: &Attempt,
    ) -> Option<Pfn> {
        let is_larger = ac.order > Order::COSTLY || !ac.gfp.contains(Gfp::MOVABLE);
        if ac.order == Order::ZERO || !is_larger || !ac.gfp.contains(Gfp::DIRECT_RECLAIM) {
            return None;
        }
        let task = Self::reclaims(task, ac, self.memalloc_role(task, ac))?;
        self.compact(ac, WalkLimits::of(ac, &attempt.confinement), task)
    }

    /// Goes one round from `retry`: to an outcome, or where to go on.
    fn retry_round(
        &self,
        task: Option<&Task>,
        ac: &AllocContext,
        protocol: &dyn Protocol<P>,
        attempt: &Attempt,
        rounds: &mut u32,
        info: &mut WalkInfo,
    ) -> Result<Outcome, Next> {
        self.platform().point(Point::SlowRetry);
        if attempt.confinement.has_changed(self.platform(), task) {
            info.cpuset_retries += 1;
            return Ok(Outcome::Restart);
        }
        if self.look_at_retry(ac, protocol, attempt) == RetryCheck::Restart {
            info.retries += 1;
            return Ok(Outcome::Restart);
        }
        let role = self.memalloc_role(task, ac);
        let limits = WalkLimits::of_round(ac, &attempt.confinement, role);
        if let Some(pfn) = self.try_walk(ac, attempt, limits) {
            return Ok(Outcome::Got(pfn));
        }
        let Some(task) = Self::reclaims(task, ac, role) else {
            return Err(Next::NoPage);
        };
        let progress = self.reclaim(ac, attempt.confinement.nodes, task);
        if let Some(pfn) = self.try_walk(ac, attempt, limits) {
            return Ok(Outcome::Got(pfn));
        }
        // What is missing may be kept in reserve, or lie in other CPUs' caches.
        self.give_back_high_atomic(ac, limits.eligible(), Keep::OnePageblock);
        self.drain_all(task);
        if let Some(pfn) = self.try_walk(ac, attempt, limits) {
            return Ok(Outcome::Got(pfn));
        }
        if let Some(pfn) = self.compact(ac, limits, task) {
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
        if *rounds <= MAX_ROUNDS && self.could_progress(ac, limits) {
            self.platform().relax(task);
            return Err(Next::Retry);
        }
        if self.give_back_high_atomic(ac, limits.eligible(), Keep::Nothing) {
            return Err(Next::Retry);
        }
        self.platform().point(Point::SlowCheckOom);
        let looked = self.last_look(LastCheck::Oom, Some(task), ac, protocol, attempt, info);
        if let Some(outcome) = looked {
            return Ok(outcome);
        }
        match self.out_of_memory(ac, attempt, info, task) {
            Oom::Got(pfn) => return Ok(Outcome::Got(pfn)),
            Oom::Nobody => return Err(Next::NoPage),
            Oom::VictimDies => *rounds = 0,
        }
        let now = self.platform().memalloc_role(task);
        let has_had_its_share = role == MemallocRole::Victim || ac.gfp.contains(Gfp::NOMEMALLOC);
        if now == MemallocRole::Victim && has_had_its_share {
            // A victim frees what it has sooner if its request fails.
            return Err(Next::NoPage);
        }
        self.platform().relax(task);
        Err(Next::Retry)
    }

    /// Tries a last time, and then has a victim killed.
    fn out_of_memory(
        &self,
        ac: &AllocContext,
        attempt: &Attempt,
        info: &WalkInfo,
        task: &Task,
    ) -> Oom {
        let last = WalkLimits::of_last_try(ac, &attempt.confinement);
        if let Some(pfn) = self.try_walk(ac, attempt, last) {
            return Oom::Got(pfn);
        }
        let spares_victims = ac.order > Order::COSTLY
            || ac.gfp.contains(Gfp::RETRY_MAYFAIL)
            || ac.gfp.contains(Gfp::THISNODE)
            || ac.eligible.highest < ZoneKind::Normal;
        if spares_victims {
            return Oom::Nobody;
        }
        let report = self.alloc_report(ac, attempt.confinement.nodes, info);
        match self.platform().oom(&report, task) {
            OomOutcome::VictimKilled => Oom::VictimDies,
            OomOutcome::NoVictim => Oom::Nobody,
        }
    }

    /// Serves NOFAIL at `nopage`: it goes below MIN and round (`Some(Err)`); others fail (`None`).
    fn never_fail(
        &self,
        task: Option<&Task>,
        ac: &AllocContext,
        attempt: &Attempt,
    ) -> Option<Result<Pfn, ()>> {
        let task = task?;
        if !ac.gfp.contains(Gfp::NOFAIL | Gfp::DIRECT_RECLAIM) {
            return None;
        }
        for limits in WalkLimits::of_nofail(ac, &attempt.confinement) {
            if let Some(pfn) = self.try_walk(ac, attempt, limits) {
                return Some(Ok(pfn));
            }
        }
        self.platform().relax(task);
        Some(Err(()))
    }

    /// Returns the token of a request that may reclaim for itself, and is not a reclaimer already.
    fn reclaims<'t>(
        task: Option<&'t Task>,
        ac: &AllocContext,
        role: MemallocRole,
    ) -> Option<&'t Task> {
        let may = ac.gfp.contains(Gfp::DIRECT_RECLAIM) && role != MemallocRole::Reclaimer;
        task.filter(|_| may)
    }

    #[inline(never)]
    pub(crate) fn try_walk(
        &self,
        ac: &AllocContext,
        attempt: &Attempt,
        limits: WalkLimits,
    ) -> Option<Pfn> {
        self.walk_once(ac, attempt, limits)
    }

    /// Walks the list once on the slow path, between its schedule points: one pinned gated section.
    #[inline(always)]
    fn walk_once(&self, ac: &AllocContext, attempt: &Attempt, limits: WalkLimits) -> Option<Pfn> {
        self.platform().point(Point::SlowWalk);
        // The preferred entry is one of the nodes of the begin.
        let start = if limits.nodes == attempt.confinement.nodes {
            attempt.start
        } else {
            0
        };
        let pinned = Pinned::new(self.platform());
        let (list, generation) = self.list_in_force(ac);
        attempt.walked.set(generation);
        let found = self.first_above(list, start, ac.order, limits);
        let taken = found.and_then(|found| self.take_found(ac, (list, start), found, limits));
        drop(pinned);
        if taken.is_none() {
            self.platform().point(Point::SlowWalked);
        }
        taken
    }

    fn alloc_report(&self, ac: &AllocContext, nodes: NodeMask, info: &WalkInfo) -> AllocReport {
        AllocReport {
            order: ac.order,
            gfp: ac.gfp,
            node: ac.node,
            nodes,
            walk: *info,
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "slow_tests.rs"]
mod tests;
