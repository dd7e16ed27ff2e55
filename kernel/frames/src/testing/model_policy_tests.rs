//! The model's policy: the rules of Linux, written a second time as sums and not as tables. Each
//! rule can be left out.

use super::Model;
use crate::{cache::blocks, testing::*, *};
use tidemark_sync::ContextKind;

/// A rule of the model. Leaving it out shows that the runs depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    None,
    HighHalvesMin,
    NonBlockingTakesAQuarterMore,
    NomemallocTakesThatBack,
    NomemallocComesBeforeReserves,
    VictimHalvesWhatIsLeft,
    MemallocIgnoresTheWatermarks,
    ReclaimersIgnoreTheWatermarks,
    HandlersHaveNoStanding,
    LowmemReserve,
    ZoneBits,
    Thisnode,
    NodeMask,
    CpusetOnTheFastPath,
    HardwallOnTheSlowPath,
    UrgentIgnoresTheCpuset,
    VictimIgnoresTheCpuset,
    HandlersHaveNoCpuset,
    NofailGetsHalfOfMin,
    OomNotForRetryMayfail,
    OomNotForThisnode,
    OomNotForLowZones,
    OomNotForCostlyOrders,
    ReclaimersDoNotKill,
}

/// Every rule.
pub(super) const RULES: [Rule; 23] = [
    Rule::HighHalvesMin,
    Rule::NonBlockingTakesAQuarterMore,
    Rule::NomemallocTakesThatBack,
    Rule::NomemallocComesBeforeReserves,
    Rule::VictimHalvesWhatIsLeft,
    Rule::MemallocIgnoresTheWatermarks,
    Rule::ReclaimersIgnoreTheWatermarks,
    Rule::HandlersHaveNoStanding,
    Rule::LowmemReserve,
    Rule::ZoneBits,
    Rule::Thisnode,
    Rule::NodeMask,
    Rule::CpusetOnTheFastPath,
    Rule::HardwallOnTheSlowPath,
    Rule::UrgentIgnoresTheCpuset,
    Rule::VictimIgnoresTheCpuset,
    Rule::HandlersHaveNoCpuset,
    Rule::NofailGetsHalfOfMin,
    Rule::OomNotForRetryMayfail,
    Rule::OomNotForThisnode,
    Rule::OomNotForLowZones,
    Rule::OomNotForCostlyOrders,
    Rule::ReclaimersDoNotKill,
];

/// A request with its surroundings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) cpu: usize,
    pub(super) context: ContextKind,
    pub(super) request: Request,
    pub(super) role: MemallocRole,
    pub(super) cpuset: Option<Cpuset>,
}

/// The model's verdict on a request.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The zone that serves it.
    pub(super) zone: Option<ZoneId>,
    /// Zones that could serve it before that one, if a cache has the frames for it.
    pub(super) perhaps: Vec<ZoneId>,
    /// Whether it may drain the caches, and be served from their frames.
    pub(super) drains: bool,
    /// Whether OOM may be called for it.
    pub(super) kills: bool,
}

impl Model {
    /// Returns the zones in the order in which a request from this node tries them.
    pub(super) fn list(&self, ask: &Ask) -> Vec<ZoneId> {
        let node = ask.request.node().map_or(ask.cpu as u8 % 2, |node| node.0);
        let gfp = ask.request.gfp();
        let is_bound = gfp.contains(Gfp::THISNODE) && self.follows(Rule::Thisnode);
        let nodes = if is_bound {
            vec![node]
        } else {
            vec![node, 1 - node]
        };
        let highest = if !self.follows(Rule::ZoneBits) {
            ZoneKind::Movable
        } else if gfp.contains(Gfp::DMA) {
            ZoneKind::Dma
        } else if gfp.contains(Gfp::DMA32) {
            ZoneKind::Dma32
        } else if gfp.contains(Gfp::MOVABLE) {
            ZoneKind::Movable
        } else {
            ZoneKind::Normal
        };
        let kinds = ZoneKind::ALL
            .into_iter()
            .rev()
            .filter(|&kind| kind <= highest);
        let kinds = kinds.collect::<Vec<_>>();
        let zones = nodes
            .into_iter()
            .flat_map(|node| kinds.iter().map(move |&kind| zone(node, kind)));
        zones.filter(|&zone| self.info(zone).managed > 0).collect()
    }

    /// Walks the list over some nodes, leaving `kept` of a zone's watermarks, or nothing.
    fn walk(
        &self,
        ask: &Ask,
        nodes: NodeMask,
        kept: impl Fn(&ZoneInfo) -> Option<u64>,
        verdict: &mut Verdict,
    ) {
        let order = ask.request.order();
        for id in self.list(ask) {
            if verdict.zone.is_some() || !nodes.contains(id.node()) {
                continue;
            }
            let info = self.info(id);
            let reserve = if self.follows(Rule::LowmemReserve) {
                info.reserve[ask.request.gfp().highest_zone() as usize]
            } else {
                0
            };
            let kept = kept(&info).map_or(0, |watermark| watermark + reserve);
            let free = self.free(id);
            let passes = |free| free > kept + order.frames() - 1;
            if passes(free) && (order == Order::ZERO || self.has_section(id, order)) {
                verdict.zone = Some(id);
            } else if passes(free) && info.cached > 0
                || verdict.drains && passes(free + info.cached)
            {
                verdict.perhaps.push(id);
            }
        }
    }

    /// Returns the zone that may serve a plain request of any order from its CPU's caches, without
    /// a watermark test. It is the first zone of the list, if the caches have a block of that
    /// order.
    fn hot(&self, ask: &Ask) -> Option<ZoneId> {
        let request = &ask.request;
        let not_plain = [Gfp::THISNODE, Gfp::ZERO, Gfp::HARDWALL];
        let is_plain = request.node().is_none()
            && request.nodes() == NodeMask::ALL
            && !not_plain
                .into_iter()
                .any(|flag| request.gfp().contains(flag));
        let is_confined = ask.context == ContextKind::Task && ask.cpuset.is_some();
        let first = *self.list(ask).first()?;
        let is_cached = if request.order() == Order::ZERO {
            self.frames.cache_info(first, CpuId(ask.cpu))?.count > 0
        } else {
            let cpu = &self.frames.caches().cpus()[ask.cpu];
            blocks::each(cpu.block_caches(first)).any(|(order, _)| order == request.order())
        };
        (is_plain && !is_confined && is_cached).then_some(first)
    }

    pub(super) fn verdict(&self, ask: &Ask) -> Verdict {
        let (gfp, nodes) = (ask.request.gfp(), ask.request.nodes());
        let mask = if self.follows(Rule::NodeMask) {
            nodes
        } else {
            NodeMask::ALL
        };
        let is_task = ask.context == ContextKind::Task;
        let has = |flag| gfp.contains(flag);
        let blocks = has(Gfp::DIRECT_RECLAIM) && is_task;
        let takes_back = has(Gfp::NOMEMALLOC);
        let cpuset = ask
            .cpuset
            .filter(|_| is_task || !self.follows(Rule::HandlersHaveNoCpuset))
            .unwrap_or(Cpuset::UNCONFINED);
        let role = if is_task || !self.follows(Rule::HandlersHaveNoStanding) {
            ask.role
        } else {
            MemallocRole::Ordinary
        };
        let ignores_watermarks = has(Gfp::MEMALLOC)
            && self.follows(Rule::MemallocIgnoresTheWatermarks)
            || role == MemallocRole::Reclaimer && self.follows(Rule::ReclaimersIgnoreTheWatermarks);
        let is_reclaimer = has(Gfp::MEMALLOC) || role == MemallocRole::Reclaimer;
        let is_victim = role == MemallocRole::Victim && !is_reclaimer;
        let spares_reserves = takes_back && self.follows(Rule::NomemallocComesBeforeReserves);

        let mut verdict = Verdict::default();
        verdict.perhaps.extend(self.hot(ask));
        let own = if self.follows(Rule::CpusetOnTheFastPath) {
            mask.and(cpuset.nodes)
        } else {
            mask
        };
        self.walk(ask, own, |zone| Some(zone.low), &mut verdict);

        let is_urgent = has(Gfp::HIGH) && !blocks && self.follows(Rule::UrgentIgnoresTheCpuset);
        let victim_is_free =
            is_task && role == MemallocRole::Victim && self.follows(Rule::VictimIgnoresTheCpuset);
        let confined = if is_urgent || victim_is_free {
            mask
        } else if has(Gfp::HARDWALL) && self.follows(Rule::HardwallOnTheSlowPath) {
            mask.and(cpuset.nodes)
        } else {
            mask.and(cpuset.wall)
        };
        let nofail = has(Gfp::NOFAIL) && blocks && self.follows(Rule::NofailGetsHalfOfMin);
        let half = |zone: &ZoneInfo| Some(zone.min - zone.min / 2);
        let mut list = self.list(ask).into_iter();
        if !list.any(|zone| confined.contains(zone.node())) {
            if nofail {
                self.walk(ask, mask, half, &mut verdict);
            }
            return verdict;
        }
        let discount = |zone: &ZoneInfo| {
            let mut min = zone.min;
            if has(Gfp::HIGH) && self.follows(Rule::HighHalvesMin) {
                min -= min / 2;
                let keeps = takes_back && self.follows(Rule::NomemallocTakesThatBack);
                if !blocks && !keeps && self.follows(Rule::NonBlockingTakesAQuarterMore) {
                    min -= min / 4;
                }
            }
            min
        };
        self.walk(ask, confined, |zone| Some(discount(zone)), &mut verdict);
        verdict.drains = blocks && !is_reclaimer;
        if ignores_watermarks && !spares_reserves {
            self.walk(ask, mask, |_| None, &mut verdict);
        } else if is_victim && !spares_reserves {
            let halved = |zone: &ZoneInfo| {
                let min = discount(zone);
                if self.follows(Rule::VictimHalvesWhatIsLeft) {
                    min - min / 2
                } else {
                    min
                }
            };
            self.walk(ask, mask, |zone| Some(halved(zone)), &mut verdict);
        } else {
            self.walk(ask, confined, |zone| Some(discount(zone)), &mut verdict);
        }
        let order = ask.request.order();
        let is_costly = order.get() > 3;
        let is_spared = has(Gfp::NORETRY)
            || is_reclaimer && self.follows(Rule::ReclaimersDoNotKill)
            || has(Gfp::RETRY_MAYFAIL) && self.follows(Rule::OomNotForRetryMayfail)
            || has(Gfp::THISNODE) && self.follows(Rule::OomNotForThisnode)
            || is_costly && self.follows(Rule::OomNotForCostlyOrders)
            || gfp.highest_zone() < ZoneKind::Normal && self.follows(Rule::OomNotForLowZones);
        verdict.kills = blocks && !is_spared;
        if nofail {
            self.walk(ask, confined, half, &mut verdict);
            self.walk(ask, mask, half, &mut verdict);
        }
        verdict
    }
}
