//! The lists, which walks read and rebuilds write.

use crate::{
    base::{
        platform::Point,
        types::{MAX_NODES, MAX_ZONES, NodeId, NodeMask, ZoneId, ZoneKind},
    },
    zone::Zone,
};
use core::array;
use tidemark_sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// A node's two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// All nodes, nearest first.
    Fallback,
    /// The node itself, for THISNODE.
    NoFallback,
}

/// How the writer stores an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Zone, then index, each in its own word. A reader between the two stores sees a torn entry,
    /// which is wanted here (H7).
    TwoWords,
    /// Zone and index in the first word; the second one stays 0.
    OneWord,
}

/// First bit of the index in a word that holds both.
const INDEX_SHIFT: u32 = 16;
const ZONE_MASK: u32 = (1 << INDEX_SHIFT) - 1;

/// An entry of a list: a zone, and its index for the comparison with a request's highest zone.
///
/// One decoding serves both formats, so that no reader asks for the format. The zone is the low
/// half of the first word, the index the sum of its upper half and the second word.
#[doc(alias = "zoneref")]
#[derive(Debug, Default)]
pub(crate) struct ZoneRef {
    /// The zone's number plus one; 0 ends the list. In [`Format::OneWord`] the upper half is the
    /// index.
    zone: AtomicU32,
    /// The index in [`Format::TwoWords`], otherwise 0.
    index: AtomicU32,
}

impl ZoneRef {
    /// Reads the index and then the zone, as (index, zone); returns `None` at the end of the list.
    /// `point` runs between the two.
    #[inline]
    pub(crate) fn read(&self, point: impl FnOnce()) -> Option<(u32, ZoneId)> {
        // Relaxed: entries are ordered by the protocol's counter, or by the acquire load that chose
        // the side (`Published`).
        let index = self.index.load(Ordering::Relaxed);
        point();
        let word = self.zone.load(Ordering::Relaxed);
        let zone = (word & ZONE_MASK).checked_sub(1)?;
        // One of the two is 0.
        let index = index.wrapping_add(word >> INDEX_SHIFT);
        Some((index, ZoneId::from_index(zone as usize)))
    }

    /// Reads the zone alone, as its number plus one; 0 at the end.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        // Relaxed: as in `read`.
        self.zone.load(Ordering::Relaxed) & ZONE_MASK
    }

    /// Writes a zone with its index. `point` runs between the stores, or after the only one.
    fn write(&self, zone: ZoneId, format: Format, point: impl FnOnce()) {
        let (number, index) = (zone.index() as u32 + 1, zone.kind() as u32);
        // Relaxed stores: the protocol orders entries against its counter or the publication.
        // Nothing orders these two stores.
        match format {
            Format::TwoWords => {
                self.zone.store(number, Ordering::Relaxed);
                point();
                self.index.store(index, Ordering::Relaxed);
            }
            Format::OneWord => {
                let word = number | index << INDEX_SHIFT;
                self.zone.store(word, Ordering::Relaxed);
                point();
            }
        }
    }

    fn end_list(&self) {
        self.zone.store(0, Ordering::Relaxed);
    }
}

/// The entries of a list. NOFALLBACK lists have room for all zones as well, so that a list is found
/// by addition and has a fixed length.
type Entries = [ZoneRef; MAX_ZONES];

/// Both lists of a node, by [`ListKind`].
type Buffer = [Entries; 2];

/// One node's zonelists and its order of nodes. They are atomics only, so zeroed memory is a valid
/// value: empty lists.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Node {
    /// The two sides. Protocols that write in place write the first one under the writers' lock,
    /// while any CPU may read it. `snapshot` writes only the spare side, which no walk reads.
    buffers: [Buffer; 2],
    /// Nodes in order of preference, each as its number plus one; 0 ends. They are written under
    /// the hot-plug lock when the set of nodes changes, and read by the rebuild only.
    order: [AtomicU8; MAX_NODES],
}

/// One of a node's two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Side(pub(super) usize);

impl Node {
    /// Returns a node with empty lists.
    pub fn new() -> Self {
        Self {
            buffers: array::from_fn(|_| array::from_fn(|_| array::from_fn(|_| ZoneRef::default()))),
            order: array::from_fn(|_| AtomicU8::new(0)),
        }
    }

    /// Returns one side's list for reading.
    #[inline]
    pub(crate) fn list(&self, side: Side, kind: ListKind) -> List<'_> {
        List(&self.buffers[side.0 & 1][kind as usize])
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

    /// Returns the populated zones that should be in the list, in its order: by the order of nodes,
    /// and within a node the highest zone first.
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

    /// Writes both lists of one side.
    pub(super) fn write(
        &self,
        own: NodeId,
        side: Side,
        format: Format,
        zones: &[Zone],
        mut point: impl FnMut(Point),
    ) {
        for kind in [ListKind::Fallback, ListKind::NoFallback] {
            let list = self.list(side, kind);
            let mut wanted = self.wanted(own, kind, zones);
            for entry in list.0 {
                let Some(zone) = wanted.next() else {
                    entry.end_list();
                    break;
                };
                entry.write(zone, format, || point(Point::RebuildEntry));
            }
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

/// A list, for readers.
#[derive(Clone, Copy)]
pub(crate) struct List<'a>(&'a Entries);

/// Which entries a request may use.
#[derive(Clone, Copy)]
pub(crate) struct Eligible {
    pub(crate) highest: ZoneKind,
    pub(crate) nodes: NodeMask,
}

impl<'a> List<'a> {
    /// Returns the entry at `at`, as (index, zone), or `None` at the end.
    #[inline]
    fn entry(self, at: usize, point: impl FnOnce()) -> Option<(u32, ZoneId)> {
        self.0.get(at)?.read(point)
    }

    /// Returns all entries, including those behind the end.
    #[inline]
    pub(crate) fn all(self) -> &'a [ZoneRef] {
        self.0
    }

    /// Returns the entries from position `start` on.
    #[inline]
    pub(crate) fn entries(self, start: usize) -> &'a [ZoneRef] {
        self.0.get(start..).unwrap_or_default()
    }

    /// Returns the usable entries from position `start` on, as (position, zone). `point` runs
    /// between the two loads of an entry.
    #[inline]
    pub(crate) fn walk<F: Fn()>(self, start: usize, eligible: Eligible, point: F) -> Usable<'a, F> {
        Usable {
            rest: self.entries(start).iter(),
            at: start,
            eligible,
            point,
        }
    }

    pub(crate) fn snapshot(self) -> ListSnapshot {
        ListSnapshot {
            zones: array::from_fn(|at| self.entry(at, || ()).map(|(_, zone)| zone)),
        }
    }

    /// Returns whether the entry at `at` is `zone` with its own index, or the end if `zone` is
    /// `None`.
    pub(crate) fn is_exactly(self, at: usize, zone: Option<ZoneId>) -> bool {
        self.entry(at, || ()) == zone.map(|zone| (zone.kind() as u32, zone))
    }

    pub(crate) fn len(self) -> usize {
        self.0.len()
    }
}

/// The usable entries of a list. It is no chain of adaptors: a walk passes over many zones, and
/// this loop is cheaper.
pub(crate) struct Usable<'a, F> {
    rest: core::slice::Iter<'a, ZoneRef>,
    /// Position of the first entry of `rest`.
    at: usize,
    eligible: Eligible,
    point: F,
}

impl<F: Fn()> Iterator for Usable<'_, F> {
    type Item = (usize, ZoneId);

    #[inline]
    fn next(&mut self) -> Option<(usize, ZoneId)> {
        loop {
            let (index, zone) = self.rest.next()?.read(&self.point)?;
            let at = self.at;
            // The sum is at most the length of the list.
            self.at = at.wrapping_add(1);
            let Eligible { highest, nodes } = self.eligible;
            if index <= highest as u32 && nodes.contains(zone.node()) {
                return Some((at, zone));
            }
        }
    }
}

/// A copy of a zonelist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListSnapshot {
    pub(crate) zones: [Option<ZoneId>; MAX_ZONES],
}

impl ListSnapshot {
    /// Returns the zones, in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = ZoneId> + '_ {
        self.zones.iter().map_while(|zone| *zone)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::testing::resizing;

    const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);
    const MOVABLE: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Movable);
    const UNMOVABLE: Eligible = Eligible {
        highest: ZoneKind::Normal,
        nodes: NodeMask::ALL,
    };
    const SIDE: Side = Side(0);

    /// Puts MOVABLE before NORMAL, and returns the zone that an unmovable request gets at each
    /// entry's point.
    fn walks_during_a_rewriting(format: Format) -> Vec<ZoneId> {
        let zones: [Zone; 8] = array::from_fn(|_| Zone::new());
        let node = Node::new();
        node.set_order(&array::from_fn(|at| (at < 2).then_some(NodeId(at as u8))));
        zones[NORMAL.index()].grow(10, resizing());
        node.write(NodeId(0), SIDE, format, &zones, |_| ());
        let list = node.list(SIDE, ListKind::Fallback);
        assert!(list.is_exactly(0, Some(NORMAL)));
        assert!(list.is_exactly(1, None));
        zones[MOVABLE.index()].grow(10, resizing());
        let mut seen = Vec::new();
        node.write(NodeId(0), SIDE, format, &zones, |_| {
            seen.extend(list.walk(0, UNMOVABLE, || ()).map(|(_, zone)| zone).next());
        });
        assert!(list.is_exactly(0, Some(MOVABLE)));
        assert!(list.is_exactly(1, Some(NORMAL)));
        let now = list.walk(0, UNMOVABLE, || ()).next();
        assert_eq!(now, Some((1, NORMAL)));
        seen
    }

    #[test]
    fn a_reader_between_the_two_stores_sees_the_new_zone_with_the_old_index() {
        let torn = walks_during_a_rewriting(Format::TwoWords);
        assert_eq!(
            torn.first(),
            Some(&MOVABLE),
            "H7's window is gone: {torn:?}"
        );
    }

    #[test]
    fn an_entry_of_one_word_is_never_torn() {
        let seen = walks_during_a_rewriting(Format::OneWord);
        assert!(seen.iter().all(|&zone| zone == NORMAL), "{seen:?}");
    }
}
