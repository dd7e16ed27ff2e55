//! Steals: blocks from pageblocks of the other migrate type, for a request that finds none of its
//! own.

use crate::{
    alloc::context::ZoneRequest,
    base::{
        platform::step,
        types::{Order, Pfn, ZoneId},
    },
    cache::cpu::{PerCpu, ThisCpu},
    frames::Frames,
};

impl<'m, P: PerCpu> Frames<'m, P> {
    /// Takes a block for a request that found none of its migrate type. First this CPU gives back
    /// its cached larger blocks, and the zone is searched again. Then an order 0 to 8 comes from
    /// pageblocks of the other migrate type, or a single frame from this CPU's cache of it.
    #[doc(alias = "__rmqueue_fallback")]
    #[cold]
    pub(crate) fn steal(&self, zone: ZoneId, wanted: ZoneRequest, cpu: ThisCpu<'_>) -> Option<Pfn> {
        let ZoneRequest {
            order,
            migrate_type,
            ..
        } = wanted;
        if self.caches().give_up_blocks(zone, cpu)
            && let Some(pfn) =
                self.zone_table()
                    .take_from_zone(zone, order, migrate_type, &cpu.hints)
        {
            return Some(pfn);
        }
        if order >= Order::HUGE {
            return None;
        }
        step!(self);
        let stolen = self
            .zone_table()
            .take_foreign(zone, order, migrate_type, &cpu.hints)
            .or_else(|| {
                let other = cpu.cache(zone, migrate_type.other());
                (order == Order::ZERO)
                    .then(|| self.caches().take_left_over(zone, other, cpu))
                    .flatten()
            });
        let Some(stolen) = stolen else {
            // A handler that stole between the two searches may have converted the last pageblock
            // of the other migrate type to this one. The first search passed it over as the
            // other's, the second as its own.
            return self
                .zone_table()
                .take_from_zone(zone, order, migrate_type, &cpu.hints);
        };
        step!(self);
        let share = cpu.events[zone.index()].of(wanted.context);
        share.steals.add(1);
        Some(stolen)
    }
}

#[cfg(all(test, not(loom)))]
#[path = "steal_tests.rs"]
mod tests;
