//! Policies that follow from the zones' sizes: watermarks, reserves, cache sizes.

use crate::{
    base::{
        platform::Platform,
        resizing::Resizing,
        types::{ZoneId, ZoneKind},
    },
    zone::{
        Zones, places,
        watermark::{self, Watermarks},
    },
};

/// What follows from a zone's size. All numbers but `cached_orders` are frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) watermarks: Watermarks,
    pub(crate) reserve: [u64; 4],
    pub(crate) batch: u32,
    pub(crate) cache_high: u32,
    pub(crate) cached_orders: u32,
}

/// Frames that a cache of single frames can hold.
pub(crate) const CAPACITY: usize = 120;

impl<P: Platform> Zones<'_, P> {
    /// Recomputes watermarks, reserves and cache sizes of every zone.
    #[doc(alias = "setup_per_zone_wmarks")]
    pub(crate) fn refresh_policy(&self, cpus: usize, resizing: &Resizing<'_>) {
        for zone in self.zone_ids() {
            let policy = self.wanted_policy(zone, cpus);
            self.zone(zone).set_policy(&policy, resizing);
            self.set_cache_limits(zone, &policy, resizing);
            self.follow_watermarks(zone);
        }
    }

    /// Computes a zone's watermarks, reserves and cache sizes.
    pub(crate) fn wanted_policy(&self, zone: ZoneId, cpus: usize) -> Policy {
        let lowmem = self
            .zone_ids()
            .filter(|zone| zone.kind() != ZoneKind::Movable)
            .map(|zone| self.zone(zone).managed())
            .sum();
        let managed = self.zone(zone).managed();
        let of_node = ZoneKind::ALL.map(|kind| self.zone(ZoneId::new(zone.node(), kind)).managed());
        let watermarks = watermark::watermarks(zone.kind(), managed, lowmem);
        let batch = watermark::batch(managed);
        Policy {
            watermarks,
            reserve: watermark::lowmem_reserve(of_node)[zone.kind() as usize],
            batch,
            cached_orders: places::cached_orders(managed / 8 / cpus as u64),
            cache_high: watermark::cache_high(
                managed,
                watermarks.low,
                cpus,
                batch,
                CAPACITY as u32,
            ),
        }
    }

    /// Returns the number of every zone, populated or not.
    pub(crate) fn zone_ids(&self) -> impl Iterator<Item = ZoneId> + use<P> {
        (0..self.zones.len()).map(ZoneId::from_index)
    }
}
