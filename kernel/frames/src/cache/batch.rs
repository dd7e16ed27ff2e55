//! Batches of single frames between a CPU's cache and the pageblocks: refills and drains; and frees
//! into a pageblock.

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

/// The most frames that a free gives back when it finds its cache full, so that no single free
/// takes long.
const FREES_AT_ONCE: u32 = 16;

impl<'m, P: PerCpu> Caches<'m, P> {
    /// Fills an empty cache with no more frames than the zone has above LOW. From a zone below LOW
    /// it takes one frame, down to MIN. So a cached frame can be handed out without a test of the
    /// watermarks: it was made when the frame left the zone.
    #[doc(alias = "rmqueue_bulk")]
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
        // A batch is one less than a power of two. One frame more empties whole words.
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

    /// Gives back a batch of a full cache, to make room for one frame. This pays only for frames
    /// that come in a row, since those of one word go back by one step. A frame alone goes to its
    /// pageblock, which its free has looked up already.
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
    #[doc(alias = "free_pcppages_bulk")]
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
                // This comes before the bit is cleared: after that the frame may have another
                // owner.
                entry.store(Entry::FREE.0, Ordering::Relaxed);
                mask |= 1 << bit;
                frames += 1;
            }
            let returned = self.return_run(pageblock, word, mask, frames);
            counted += returned.counted;
            completes |= returned.completes;
        }
        // Cached frames keep their pageblocks in the zone. Its counter gains the frames only now.
        self.zones
            .gain_returned(zone, Returned { counted, completes });
        events.drains.add(1);
        events.drained.add(drained);
    }

    /// Reports that a frame in a cache was freed by two CPUs at once. The frame is lost for good.
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

    /// Gives frames of one word back to their pageblock; returns what this means to their zone.
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

    /// Reports clear bits: two CPUs freed a frame at once, which neither its entry nor its cache
    /// has shown. Returns how many frames of the word had their bits set.
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

    /// Adds frames with cleared bits to their pageblock's count, and to the zone's counter unless
    /// the pageblock is isolated.
    pub(crate) fn return_frames(&self, pageblock: PageblockRef<'m>, frames: u32) {
        // The zone is read before the addition, after which the pageblock may leave.
        let zone = pageblock.zone();
        let before: State = pageblock.core().add(frames);
        self.zones.gain_returned(zone, Returned::to(before, frames));
    }

    /// Frees frames of one word. Their entries say *free* already.
    #[inline]
    pub(crate) fn free_mask(
        &self,
        pageblock: PageblockRef<'m>,
        word: usize,
        mask: u64,
        frames: u32,
        _: OnCpu<'_>,
    ) {
        // The zone is read before the addition, after which the pageblock may leave.
        let zone = pageblock.zone();
        let returned = self.return_run(pageblock, word, mask, frames);
        self.zones.gain_returned(zone, returned);
    }

    /// Frees a single frame into its pageblock. Its entry was checked before.
    #[inline(always)]
    pub(crate) fn free_to_pageblock(&self, pfn: Pfn, meta: &'m SectionMeta, _: OnCpu<'_>) {
        let place = meta.entry_of(pfn);
        // This comes before the bit is cleared: after that the entry is the next owner's.
        if !mutant::is(Mutant::EntryAfterBits) {
            place.store(Entry::FREE.0, Ordering::Relaxed);
        }
        step!(self);
        let pageblock = PageblockRef::of(meta, pfn);
        // The zone is read before the addition, after which the pageblock may leave.
        let zone = pageblock.zone();
        let frame = pfn.0 as usize % PAGEBLOCK_FRAMES;
        let bit = 1 << (frame % 64);
        if pageblock.core().clear_mask(frame / 64, bit) != bit {
            // No count changes.
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
