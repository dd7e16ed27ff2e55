//! Requests that take from the high-atomic reserve, and those that make it give pageblocks back.

use crate::{
    alloc::context::{AllocContext, ZoneRequest},
    base::{
        pin::{OnCpu, Pinned},
        types::{Pfn, ZoneId},
    },
    cache::cpu::PerCpu,
    frames::Frames,
    pageblock::{migrate_type::MigrateType, section_meta::PageblockRef},
    zone::{
        AllocFlags,
        high_atomic::{HighAtomic, Keep},
    },
    zonelist::Eligible,
};

impl<'m, P: PerCpu> Frames<'m, P> {
    /// Takes a block on the slow path. A request that may use the reserve tries it first. If it
    /// gets its block elsewhere, the block's pageblock joins the reserve.
    pub(crate) fn take_slow(
        &self,
        zone: ZoneId,
        wanted: ZoneRequest,
        alloc_flags: AllocFlags,
        on_cpu: OnCpu<'_>,
    ) -> Option<Pfn> {
        if alloc_flags.high_atomic == HighAtomic::Spared {
            return self.take_pinned(zone, wanted, on_cpu);
        }
        let reserved = (self.zone_table().zone(zone).high_atomic() > 0)
            .then(|| self.zone_table().take_reserved(zone, wanted.order))
            .flatten();
        if let Some(pfn) = reserved {
            self.hand_out(zone, pfn, wanted, self.caches().this_cpu(on_cpu));
            return Some(pfn);
        }
        let pfn = self.take_pinned(zone, wanted, on_cpu)?;
        self.zone_table().reserve_pageblock_of(zone, pfn);
        Some(pfn)
    }

    /// Gives a pageblock of a reserve back, for a request that would have to fail; returns whether
    /// there was one. It comes from the first of the request's zones that can spare one.
    #[doc(alias = "unreserve_highatomic_pageblock")]
    #[cold]
    pub(crate) fn give_back_high_atomic(
        &self,
        ac: &AllocContext,
        eligible: Eligible,
        keep: Keep,
    ) -> bool {
        let pinned = Pinned::new(self.platform());
        let (list, _) = self.list_in_force(ac, pinned.on_cpu());
        let migrate_type = MigrateType::of(ac.gfp);
        list.walk(0, eligible, || ()).any(|(_, id)| {
            let has_some = self.zone_table().zone(id).high_atomic() > keep.frames();
            let give = |pageblock: PageblockRef<'m>| {
                (pageblock.core().state().free() > 0
                    && self
                        .zone_table()
                        .release_high_atomic(pageblock, migrate_type.within(id)))
                .then_some(())
            };
            has_some && self.zone_table().each_reserved(id, give).is_some()
        })
    }
}
