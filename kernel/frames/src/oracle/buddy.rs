//! Numbers of free blocks by order, counted from the bits, since there are no free lists.

use crate::{
    base::types::{ORDERS, Order, ZoneId},
    cache::cpu::PerCpu,
    frames::Frames,
    pageblock::{
        bits::State,
        section_meta::{PageblockBits, PageblockRef},
    },
};
use tidemark_sync::atomic::Ordering;

/// Frames of a word that may begin an aligned run, by order 1 to 6.
const ALIGNED: [u64; 6] = [
    0x5555_5555_5555_5555,
    0x1111_1111_1111_1111,
    0x0101_0101_0101_0101,
    0x0001_0001_0001_0001,
    0x0000_0001_0000_0001,
    1,
];

impl<P: PerCpu> Frames<'_, P> {
    /// Counts the free blocks of a zone by order. Each free frame counts once, in the largest
    /// aligned free block that it is part of. Caches and isolated pageblocks are left out. It takes
    /// no lock. Any context.
    ///
    /// The result is exact at rest. While other CPUs allocate, it may include frames that are
    /// reserved or being taken.
    ///
    /// # Panics
    ///
    /// Panics if the allocator has no node of this number.
    pub fn free_blocks(&self, zone: ZoneId) -> [u64; ORDERS] {
        let mut blocks = [0; ORDERS];
        let (first, end) = self.zone_table().zone(zone).span();
        // The loop takes pairs: two pageblocks that are both wholly free are one order 10.
        for index in (first & !1..end).step_by(2) {
            let is_whole = |index| {
                self.books()
                    .pageblock(index)
                    .filter(|pageblock| pageblock.zone() == zone)
                    .is_some_and(|pageblock| count_pageblock(pageblock, &mut blocks))
            };
            let whole = [index, index + 1].map(is_whole);
            match whole {
                [true, true] => blocks[Order::MAX.get() as usize] += 1,
                [false, false] => {}
                _ => blocks[Order::HUGE.get() as usize] += 1,
            }
        }
        blocks
    }
}

/// Counts the free blocks of a pageblock below order 9; returns whether all of it is free.
fn count_pageblock(pageblock: PageblockRef<'_>, blocks: &mut [u64; ORDERS]) -> bool {
    let state = pageblock.core().state();
    if state == State::EMPTY {
        return true;
    }
    if state.is_present() && !state.is_isolated() && !state.is_taken() && state.free() > 0 {
        return count_bits(pageblock.core().bits, blocks);
    }
    false
}

/// Counts the zero bits of a pageblock as blocks of orders 0 to 8; returns whether all are zero.
fn count_bits(bits: &PageblockBits, blocks: &mut [u64; ORDERS]) -> bool {
    let mut words = [false; 8];
    for (word, whole) in bits.0.iter().zip(&mut words) {
        *whole = count_word(!word.load(Ordering::Relaxed), blocks);
    }
    // Orders 7 and 8 are neighbouring words that are wholly free.
    let mut whole = 0;
    for four in words.as_chunks::<4>().0 {
        let pairs = [four[0] && four[1], four[2] && four[3]];
        if pairs == [true, true] {
            whole += 1;
            blocks[8] += 1;
            continue;
        }
        for (pair, words) in pairs.into_iter().zip(four.as_chunks::<2>().0) {
            if pair {
                blocks[7] += 1;
            } else {
                blocks[6] += words.iter().filter(|&&whole| whole).count() as u64;
            }
        }
    }
    if whole == 2 {
        blocks[8] -= 2;
    }
    whole == 2
}

/// Counts the set bits of a word, 1 = free, as blocks of orders 0 to 5; returns whether all are
/// set.
fn count_word(free: u64, blocks: &mut [u64; ORDERS]) -> bool {
    let mut runs = free;
    for (order, aligned) in ALIGNED.into_iter().enumerate() {
        let larger = runs & runs >> (1 << order) & aligned;
        blocks[order] += u64::from(runs.count_ones() - 2 * larger.count_ones());
        runs = larger;
    }
    runs != 0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{
        base::{request::Request, types::ZoneKind},
        pageblock::section_meta::SectionMeta,
        testing::*,
    };

    /// Finds the largest free block at each place, one by one.
    fn by_hand(free: &[bool]) -> [u64; ORDERS] {
        let mut blocks = [0; ORDERS];
        let mut at = 0;
        while at < free.len() {
            let order = (0..ORDERS).rev().find(|order| {
                let len = 1 << order;
                at % len == 0 && at + len <= free.len() && free[at..at + len].iter().all(|f| *f)
            });
            match order {
                Some(order) => {
                    blocks[order] += 1;
                    at += 1 << order;
                }
                None => at += 1,
            }
        }
        blocks
    }

    #[test]
    fn bits_count_as_the_largest_blocks_that_they_make() {
        let meta = SectionMeta::new();
        let bits = &meta.bits[0];
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for density in 0..40 {
            for word in &bits.0 {
                let mut value = 0;
                for bit in 0..64 {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    value |= u64::from(random >> 33 & 0x3f < density) << bit;
                }
                // Some words are wholly free, for the orders that span words.
                let value = if random >> 40 & 1 == 0 { 0 } else { value };
                word.store(value, Ordering::Relaxed);
            }
            let free: Vec<bool> = (0..512)
                .map(|bit| bits.0[bit / 64].load(Ordering::Relaxed) >> (bit % 64) & 1 == 0)
                .collect();
            let mut blocks = [0; ORDERS];
            let whole = count_bits(bits, &mut blocks);
            blocks[9] += u64::from(whole);
            assert_eq!(blocks, by_hand(&free), "{free:?}");
        }
    }

    fn frames_in(blocks: [u64; ORDERS]) -> u64 {
        (0..).zip(blocks).map(|(order, count)| count << order).sum()
    }

    #[test]
    fn a_zones_blocks_hold_its_free_frames() {
        let frames = small_machine(1);
        let normal = zone(0, ZoneKind::Normal);
        assert_eq!(frames.free_blocks(normal)[10], 32);
        let taken: Vec<_> = [0, 3, 9, 6, 0, 10, 8]
            .into_iter()
            .map(|order| {
                let order = Order::new(order).unwrap();
                let request = Request::kernel(order).owned_by(test_owner(1));
                frames.alloc(&task(), &request).unwrap()
            })
            .collect();
        for kind in [ZoneKind::Dma, ZoneKind::Dma32, ZoneKind::Normal] {
            let zone = zone(0, kind);
            let info = frames.zone_info(zone);
            assert_eq!(frames_in(frames.free_blocks(zone)), info.free, "{kind}");
        }
        drop(taken);
        frames.drain_all(&task());
        assert_eq!(frames.free_blocks(normal)[10], 32);
        let gone = section_range(32);
        frames.offline_range(gone, u64::MAX, &task()).unwrap();
        assert_eq!(frames.free_blocks(normal), [0; ORDERS]);
    }

    #[test]
    fn isolated_pageblocks_are_not_counted() {
        let frames = normal_machine(1, 1);
        let normal = zone(0, ZoneKind::Normal);
        let block = frames
            .alloc(&task(), &Request::kernel(Order::ZERO))
            .unwrap();
        frames.drain_all(&task());
        let (pageblock, _) = frames.pageblock_of(block.pfn()).unwrap();
        isolate(frames, pageblock).unwrap();
        let blocks = frames.free_blocks(normal);
        assert_eq!(frames_in(blocks), frames.zone_info(normal).free);
        assert_eq!((blocks[9], blocks[10]), (1, 31));
        unisolate(frames, pageblock).unwrap();
        drop(block);
        frames.drain_all(&task());
        assert_sound(frames);
    }

    #[test]
    fn a_zone_that_begins_amid_a_pair_has_no_block_across_pairs() {
        let frames = bare_machine(1, 1);
        add_section(frames, 0);
        let dma = zone(0, ZoneKind::Dma);
        let range = crate::PfnRange::new(crate::Pfn(512), crate::Pfn(1_536));
        frames.add_boot_range(range, dma).unwrap();
        frames.finish_boot();
        let blocks = frames.free_blocks(dma);
        assert_eq!((blocks[9], blocks[10]), (2, 0));
        assert_sound(frames);
    }
}
