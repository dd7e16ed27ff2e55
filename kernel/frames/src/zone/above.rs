//! Which zones are above their LOW watermark, in one word for each highest zone of requests. By one
//! test of it the fast path knows that no zone can give.
//!
//! The words are hints, for the fast path only. A bit that is set too long costs a look at the
//! zone's counter, which decides. A bit that is clear too long sends a request into the slow path,
//! which reads the counters themselves and goes further down. So no request fails by a wrong bit. A
//! bit is wrong only between a move of the zone's counter or watermarks and the end of the steps in
//! `sides` that follow it.

use crate::{
    base::{
        platform::Platform,
        types::{MAX_ZONES, NodeMask, ZoneId, ZoneKind},
    },
    zone::{Zones, sides},
};
use core::array;
use tidemark_sync::atomic::{AtomicU32, Ordering};

const KINDS: usize = ZoneKind::ALL.len();

/// A set of zones, with one bit for each zone's number.
pub(crate) type ZoneBits = u32;

const _: () = assert!(MAX_ZONES <= ZoneBits::BITS as usize);

/// The zones of each set of nodes, by the set's bits.
static ZONES_OF: [ZoneBits; 1 << NodeMask::ALL.0.count_ones()] = zones_of_each_set();

/// For each kind, the zones up to this kind on all nodes.
const UP_TO: [ZoneBits; KINDS] = [0x1111_1111, 0x3333_3333, 0x7777_7777, ZoneBits::MAX];

const fn zones_of_each_set() -> [ZoneBits; 256] {
    let mut zones = [0; 256];
    let mut set = 0;
    while set < zones.len() {
        let mut node = 0;
        while node < 8 {
            if set >> node & 1 == 1 {
                zones[set] |= 0xf << (node * KINDS);
            }
            node += 1;
        }
        set += 1;
    }
    zones
}

/// Returns the zones of these nodes.
#[inline]
pub(crate) fn zones_of(nodes: NodeMask) -> ZoneBits {
    ZONES_OF[usize::from(nodes.0)]
}

/// Returns the zones that requests up to `highest` may use on these nodes.
#[inline]
pub(crate) fn usable(highest: ZoneKind, nodes: NodeMask) -> ZoneBits {
    zones_of(nodes) & UP_TO[highest as usize]
}

/// For each highest zone of a request, the zones with more free frames than LOW plus the lowmem
/// reserve for such requests. Zones of higher kinds are never among them.
#[derive(Debug)]
pub(crate) struct AboveLow([AtomicU32; KINDS]);

impl AboveLow {
    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| AtomicU32::new(0)))
    }

    /// Returns the zones above LOW. Relaxed: it is a hint, and its reader tests the watermark
    /// itself.
    #[inline]
    pub(crate) fn zones(&self, highest: ZoneKind) -> ZoneBits {
        self.0[highest as usize].load(Ordering::Relaxed)
    }

    /// Records that a zone has crossed the floor. Relaxed: the result is right in whatever order
    /// several of these exclusive ors are done.
    pub(crate) fn flip(&self, highest: ZoneKind, zone: ZoneId) {
        self.0[highest as usize].fetch_xor(1 << zone.index(), Ordering::Relaxed);
    }
}

impl<P: Platform> Zones<'_, P> {
    /// Finds a word in which the zone's bit is wrong at rest; returns that word's highest zone.
    pub(crate) fn wrong_above_low(&self, id: ZoneId) -> Option<ZoneKind> {
        let sides = self.sides_of(id);
        ZoneKind::ALL.into_iter().find(|&highest| {
            let should = sides & sides::above_low(highest) != 0;
            (self.above_low.zones(highest) >> id.index() & 1 == 1) != should
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{testing::*, *};

    #[test]
    fn a_bit_that_is_clear_too_long_costs_a_slow_path_and_no_request() {
        let frames = small_machine(1);
        let atomic = Request::atomic(Order::ZERO);
        let words = || frames.above_low.0.iter();
        let right = words().map(|word| word.swap(0, Ordering::Relaxed));
        let right = right.collect::<Vec<_>>();
        let found = frames.validate_at_rest();
        let is_told = matches!(found, Err(Inconsistency::AboveLow { .. }));
        assert!(is_told, "{found:?}");
        for context in 0..2 {
            let mut info = WalkInfo::default();
            let block = match context {
                0 => frames.alloc_traced(&nmi(), &atomic, &mut info),
                _ => frames.alloc_traced(&task(), &Request::kernel(Order::COSTLY), &mut info),
            };
            assert!(block.is_ok() && info.slow, "{info:?}");
        }
        for (word, right) in words().zip(right) {
            word.store(right, Ordering::Relaxed);
        }
        let mut info = WalkInfo::default();
        let block = frames.alloc_traced(&task(), &atomic.with(Gfp::ZERO), &mut info);
        assert!(block.is_ok() && !info.slow, "{info:?}");
        drop(block);
        assert_sound(frames);
    }

    #[test]
    fn a_bit_that_is_set_too_long_takes_no_zone_below_its_watermark() {
        let frames = small_machine(1);
        let zones = frames.zones().collect::<Vec<_>>();
        let below = zones.iter().map(|info| {
            let kept = info.low + info.reserve[ZoneKind::Normal as usize];
            press(frames, info.id, kept.min(info.free))
        });
        let held = below.collect::<Vec<_>>();
        let normal = &frames.above_low.0[ZoneKind::Normal as usize];
        assert_eq!(normal.swap(u32::MAX, Ordering::Relaxed), 0);
        let mut info = WalkInfo::default();
        let request = Request::atomic(Order::ZERO).with(Gfp::ZERO);
        let block = frames.alloc_traced(&task(), &request, &mut info);
        assert!(block.is_ok() && info.slow, "{info:?}");
        normal.store(0, Ordering::Relaxed);
        drop((block, held));
        assert_sound(frames);
    }

    #[test]
    fn usable_zones_are_those_of_the_nodes_up_to_the_kind() {
        let sets = (0..=u8::MAX).map(NodeMask);
        for (nodes, highest) in sets.flat_map(|set| ZoneKind::ALL.map(|kind| (set, kind))) {
            let bits = usable(highest, nodes);
            for zone in (0..MAX_ZONES).map(ZoneId::from_index) {
                let is_usable = nodes.contains(zone.node()) && zone.kind() <= highest;
                assert_eq!(bits >> zone.index() & 1 == 1, is_usable, "{nodes:?} {zone}");
            }
        }
    }

    #[test]
    fn a_word_keeps_zones_apart() {
        let above = AboveLow::new();
        let [one, other] = [3, 7].map(|node| ZoneId::new(NodeId(node), ZoneKind::Dma32));
        for zone in [one, other, one] {
            above.flip(ZoneKind::Normal, zone);
        }
        assert_eq!(above.zones(ZoneKind::Normal), 1 << other.index());
        assert_eq!(above.zones(ZoneKind::Movable), 0);
    }
}
