//! The slow path: the way of a request that found no zone above its LOW watermark.
//!
//! The order of steps is that of Linux 6.1 to 6.19 (mm/page_alloc.c): cookie, preferred entry,
//! background reclaim, one try at MIN, compaction for larger orders. Then come the rounds
//! (`slow_rounds`), with the checks of the zonelist protocol (`look`) before OOM and at `nopage`.

use crate::{
    alloc::{
        context::AllocContext, cpuset::Confinement, limits::WalkLimits, list_walk::WalkStart,
        look::LastCheck,
    },
    base::{
        outcome::WalkInfo,
        pin::Pinned,
        platform::{AllocReport, MemallocRole, Point},
        request::Gfp,
        types::{NodeMask, Pfn, ZoneId},
    },
    cache::cpu::PerCpu,
    frames::Frames,
    zonelist::{BeginCookie, Eligible, Generation, Protocol, with_protocol},
};
use tidemark_sync::Task;

/// How an attempt from `restart` on ended.
pub(crate) enum Outcome {
    Got(Pfn),
    /// The lists or the cpuset may have changed: the request begins again.
    Restart,
    Failed,
}

/// What a request remembers of its last begin.
#[derive(Clone, Copy)]
pub(crate) struct BeginState {
    pub(crate) begun: BeginCookie,
    /// The task's cpuset at the begin.
    pub(crate) confinement: Confinement,
    /// The start of its walks.
    start: WalkStart,
    /// Zone of the preferred entry. A request without one cannot succeed.
    pub(crate) preferred: Option<ZoneId>,
    /// The lists that its last walk read.
    pub(crate) walked: Generation,
}

/// One request on the slow path. `R` is the protocol's own type until the first walk has failed,
/// and a trait object (`dyn`) from then on.
pub(crate) struct SlowPath<'a, 'm, P: PerCpu, R: ?Sized + 'a> {
    pub(crate) frames: &'a Frames<'m, P>,
    pub(crate) task: Option<&'a Task>,
    pub(crate) ac: &'a AllocContext<'m>,
    pub(crate) info: &'a mut WalkInfo,
    pub(crate) protocol: &'a R,
    /// Preferred zone of the last begin that had one. A failure is counted there.
    first: Option<ZoneId>,
    pub(crate) state: BeginState,
}

/// A request on the slow path, with any protocol.
pub(crate) type AnySlowPath<'a, 'm, P> = SlowPath<'a, 'm, P, dyn Protocol<P> + 'a>;

impl<'m, P: PerCpu> Frames<'m, P> {
    /// Serves a request for which the fast path found nothing.
    #[doc(alias = "__alloc_pages_slowpath")]
    #[inline]
    pub(crate) fn alloc_slow(
        &self,
        task: Option<&Task>,
        ac: &mut AllocContext<'m>,
        info: &mut WalkInfo,
    ) -> Option<Pfn> {
        with_protocol!(self.lists().chosen(), protocol => {
            self.serve_slowly(task, ac, info, protocol)
        })
    }

    /// Serves a request by a protocol of this type; nearly every request ends here. The code behind
    /// a first walk that fails, or a first begin, is compiled once for all protocols.
    #[cold]
    #[inline(never)]
    fn serve_slowly<R: Protocol<P>>(
        &self,
        task: Option<&Task>,
        ac: &mut AllocContext<'m>,
        info: &mut WalkInfo,
        protocol: &R,
    ) -> Option<Pfn> {
        info.slow = true;
        let mut first = None;
        // The call is written twice, so that requests of handlers skip all code that is for tasks
        // only.
        let outcome = if task.is_none() {
            // A handler cannot reclaim. Nor may it begin again while the counter is odd: it may
            // have interrupted the writer.
            ac.gfp = ac.gfp.without(Gfp::DIRECT_RECLAIM);
            SlowPath::new(self, None, ac, info, protocol).begin_once(&mut first)
        } else {
            SlowPath::new(self, task, ac, info, protocol).begin_once(&mut first)
        };
        let protocol: &dyn Protocol<P> = protocol;
        match outcome {
            Outcome::Got(pfn) => Some(pfn),
            Outcome::Failed => self.fail(task, ac, first, info),
            Outcome::Restart => {
                let mut path = SlowPath::new(self, task, ac, info, protocol);
                path.first = first;
                path.begin_again()
            }
        }
    }

    /// Ends a request that failed: counts it in its preferred zone, and warns.
    #[inline(always)]
    fn fail(
        &self,
        task: Option<&Task>,
        ac: &AllocContext,
        first: Option<ZoneId>,
        info: &WalkInfo,
    ) -> Option<Pfn> {
        let zone = first.unwrap_or_else(|| ZoneId::new(ac.node, ac.eligible.highest));
        let pinned = Pinned::new(self.platform());
        let cpu = self.caches().this_cpu(pinned.on_cpu());
        let events = &cpu.events[zone.index()];
        events.of(ac.context).failures.add(1);
        drop(pinned);
        if !ac.gfp.contains(Gfp::NOWARN) {
            self.warn(task, ac, info);
        }
        None
    }

    #[doc(alias = "warn_alloc")]
    #[cold]
    #[inline(never)]
    fn warn(&self, task: Option<&Task>, ac: &AllocContext, info: &WalkInfo) {
        let nodes = Confinement::begin(self.platform(), task, ac).nodes;
        let report = ac.report(nodes, info);
        self.platform().alloc_failed(&report, ac.context);
    }
}

impl AllocContext<'_> {
    /// Returns the report of the request, which may use these nodes.
    pub(crate) fn report(&self, nodes: NodeMask, info: &WalkInfo) -> AllocReport {
        AllocReport {
            order: self.order,
            gfp: self.gfp,
            node: self.node,
            nodes,
            walk: *info,
        }
    }
}

impl<'a, 'm, P: PerCpu, R: Protocol<P> + ?Sized> SlowPath<'a, 'm, P, R> {
    /// Makes the state of a request that has not begun.
    #[inline(always)]
    fn new(
        frames: &'a Frames<'m, P>,
        task: Option<&'a Task>,
        ac: &'a AllocContext<'m>,
        info: &'a mut WalkInfo,
        protocol: &'a R,
    ) -> Self {
        let state = BeginState {
            begun: BeginCookie::NOTHING,
            confinement: Confinement::none(ac),
            start: WalkStart::tested(0),
            preferred: None,
            walked: Generation::FIRST,
        };
        Self {
            frames,
            task,
            ac,
            info,
            protocol,
            first: None,
            state,
        }
    }

    /// Returns the request with a trait object as its protocol, for code that runs rarely.
    #[inline(always)]
    pub(crate) fn any(&mut self) -> AnySlowPath<'_, 'm, P> {
        SlowPath {
            frames: self.frames,
            task: self.task,
            ac: self.ac,
            info: self.info,
            protocol: self.protocol.any(),
            first: self.first,
            state: self.state,
        }
    }

    /// Runs one attempt from `restart` on, and stores its preferred zone in `first`.
    #[inline(always)]
    fn begin_once(mut self, first: &mut Option<ZoneId>) -> Outcome {
        let outcome = self.begin();
        *first = self.first;
        outcome
    }

    /// Runs one attempt from `restart` on, and records for observers whether a rebuild overlapped
    /// it.
    #[inline(always)]
    fn begin(&mut self) -> Outcome {
        let observed = self.protocol.observe();
        let begun = self.take_cookie();
        self.info.spins = self.info.spins.saturating_add(begun.spins);
        let was_odd = observed.is_odd() || begun.cookie.is_odd() || begun.spins > 0;
        self.info.odd |= was_odd;
        self.frames.platform().point(Point::SlowBegin);
        self.state = self.prefer(begun);
        self.first = self.state.preferred.or(self.first);
        let outcome = self.walk_and_go_on();
        self.info.overlapped |= was_odd || self.protocol.observe() != observed;
        outcome
    }

    /// Walks once at MIN, and goes on to the rounds if they can help.
    #[inline(always)]
    fn walk_and_go_on(&mut self) -> Outcome {
        if self.state.preferred.is_some()
            && let Some(pfn) = self.walk_once(self.limits())
        {
            return Outcome::Got(pfn);
        }
        if self.goes_on() {
            return self.any().go_on();
        }
        // Without reclaim and without more reserves, a round would repeat the same walk.
        self.frames.platform().point(Point::SlowCheckNopage);
        self.last_look(LastCheck::Nopage).unwrap_or(Outcome::Failed)
    }

    /// Returns whether a request goes on to `retry` after its first walk has failed: it may
    /// reclaim, or its task or flags give it more of the reserves there.
    #[inline(always)]
    fn goes_on(&self) -> bool {
        self.ac.gfp.contains(Gfp::DIRECT_RECLAIM) || self.role() != MemallocRole::Ordinary
    }

    /// Reads the cpuset, chooses the preferred entry of the list in force, and wakes the background
    /// reclaimers of the usable nodes from it on.
    #[doc(alias = "preferred_zoneref")]
    #[inline(always)]
    fn prefer(&self, begun: BeginCookie) -> BeginState {
        let Self { frames, ac, .. } = *self;
        let confinement = Confinement::begin(frames.platform(), self.task, ac);
        let eligible = Eligible {
            highest: ac.eligible.highest,
            nodes: confinement.nodes,
        };
        let pinned = Pinned::new(frames.platform());
        frames.learn_first(ac, pinned.on_cpu());
        let (list, generation) = frames.list_in_force(ac, pinned.on_cpu());
        let preferred = list.walk(0, eligible, || ()).next();
        let at = preferred.map_or(list.len(), |(at, _)| at);
        if preferred.is_some() && ac.gfp.contains(Gfp::KSWAPD_RECLAIM) {
            frames.wake_nodes(ac, list, at, eligible);
        }
        BeginState {
            begun,
            confinement,
            // A list has at most 32 entries.
            start: self.start_of(at as u8),
            preferred: preferred.map(|(_, zone)| zone),
            walked: generation,
        }
    }

    /// Walks the list once on the slow path, in one pinned section between its schedule points.
    #[doc(alias = "get_page_from_freelist")]
    #[inline(always)]
    pub(crate) fn walk_once(&mut self, limits: WalkLimits) -> Option<Pfn> {
        let Self { frames, ac, .. } = *self;
        frames.platform().point(Point::SlowWalk);
        // The preferred entry was chosen for the nodes of the begin.
        let start = if limits.nodes == self.state.confinement.nodes {
            self.state.start
        } else {
            WalkStart::tested(0)
        };
        let pinned = Pinned::new(frames.platform());
        let (list, generation) = frames.list_in_force(ac, pinned.on_cpu());
        self.state.walked = generation;
        let found = frames.first_above(list, start, ac.order, limits);
        let taken = found
            .and_then(|found| frames.take_found(ac, (list, start), found, limits, pinned.on_cpu()));
        drop(pinned);
        if taken.is_none() {
            frames.platform().point(Point::SlowWalked);
        }
        taken
    }
}

impl<P: PerCpu> AnySlowPath<'_, '_, P> {
    /// Runs the attempts after the first one.
    #[cold]
    #[inline(never)]
    fn begin_again(mut self) -> Option<Pfn> {
        loop {
            match self.begin() {
                Outcome::Got(pfn) => return Some(pfn),
                Outcome::Failed => {
                    let Self { task, ac, .. } = self;
                    return self.frames.fail(task, ac, self.first, self.info);
                }
                Outcome::Restart => {}
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "slow_tests.rs"]
mod tests;
