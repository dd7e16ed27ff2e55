//! The fallback lists and the protocols that say who may look at them.

use crate::{
    Frames, Gfp, ListSnapshot, MAX_NODES, MAX_ZONES, NodeId, NodeMask, Platform, Point, Topology,
    ZoneId, ZoneKind, zone::Zone,
};
use core::array;
use tidemark_sync::{
    Cookie, IrqSpinLock, LocalIrq, Rank, SeqCount,
    atomic::{AtomicU8, AtomicU32, Ordering},
};

/// The protocol between readers and the writer of the lists, chosen at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// A plain spinlock around the writer; readers take no notice.
    None,
    /// `write_seqlock` with interrupts on; readers wait while the count is odd.
    Seqlock,
    /// Interrupts off, then the console deferred, then `write_seqlock`.
    SeqlockIrqoff,
    /// `write_seqlock_irqsave`, then the console deferred; annotated after the increment.
    SeqlockIrqsave,
    /// The same, annotated before the first increment.
    SeqlockAnnotated,
    /// The same; readers look again at `retry`, too.
    SeqlockRecheck,
    /// As `Seqlock`, for requests that may reclaim only.
    GfpSeqlock,
    /// The seed: a private spinlock with interrupts off, a bare counter, no waiting.
    #[default]
    Seed,
    /// Lists that are built beside the old ones and published by one store.
    Snapshot,
}

impl Variant {
    /// Every variant, in the order of history.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Seqlock,
        Self::SeqlockIrqoff,
        Self::SeqlockIrqsave,
        Self::SeqlockAnnotated,
        Self::SeqlockRecheck,
        Self::GfpSeqlock,
        Self::Seed,
        Self::Snapshot,
    ];

    /// The name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Seqlock => "seqlock",
            Self::SeqlockIrqoff => "seqlock-irqoff",
            Self::SeqlockIrqsave => "seqlock-irqsave",
            Self::SeqlockAnnotated => "seqlock-annotated",
            Self::SeqlockRecheck => "seqlock-recheck",
            Self::GfpSeqlock => "gfp-seqlock",
            Self::Seed => "seed",
            Self::Snapshot => "snapshot",
        }
    }

    /// The variant of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.name() == name)
    }

    /// Whether the writer rewrites, or publishes, with interrupts off.
    pub const fn writes_with_interrupts_off(self) -> bool {
        !matches!(self, Self::None | Self::Seqlock | Self::GfpSeqlock)
    }
}

/// What readers and the writer of the lists owe each other. The slow path is written once against
/// it; the fast path never sees it.
pub trait Protocol {
    /// The reader's begin, any context.
    fn begin(&self) -> Cookie;

    /// Whether a request with these flags must start again, any context.
    fn must_restart(&self, begun: Cookie, gfp: Gfp) -> bool;

    /// Runs the writer's rewriting of the lists. Task context or boot.
    fn rewrite(&self, rewrite: &mut dyn FnMut());

    /// The counter for observers who do not take part: odd while a rewriting is under way.
    fn observe(&self) -> Cookie;
}

/// `seed`: the writer holds a private spinlock with interrupts off and makes a bare counter odd; a
/// reader reads it plainly at begin and never waits; only a request that may reclaim looks again.
pub struct Seed<L: LocalIrq> {
    counter: SeqCount,
    writer: IrqSpinLock<(), L>,
}

impl<L: LocalIrq> Default for Seed<L> {
    fn default() -> Self {
        Self {
            counter: SeqCount::new(),
            writer: IrqSpinLock::new(Rank::ZonelistUpdate, ()),
        }
    }
}

impl<L: LocalIrq> Protocol for Seed<L> {
    #[inline]
    fn begin(&self) -> Cookie {
        self.counter.begin()
    }

    #[inline]
    fn must_restart(&self, begun: Cookie, gfp: Gfp) -> bool {
        gfp.contains(Gfp::DIRECT_RECLAIM) && self.counter.changed_or_odd(begun)
    }

    fn rewrite(&self, rewrite: &mut dyn FnMut()) {
        let _locked = self.writer.lock();
        self.counter.write(rewrite);
    }

    #[inline]
    fn observe(&self) -> Cookie {
        self.counter.begin()
    }
}

/// Which list of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// All nodes, nearest first.
    Fallback,
    /// The node itself: THISNODE.
    NoFallback,
}

/// An entry of a list: a zone, and its index for the comparison with a request's highest zone. Two
/// words, deliberately: what a reader between the two stores sees is the subject (H7).
#[derive(Debug, Default)]
struct Entry {
    /// Number of the zone plus one; zero ends the list.
    zone: AtomicU32,
    index: AtomicU32,
}

/// One node's zonelists and its order of nodes. Atomics only: zeroed memory is a valid value.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Node {
    /// Written under the protocol's writer lock, in place; read by anybody at any time.
    fallback: [Entry; MAX_ZONES],
    nofallback: [Entry; ZoneKind::ALL.len()],
    /// Nodes by preference, each plus one; zero ends. Written when the set of nodes changes, under
    /// the hot-plug lock; read by the rebuild only.
    order: [AtomicU8; MAX_NODES],
}

impl Node {
    /// Returns a node with empty lists.
    pub fn new() -> Self {
        Self {
            fallback: array::from_fn(|_| Entry::default()),
            nofallback: array::from_fn(|_| Entry::default()),
            order: array::from_fn(|_| AtomicU8::new(0)),
        }
    }

    /// A list for reading.
    #[inline]
    pub(crate) fn list(&self, kind: ListKind) -> List<'_> {
        List(match kind {
            ListKind::Fallback => &self.fallback,
            ListKind::NoFallback => &self.nofallback,
        })
    }

    pub(crate) fn set_order(&self, order: &[Option<NodeId>; MAX_NODES]) {
        for (ours, node) in self.order.iter().zip(order) {
            ours.store(node.map_or(0, |node| node.0 + 1), Ordering::Relaxed);
        }
    }

    fn order(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.order
            .iter()
            .map_while(|node| node.load(Ordering::Relaxed).checked_sub(1))
            .map(NodeId)
    }

    /// Zones of nodes in this order that should be in the list, highest first within a node.
    pub(crate) fn wanted<'a>(
        &'a self,
        own: NodeId,
        kind: ListKind,
        zones: &'a [Zone],
    ) -> impl Iterator<Item = ZoneId> + 'a {
        self.order()
            .filter(move |&node| kind == ListKind::Fallback || node == own)
            .flat_map(|node| {
                let kinds = ZoneKind::ALL.into_iter().rev();
                kinds.map(move |kind| ZoneId::new(node, kind))
            })
            .filter(|zone| zones[zone.index()].is_populated())
    }

    /// Rewrites both lists in place.
    pub(crate) fn write(&self, own: NodeId, zones: &[Zone], mut point: impl FnMut(Point)) {
        for kind in [ListKind::Fallback, ListKind::NoFallback] {
            let list = self.list(kind);
            let mut wanted = self.wanted(own, kind, zones);
            for entry in list.0 {
                // Relaxed stores, zone first: the order between entries and counter is the
                // protocol's business, and there is none between these two.
                let Some(zone) = wanted.next() else {
                    entry.zone.store(0, Ordering::Relaxed);
                    break;
                };
                entry.zone.store(zone.index() as u32 + 1, Ordering::Relaxed);
                point(Point::RebuildEntry);
                entry.index.store(zone.kind() as u32, Ordering::Relaxed);
            }
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

/// A list as readers see it.
#[derive(Clone, Copy)]
pub(crate) struct List<'a>(&'a [Entry]);

/// Which entries a request may use.
#[derive(Clone, Copy)]
pub(crate) struct Eligible {
    pub(crate) highest: ZoneKind,
    pub(crate) nodes: NodeMask,
}

impl<'a> List<'a> {
    /// The entry at `at`, as (index, zone); nothing at the end.
    #[inline]
    fn entry(self, at: usize, point: impl FnOnce()) -> Option<(u32, ZoneId)> {
        let entry = self.0.get(at)?;
        let index = entry.index.load(Ordering::Relaxed);
        point();
        let zone = entry.zone.load(Ordering::Relaxed).checked_sub(1)?;
        Some((index, ZoneId::from_index(zone as usize)))
    }

    /// The position of the first entry from `start` on that the request may use.
    #[inline]
    pub(crate) fn preferred(self, eligible: Eligible) -> usize {
        self.walk(0, eligible, || ())
            .next()
            .map_or(self.0.len(), |(at, _)| at)
    }

    /// The usable entries from position `start` on. `point` runs between the two loads of an entry.
    #[inline]
    pub(crate) fn walk(
        self,
        start: usize,
        eligible: Eligible,
        point: impl Fn() + 'a,
    ) -> impl Iterator<Item = (usize, ZoneId)> + 'a {
        (start..self.0.len())
            .map_while(move |at| {
                self.entry(at, &point)
                    .map(|(index, zone)| (at, index, zone))
            })
            .filter(move |&(_, index, zone)| {
                index <= eligible.highest as u32 && eligible.nodes.contains(zone.node())
            })
            .map(|(at, _, zone)| (at, zone))
    }

    pub(crate) fn snapshot(self) -> ListSnapshot {
        ListSnapshot {
            zones: array::from_fn(|at| self.entry(at, || ()).map(|(_, zone)| zone)),
        }
    }

    /// Whether the entry at `at` is exactly `zone` with its own index, or the end.
    pub(crate) fn is_exactly(self, at: usize, zone: Option<ZoneId>) -> bool {
        self.entry(at, || ()) == zone.map(|zone| (zone.kind() as u32, zone))
    }

    pub(crate) fn len(self) -> usize {
        self.0.len()
    }
}

/// Each node's order of nodes: itself, then repeatedly the nearest that is left. Ties go to nodes
/// with higher numbers than ours and without CPUs, and then rotate among the lists, so that not
/// every node's overflow lands on the same neighbour.
pub(crate) fn node_orders(topology: &Topology) -> [[Option<NodeId>; MAX_NODES]; MAX_NODES] {
    let mut load = [0_u32; MAX_NODES];
    let mut orders = [[None; MAX_NODES]; MAX_NODES];
    for local in topology.nodes.iter() {
        let order = &mut orders[local.0 as usize];
        let distance = |node: NodeId| topology.distance[local.0 as usize][node.0 as usize];
        order[0] = Some(local);
        let mut used = NodeMask::only(local);
        let mut previous = local;
        for place in &mut order[1..] {
            let cost = |node: &NodeId| {
                let near = u32::from(distance(*node))
                    + u32::from(*node < local)
                    + u32::from(topology.with_cpus.contains(*node));
                near * MAX_NODES as u32 * MAX_NODES as u32 + load[node.0 as usize]
            };
            let left = topology.nodes.iter().filter(|node| !used.contains(*node));
            let Some(next) = left.min_by_key(cost) else {
                break;
            };
            // The first of a group of equally distant nodes has been preferred once more.
            if distance(next) != distance(previous) {
                load[next.0 as usize] += 1;
            }
            used = used.with(next);
            previous = next;
            *place = Some(next);
        }
    }
    orders
}

impl<P: Platform> Frames<'_, P> {
    /// The protocol in force.
    #[inline]
    pub(crate) fn protocol(&self) -> &impl Protocol {
        &self.seed
    }

    /// A node's zonelist as it is now.
    pub fn zonelist(&self, node: NodeId, list: ListKind) -> ListSnapshot {
        self.storage.nodes[node.0 as usize].list(list).snapshot()
    }

    /// The protocol's counter, where it has one: odd while a rebuild is under way.
    pub fn rebuild_counter(&self) -> u32 {
        self.protocol().observe().value()
    }
}

#[cfg(all(test, not(loom)))]
#[path = "zonelist_tests.rs"]
mod tests;
