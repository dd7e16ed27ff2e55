//! Batches between a CPU's cache and the pageblocks: refills, drains, and what both leave to the
//! zone.

use crate::{
    base::{
        mutant::{self, Mutant},
        owner::Entry,
        pin::OnCpu,
        platform::{FreeFault, report_fault, step},
        types::{Order, Pfn, ZoneId},
    },
    cache::{
        Caches,
        cpu::{PerCpu, ThisCpu},
        events::Counts,
        inside::Inside,
        pcp::Pcp,
    },
    pageblock::{
        bits::State,
        migrate_type::MigrateType,
        section_meta::{PAGEBLOCK_FRAMES, PageblockRef, SectionMeta},
    },
    zone::{Watermark, counter::Returned},
};
use tidemark_sync::atomic::Ordering;

/// Frames that a free which finds its cache full gives back at most: one free of a batch must not
/// pay for all others.
const FREES_AT_ONCE: u32 = 16;

impl<'m, P: PerCpu> Caches<'m, P> {
    /// Fills an empty cache, with no more than what the zone has above LOW; from a zone below that
    /// with the one frame that is asked for, down to MIN. So a cached frame that is
    /// handed out without a look at the watermarks is one that they had let go.
    #[inline(never)]
    pub(crate) fn refill(
        &self,
        zone_id: ZoneId,
        migrate_type: MigrateType,
        cache: &Pcp,
        cpu: ThisCpu<'_>,
        _: &Inside<'_>,
    ) {
        let zone = self.zones.zone(zone_id);
        let above = |watermark| zone.free().saturating_sub(zone.watermark(watermark));
        // A batch is one less than a power of two; so many empty words evenly.
        let batch = u64::from(zone.cache_batch()) + 1;
        let want = batch
            .min(above(Watermark::Low))
            .max(1)
            .min(above(Watermark::Min)) as u32;
        if want == 0 {
            return;
        }
        let came = self.zones.take_singles(
            zone_id,
            migrate_type,
            want,
            &cpu.hints,
            |pageblock, word, mask| {
                let entries = pageblock.entries_of_word(word);
                cache.push_word(pageblock.start_of_word(word), mask, entries, || step!(self));
            },
        );
        let events = &cpu.events[zone_id.index()];
        events.refills.add(1);
        events.refilled.add(came.into());
    }

    /// Gives a batch of a full cache back, for one frame more. A frame by itself is not worth that:
    /// its books are at hand, so that it goes to its pageblock for less than it takes to look up
    /// another one's. Of frames that come in a row a word goes back by one step.
    #[inline(never)]
    pub(crate) fn make_room(
        &self,
        zone: ZoneId,
        cache: &Pcp,
        events: &Counts,
        inside: &Inside<'_>,
    ) {
        self.drain_cache(zone, cache, FREES_AT_ONCE, events, inside);
    }

    /// Gives up to `frames` frames of a zone's cache back to their pageblocks, those of one word by
    /// one step if they follow each other.
    pub(crate) fn drain_cache(
        &self,
        zone: ZoneId,
        cache: &Pcp,
        frames: u32,
        events: &Counts,
        _: &Inside<'_>,
    ) {
        let mut rest = cache.cut(frames);
        let (mut counted, mut completes) = (0, false);
        let drained = rest.len() as u64;
        while let Some(last) = rest.last() {
            let first = Pfn(u64::from(last.load(Ordering::Relaxed) & !63));
            let Some((pageblock, frame)) = self.books().pageblock_of(first) else {
                return;
            };
            let word = frame as usize / 64;
            let entries = pageblock.entries_of_word(word);
            let (mut mask, mut frames) = (0, 0);
            while let Some((last, before)) = rest.split_last()
                && let bit = last.load(Ordering::Relaxed) ^ first.0 as u32
                && let Some(entry) = entries.get(bit as usize)
            {
                rest = before;
                step!(self);
                let found = Entry(entry.load(Ordering::Relaxed));
                if found != Entry::CACHED {
                    self.report_corrupt(Pfn(first.0 + u64::from(bit)), found);
                    continue;
                }
                // Before the bit is clear: after that the frame is somebody else's.
                entry.store(Entry::FREE.0, Ordering::Relaxed);
                mask |= 1 << bit;
                frames += 1;
            }
            let returned = self.return_run(pageblock, word, mask, frames);
            counted += returned.counted;
            completes |= returned.completes;
        }
        // Cached frames keep their pageblocks in the zone, which has not counted them until now.
        self.zones
            .gain_returned(zone, Returned { counted, completes });
        events.drains.add(1);
        events.drained.add(drained);
    }

    /// Reports that a frame in a cache was freed by two CPUs at once. It is left out for good.
    #[cold]
    #[inline(never)]
    fn report_corrupt(&self, pfn: Pfn, found: Entry) {
        report_fault(
            self.platform(),
            FreeFault::CacheCorrupt,
            pfn,
            Order::ZERO,
            found,
        );
    }

    /// Gives frames of one word back to their pageblock; returns what the zone is to count.
    #[inline]
    fn return_run(
        &self,
        pageblock: PageblockRef<'m>,
        word: usize,
        mask: u64,
        frames: u32,
    ) -> Returned {
        let were_set = pageblock.core().clear_mask(word, mask);
        let frames = if were_set == mask {
            frames
        } else {
            self.report_clear_bits(pageblock.start_of_word(word), were_set)
        };
        step!(self);
        let before = pageblock.core().add(frames);
        Returned::to(before, frames)
    }

    /// Reports what only the bits tell: two CPUs freed a frame at once, unseen by its entry and its
    /// cache. Returns how many frames of the word were still to be freed.
    #[cold]
    #[inline(never)]
    fn report_clear_bits(&self, first: Pfn, were_set: u64) -> u32 {
        report_fault(
            self.platform(),
            FreeFault::BitsClear,
            first,
            Order::ZERO,
            Entry::FREE,
        );
        were_set.count_ones()
    }

    /// Adds cleared frames to their pageblock's count, and to the zone's unless the pageblock is
    /// isolated.
    pub(crate) fn return_frames(&self, pageblock: PageblockRef<'m>, frames: u32) {
        // Read before the addition, after which the pageblock may leave.
        let zone = pageblock.zone();
        let before: State = pageblock.core().add(frames);
        self.zones.gain_returned(zone, Returned::to(before, frames));
    }

    /// Frees frames of one word whose entries say free already.
    #[inline]
    pub(crate) fn free_mask(
        &self,
        pageblock: PageblockRef<'m>,
        word: usize,
        mask: u64,
        frames: u32,
        _: OnCpu<'_>,
    ) {
        // Read before the addition, after which the pageblock may leave.
        let zone = pageblock.zone();
        let returned = self.return_run(pageblock, word, mask, frames);
        self.zones.gain_returned(zone, returned);
    }

    /// Frees a single frame whose entry was checked into its pageblock.
    #[inline(always)]
    pub(crate) fn free_to_pageblock(&self, pfn: Pfn, meta: &'m SectionMeta, _: OnCpu<'_>) {
        let place = meta.entry_of(pfn);
        // Before the bit says free: after that the entry is the next owner's.
        if !mutant::is(Mutant::EntryAfterBits) {
            place.store(Entry::FREE.0, Ordering::Relaxed);
        }
        step!(self);
        let pageblock = PageblockRef::of(meta, pfn);
        // Read before the addition, after which the pageblock may leave.
        let zone = pageblock.zone();
        let frame = pfn.0 as usize % PAGEBLOCK_FRAMES;
        let bit = 1 << (frame % 64);
        if pageblock.core().clear_mask(frame / 64, bit) != bit {
            // There is nothing to be counted.
            self.report_clear_bits(pageblock.start_of_word(frame / 64), 0);
            return;
        }
        step!(self);
        let before = pageblock.core().add(1);
        step!(self);
        self.zones.gain_returned(zone, Returned::to(before, 1));
        step!(self);
        if mutant::is(Mutant::EntryAfterBits) {
            place.store(Entry::FREE.0, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "batch_tests.rs"]
mod tests;
