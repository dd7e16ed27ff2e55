//! The slow path: what a request does when no zone is above its LOW mark.
//!
//! The order of steps is the field's (mm/page_alloc.c of Linux 6.1 to 6.19): cookie, preferred
//! entry, background reclaim, one try at MIN; then rounds of direct reclaim with the retry checks
//! of the zonelist protocol before OOM and at `nopage`.

use crate::{
    AllocError, AllocReport, Frames, Gfp, MAX_NODES, NodeId, NodeMask, OomOutcome, Order, Pfn,
    Platform, Point, WalkInfo, ZoneKind,
    alloc::Walk,
    high_atomic::{HighAtomic, Keep},
    platform::Pinned,
    zone::{Access, Mark, Reserves},
    zonelist::{Begun, Generation, Look, Reader},
};
use core::cell::Cell;
use tidemark_sync::{Context, Task};

/// Rounds without progress after which a request gives up reclaiming.
const MAX_ROUNDS: u32 = 16;
/// Frames that direct reclaim asks for at least.
const RECLAIM_BATCH: usize = 32;

/// How the rounds between one begin and the next ended.
enum Outcome {
    Got(Pfn),
    /// The zonelist protocol asks to begin again.
    Restart,
    Failed,
}

/// What a request remembers from one begin to the next.
struct Attempt {
    begun: Begun,
    /// Position in the list where its walks start.
    start: usize,
    /// The lists that its last walk walked.
    walked: Cell<Generation>,
}

/// What a round without a frame leads to.
enum Next {
    Retry,
    NoPage,
}

impl<P: Platform> Frames<'_, P> {
    /// Allocates when the fast path found nothing.
    #[cold]
    pub(crate) fn alloc_slow(
        &self,
        context: &impl Context,
        walk: &mut Walk,
        info: &mut WalkInfo,
    ) -> Result<Pfn, AllocError> {
        info.slow = true;
        if context.task().is_none() {
            // Who cannot sleep cannot reclaim: nor may it go round an odd counter, which it may
            // itself have interrupted.
            walk.gfp = walk.gfp.without(Gfp::DIRECT_RECLAIM);
        }
        loop {
            let protocol = self.protocol();
            let observed = protocol.observe();
            let begun = protocol.begin(walk.gfp, &self.platform);
            info.spins = info.spins.saturating_add(begun.spins);
            let was_odd = observed.is_odd() || begun.cookie.is_odd() || begun.spins > 0;
            info.odd |= was_odd;
            self.platform.point(Point::SlowBegin);
            let outcome = self.alloc_from_begin(context, walk, begun, info);
            info.overlapped |= was_odd || protocol.observe() != observed;
            match outcome {
                Outcome::Got(pfn) => return Ok(pfn),
                Outcome::Failed => break,
                Outcome::Restart => info.retries += 1,
            }
        }
        self.count_failure(walk);
        if !walk.gfp.contains(Gfp::NOWARN) {
            let report = self.alloc_report(walk, info);
            self.platform.alloc_failed(&report, context.kind());
        }
        Err(AllocError::NoMemory { order: walk.order })
    }

    /// From `restart` to its end.
    fn alloc_from_begin(
        &self,
        context: &impl Context,
        walk: &Walk,
        begun: Begun,
        info: &mut WalkInfo,
    ) -> Outcome {
        let attempt = self.prefer(walk, begun);
        self.wake_reclaimers(context, walk);
        if let Some(pfn) = self.try_walk(walk, &attempt, self.slow_access(walk)) {
            return Outcome::Got(pfn);
        }
        let mut rounds = 0;
        loop {
            let next = match self.retry_round(context, walk, &attempt, &mut rounds, info) {
                Ok(outcome) => return outcome,
                Err(next) => next,
            };
            if let Next::Retry = next {
                continue;
            }
            self.platform.point(Point::SlowCheckNopage);
            if let Some(outcome) = self.last_look(walk, &attempt, info) {
                return outcome;
            }
            match self.never_fail(context, walk, &attempt) {
                Some(Ok(pfn)) => return Outcome::Got(pfn),
                Some(Err(())) => {}
                None => return Outcome::Failed,
            }
        }
    }

    /// Chooses the preferred entry of the list in force.
    fn prefer(&self, walk: &Walk, begun: Begun) -> Attempt {
        let _pinned = Pinned::new(&self.platform);
        let (list, generation) = self.list_in_force(walk);
        Attempt {
            begun,
            start: self.protocol().start(list.preferred(walk.eligible)),
            walked: Cell::new(generation),
        }
    }

    fn reader(&self, walk: &Walk, attempt: &Attempt) -> Reader<'_> {
        Reader {
            gfp: walk.gfp,
            begun: attempt.begun,
            walked: attempt.walked.get(),
            published: &self.published,
        }
    }

    /// What the protocol says to a request that is about to give up: nothing, or how it goes on.
    fn last_look(&self, walk: &Walk, attempt: &Attempt, info: &mut WalkInfo) -> Option<Outcome> {
        loop {
            match self.protocol().look(&self.reader(walk, attempt)) {
                Look::Unchanged => return None,
                Look::Restart => return Some(Outcome::Restart),
                Look::WalkAgain => {
                    // Once for each publication: not a wait for anybody.
                    info.retries += 1;
                    let access = self.round_access(walk);
                    if let Some(pfn) = self.try_walk(walk, attempt, access) {
                        return Some(Outcome::Got(pfn));
                    }
                }
            }
        }
    }

    /// One round from `retry`: an outcome, or where to go on.
    fn retry_round(
        &self,
        context: &impl Context,
        walk: &Walk,
        attempt: &Attempt,
        rounds: &mut u32,
        info: &mut WalkInfo,
    ) -> Result<Outcome, Next> {
        self.platform.point(Point::SlowRetry);
        let look = self.protocol().look_at_retry(&self.reader(walk, attempt));
        if look == Look::Restart {
            return Ok(Outcome::Restart);
        }
        self.wake_reclaimers(context, walk);
        let access = self.round_access(walk);
        if let Some(pfn) = self.try_walk(walk, attempt, access) {
            return Ok(Outcome::Got(pfn));
        }
        let Some(task) = self.reclaims(context, walk) else {
            return Err(Next::NoPage);
        };
        let progress = self.reclaim(walk, task);
        if let Some(pfn) = self.try_walk(walk, attempt, access) {
            return Ok(Outcome::Got(pfn));
        }
        // What is missing may be kept in reserve, or lie in other CPUs' caches.
        self.give_back_high_atomic(walk, Keep::OneArea);
        self.drain_all(task);
        if let Some(pfn) = self.try_walk(walk, attempt, access) {
            return Ok(Outcome::Got(pfn));
        }
        let is_costly = walk.order > Order::COSTLY;
        if walk.gfp.contains(Gfp::NORETRY) || is_costly && !walk.gfp.contains(Gfp::RETRY_MAYFAIL) {
            return Err(Next::NoPage);
        }
        if progress > 0 && !is_costly {
            *rounds = 0;
        } else {
            *rounds += 1;
        }
        if *rounds <= MAX_ROUNDS && self.could_progress(walk, access) {
            self.platform.relax(task);
            return Err(Next::Retry);
        }
        if self.give_back_high_atomic(walk, Keep::Nothing) {
            return Err(Next::Retry);
        }
        self.platform.point(Point::SlowCheckOom);
        if let Some(outcome) = self.last_look(walk, attempt, info) {
            return Ok(outcome);
        }
        self.out_of_memory(walk, attempt, rounds, info, task)
    }

    /// The last try, and then a victim.
    fn out_of_memory(
        &self,
        walk: &Walk,
        attempt: &Attempt,
        rounds: &mut u32,
        info: &WalkInfo,
        task: &Task,
    ) -> Result<Outcome, Next> {
        // HIGH, so that only memory that somebody else's victim gave back is taken.
        let last = Access {
            mark: Mark::High,
            reserves: Reserves::None,
            highest: walk.eligible.highest,
            high_atomic: HighAtomic::Spared,
        };
        if let Some(pfn) = self.try_walk(walk, attempt, last) {
            return Ok(Outcome::Got(pfn));
        }
        let spares_victims = walk.order > Order::COSTLY
            || walk.gfp.contains(Gfp::RETRY_MAYFAIL)
            || walk.gfp.contains(Gfp::THISNODE)
            || walk.eligible.highest < ZoneKind::Normal;
        if spares_victims {
            return Err(Next::NoPage);
        }
        match self.platform.oom(&self.alloc_report(walk, info), task) {
            OomOutcome::VictimKilled => {
                *rounds = 0;
                self.platform.relax(task);
                Err(Next::Retry)
            }
            OomOutcome::NoVictim => Err(Next::NoPage),
        }
    }

    /// At `nopage`: NOFAIL tries the reserves and goes round (`Some(Err)`); others fail (`None`).
    fn never_fail(
        &self,
        context: &impl Context,
        walk: &Walk,
        attempt: &Attempt,
    ) -> Option<Result<Pfn, ()>> {
        let task = context.task()?;
        if !walk.gfp.contains(Gfp::NOFAIL | Gfp::DIRECT_RECLAIM) {
            return None;
        }
        let mut access = self.slow_access(walk);
        access.reserves = Reserves::Most;
        if let Some(pfn) = self.try_walk(walk, attempt, access) {
            return Some(Ok(pfn));
        }
        self.platform.relax(task);
        Some(Err(()))
    }

    /// The token of a request that may reclaim for itself, and is not a reclaimer already.
    fn reclaims<'t>(&self, context: &'t impl Context, walk: &Walk) -> Option<&'t Task> {
        let may = walk.gfp.contains(Gfp::DIRECT_RECLAIM) && !walk.gfp.contains(Gfp::MEMALLOC);
        context.task().filter(|_| may)
    }

    fn slow_access(&self, walk: &Walk) -> Access {
        Access {
            mark: Mark::Min,
            reserves: Reserves::of(walk.gfp),
            highest: walk.eligible.highest,
            high_atomic: HighAtomic::of(walk.gfp, walk.order),
        }
    }

    /// The same for the walks of a round.
    fn round_access(&self, walk: &Walk) -> Access {
        let mut access = self.slow_access(walk);
        if walk.gfp.contains(Gfp::MEMALLOC) && !walk.gfp.contains(Gfp::NOMEMALLOC) {
            access.reserves = Reserves::All;
        }
        access
    }

    /// A walk of the slow path, between its schedule points: one pinned section.
    fn try_walk(&self, walk: &Walk, attempt: &Attempt, access: Access) -> Option<Pfn> {
        self.platform.point(Point::SlowWalk);
        let pinned = Pinned::new(&self.platform);
        let (list, generation) = self.list_in_force(walk);
        attempt.walked.set(generation);
        let taken = list
            .walk(attempt.start, walk.eligible, || {
                self.platform.point(Point::WalkEntry);
            })
            .enumerate()
            .filter(|&(_, (_, zone))| self.passes(zone, walk.order, access))
            .find_map(|(passed, (_, zone))| self.take_slow(zone, walk.wanted(passed), access));
        drop(pinned);
        if taken.is_none() {
            self.platform.point(Point::SlowWalked);
        }
        taken
    }

    /// Wakes the background reclaimer of each node that the request may use.
    fn wake_reclaimers(&self, context: &impl Context, walk: &Walk) {
        if walk.gfp.contains(Gfp::KSWAPD_RECLAIM) {
            for node in self.nodes_of(walk) {
                self.platform.wake_reclaim(node, context.kind());
            }
        }
    }

    /// Reclaims from each node that the request may use; returns how many frames came free.
    fn reclaim(&self, walk: &Walk, task: &Task) -> usize {
        let want = RECLAIM_BATCH.max(walk.order.frames() as usize);
        let highest = walk.eligible.highest;
        self.nodes_of(walk)
            .map(|node| self.platform.shrink(node, highest, want, task))
            .sum()
    }

    /// Whether some zone would pass its mark if everything reclaimable in it were free. It looks at
    /// the whole list, as the field's test does, wherever the request's walks start.
    fn could_progress(&self, walk: &Walk, access: Access) -> bool {
        let highest = walk.eligible.highest;
        let _pinned = Pinned::new(&self.platform);
        let (list, _) = self.list_in_force(walk);
        list.walk(0, walk.eligible, || ()).any(|(_, zone)| {
            let reclaimable = self.platform.reclaimable(zone.node(), highest) as u64;
            self.passes_with(zone, reclaimable, walk.order, access)
        })
    }

    /// The nodes of the zones that the request may use, each once, in the order of the list as it
    /// is now: what follows may sleep, and the list is not looked at any more.
    fn nodes_of(&self, walk: &Walk) -> impl Iterator<Item = NodeId> + use<P> {
        let mut nodes = [None; MAX_NODES];
        let mut seen = NodeMask::NONE;
        let mut places = nodes.iter_mut();
        let pinned = Pinned::new(&self.platform);
        let (list, _) = self.list_in_force(walk);
        for (_, zone) in list.walk(0, walk.eligible, || ()) {
            let node = zone.node();
            if !seen.contains(node)
                && let Some(place) = places.next()
            {
                *place = Some(node);
                seen = seen.with(node);
            }
        }
        drop(pinned);
        nodes.into_iter().flatten()
    }

    fn alloc_report(&self, walk: &Walk, info: &WalkInfo) -> AllocReport {
        AllocReport {
            order: walk.order,
            gfp: walk.gfp,
            node: walk.node,
            walk: *info,
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "slow_tests.rs"]
mod tests;
