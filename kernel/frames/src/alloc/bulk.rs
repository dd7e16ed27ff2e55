//! Allocation and free of many blocks by one call: single frames by words.

use crate::{
    alloc::{
        block::Block,
        context::{AllocContext, ZoneRequest},
    },
    base::{
        outcome::{AllocError, WalkInfo},
        owner::Entry,
        pin::{OnCpu, Pinned},
        platform::step,
        request::{Gfp, Request},
        types::{Order, Pfn, ZoneId},
    },
    cache::cpu::PerCpu,
    frames::Frames,
    pageblock::section_meta::{PageblockRef, bits_of},
    zone::AllocFlags,
};
use tidemark_sync::{Context, atomic::Ordering};

/// The most single frames that one step allocates.
const FRAMES_AT_ONCE: usize = 64;

impl<'m, P: PerCpu> Frames<'m, P> {
    /// Fills the empty places of `blocks` with blocks for the request; returns how many it
    /// allocated. They may be fewer than the places: the call enters the slow path, and so may wait
    /// or reclaim, only if it got no block at all. Any context.
    ///
    /// # Errors
    ///
    /// See [`AllocError`]: there was an empty place, and the call got no block.
    #[doc(alias = "alloc_pages_bulk")]
    pub fn alloc_bulk<'f>(
        &'f self,
        context: &impl Context,
        request: &Request,
        blocks: &mut [Option<Block<'f, 'm, P>>],
    ) -> Result<usize, AllocError> {
        let order = request.order();
        let wanted = blocks.iter().filter(|place| place.is_none()).count();
        let mut places = blocks.iter_mut().filter(|place| place.is_none());
        if wanted == 0 {
            return Ok(0);
        }
        let mut put = |pfn| {
            if request.gfp().contains(Gfp::ZERO) {
                self.platform().zero(pfn, order);
            }
            let block = self.block(pfn, order);
            match places.next() {
                Some(place) => *place = Some(block),
                None => unreachable!("more blocks came than were wanted"),
            }
        };
        let mut came = 0;
        let begun = self.prepare_alloc(context, request);
        let mut ac = begun.ok_or_else(|| self.why_not(request))?;
        let alloc_flags = AllocFlags::fast(ac.eligible.highest);
        while came < wanted {
            let more = if order == Order::ZERO {
                self.take_batch(&ac, alloc_flags, wanted - came, &mut put)
            } else {
                self.try_list(&ac).map(&mut put).iter().count()
            };
            if more == 0 {
                break;
            }
            came += more;
        }
        if came == 0 {
            let slow = self.alloc_slow(context.task(), &mut ac, &mut WalkInfo::default());
            put(slow.ok_or_else(|| self.why_not(request))?);
            came = 1;
        }
        Ok(came)
    }

    /// Walks the list once for up to `wanted` single frames, down to the watermark. They come from
    /// this CPU's cache of one zone, or if that is empty from one of the zone's pageblocks. Returns
    /// how many it took.
    fn take_batch(
        &self,
        ac: &AllocContext,
        alloc_flags: AllocFlags,
        wanted: usize,
        put: &mut impl FnMut(Pfn),
    ) -> usize {
        let mut batch = [Pfn(0); FRAMES_AT_ONCE];
        let pinned = Pinned::new(self.platform());
        let (list, _) = self.list_in_force(ac, pinned.on_cpu());
        let taken = list
            .walk(0, ac.eligible, || ())
            .enumerate()
            .filter(|&(_, (_, zone))| self.zone_table().watermark_ok(zone, ac.order, alloc_flags))
            .map(|(passed, (_, zone))| {
                let above = self.zone_table().zone(zone).above(alloc_flags);
                let count = above.clamp(1, wanted.min(FRAMES_AT_ONCE) as u64) as usize;
                self.take_frames(
                    zone,
                    ac.wanted(passed),
                    &mut batch[..count],
                    pinned.on_cpu(),
                )
            })
            .find(|&taken| taken > 0)
            .unwrap_or(0);
        // Zeroing takes long, so it is done with no pin held and no gated section open.
        drop(pinned);
        batch[..taken].iter().copied().for_each(put);
        taken
    }

    /// Fills `batch` with single frames of a zone, by one step; returns how many it took.
    fn take_frames(
        &self,
        zone: ZoneId,
        wanted: ZoneRequest,
        batch: &mut [Pfn],
        on_cpu: OnCpu<'_>,
    ) -> usize {
        let wanted = wanted.within(zone);
        let count = batch.len() as u32;
        let mut places = batch.iter_mut();
        let mut got = |pageblock: PageblockRef<'m>, frame| {
            // The frame is the caller's alone. Another CPU that reads the entry meanwhile gets a
            // hint.
            pageblock
                .entry(frame)
                .store(wanted.entry.0, Ordering::Relaxed);
            if let Some(place) = places.next() {
                *place = Pfn(pageblock.start().0 + u64::from(frame));
            }
        };
        let cpu = self.caches().this_cpu(on_cpu);
        let mut taken =
            self.caches()
                .take_from_cache(zone, wanted.migrate_type, count, cpu, &mut got);
        if taken == 0 {
            taken = self.zone_table().take_singles(
                zone,
                wanted.migrate_type,
                count,
                &cpu.hints,
                |pageblock, word, mask| {
                    bits_of(mask).for_each(|bit| got(pageblock, word as u32 * 64 + bit));
                },
            );
        }
        if taken == 0
            && let Some(pfn) = self.steal(zone, wanted, cpu)
            && let Some((pageblock, frame)) = self.books().pageblock_of(pfn)
        {
            got(pageblock, frame);
            taken = 1;
        }
        let share = cpu.events[zone.index()].of(wanted.context);
        share.count_allocs(Order::ZERO, taken.into(), wanted.passed);
        taken as usize
    }

    /// Frees the blocks in `blocks` and leaves the places empty; returns how many blocks there
    /// were. Single frames of one word of 64 that are neighbours in the slice, in any order, go
    /// back by one step. Any context.
    pub fn free_bulk(&self, blocks: &mut [Option<Block<'_, 'm, P>>]) -> usize {
        let mut freed = 0;
        let mut rest = blocks;
        while let Some((first, others)) = rest.split_first_mut() {
            let run = 1 + first.as_ref().map_or(0, |first| {
                let same = |other: &&mut Option<_>| self.share_a_word(first, other.as_ref());
                others.iter_mut().take_while(same).count()
            });
            let (run, after) = rest.split_at_mut(run);
            rest = after;
            freed += match run {
                [one] => one.take().map_or(0, |block| {
                    drop(block);
                    1
                }),
                run => self.free_word(run),
            };
        }
        freed
    }

    /// Returns whether both blocks are this allocator's, and single frames of one word.
    fn share_a_word(&self, one: &Block<'_, 'm, P>, other: Option<&Block<'_, 'm, P>>) -> bool {
        let is_ours = |block: &Block<'_, 'm, P>| {
            core::ptr::eq(block.frames, self) && block.order() == Order::ZERO
        };
        let word = one.pfn().0 / 64;
        is_ours(one) && other.is_some_and(|other| is_ours(other) && other.pfn().0 / 64 == word)
    }

    /// Frees single frames of one word.
    fn free_word(&self, run: &mut [Option<Block<'_, 'm, P>>]) -> usize {
        let pinned = Pinned::new(self.platform());
        step!(self);
        let (mut place, mut mask) = (None, 0);
        for block in run.iter_mut().filter_map(Option::take) {
            let pfn = block.leak().pfn();
            let Some((pageblock, frame)) = self.caches().check_allocated(pfn, Order::ZERO) else {
                continue;
            };
            if !self
                .caches()
                .claim_for_free(pageblock.entry(frame), Order::ZERO)
            {
                self.caches().report_late(pfn, Order::ZERO);
                continue;
            }
            // This comes before the bit is cleared: after that the entry is the next owner's.
            pageblock
                .entry(frame)
                .store(Entry::FREE.0, Ordering::Relaxed);
            step!(self);
            place = Some((pageblock, frame as usize / 64));
            mask |= 1 << (frame % 64);
        }
        if let Some((pageblock, word)) = place {
            self.caches()
                .free_mask(pageblock, word, mask, mask.count_ones(), pinned.on_cpu());
            step!(self);
        }
        run.len()
    }
}

#[cfg(all(test, not(loom)))]
#[path = "bulk_tests.rs"]
mod tests;
