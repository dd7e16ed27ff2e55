//! The place of a frame's books, and a pageblock's flags.

use super::*;
use crate::{
    pageblock::{bits::State, migrate_type::Size},
    testing::*,
    *,
};

#[test]
fn the_first_pageblock_that_is_seen_is_the_first_that_is_sought() {
    let meta = SectionMeta::new();
    let states = [State::GONE, State::FULL, State::WHOLE, State::EMPTY];
    let mut random = 1_u64;
    for round in 0..200 {
        for pair in &meta.pairs {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            // Most states are ones that no filter looks for.
            let state = |bits: u64| match bits % 16 {
                0 => State(State::FULL.0 + 7),
                bits => states[bits as usize % if round % 2 == 0 { 3 } else { 4 }],
            };
            let [lower, upper] = [state(random >> 40), state(random >> 50)];
            let word = u32::from(upper.0) << 16 | u32::from(lower.0);
            pair.0.store(word, Ordering::Relaxed);
        }
        for filter in [
            StateFilter::EMPTY,
            StateFilter::partial(7),
            StateFilter::free(8),
            StateFilter::PRESENT,
        ] {
            for (from, to) in (0..64).flat_map(|from| (from..=64).map(move |to| (from, to))) {
                let pageblock = PageblockRef {
                    meta: &meta,
                    index: 128 + from,
                };
                let has =
                    |&local: &u64| filter.has(meta.pairs[local as usize / 2].state(local as usize));
                let expected = (from..to).find(has).map(|local| 128 + local);
                let seen = pageblock
                    .first_seen(128 + to, filter)
                    .map(|pageblock| pageblock.index);
                assert_eq!(seen, expected, "{from}..{to} {filter:?}");
            }
        }
    }
}

const NORMAL: ZoneId = zone(0, ZoneKind::Normal);
const KINDS: [PageblockKind; 3] = [
    PageblockKind {
        migrate_type: MigrateType::Unmovable,
        size: Size::Small,
    },
    PageblockKind {
        migrate_type: MigrateType::Movable,
        size: Size::Medium,
    },
    PageblockKind {
        migrate_type: MigrateType::HighAtomic,
        size: Size::Small,
    },
];

fn pageblocks(meta: &SectionMeta) -> impl Iterator<Item = PageblockRef<'_>> {
    (128..128 + SECTION_PAGEBLOCKS as u64).map(move |index| PageblockRef { meta, index })
}

#[test]
fn each_pageblock_has_books_of_its_own() {
    let meta = SectionMeta::new();
    for (number, pageblock) in pageblocks(&meta).enumerate() {
        assert_eq!(pageblock.start(), Pfn(pageblock.index * 512));
        let last = Pfn(pageblock.start().0 + 511);
        assert_eq!(PageblockRef::of(&meta, last).index, pageblock.index);
        assert_eq!(
            pageblock.upper().index,
            pageblock.index - pageblock.index % 2 + 1
        );
        let core = pageblock.core();
        assert!(std::ptr::eq(core.bits, &meta.bits[number]));
        assert!(std::ptr::eq(core.pair, &meta.pairs[number / 2]));
        assert_eq!(core.shift, [0, 16][number % 2]);
        let zone = ZoneId::from_index(number % crate::MAX_ZONES);
        pageblock.set_zone(zone, resizing());
        meta.flags[number].fetch_xor(3 << 8, Ordering::Relaxed);
        assert_eq!(pageblock.zone(), zone);
        assert_eq!(pageblock.flags(), meta.flags_of(last));
        assert_eq!(pageblock.flags(), meta.flags(number + SECTION_PAGEBLOCKS));
        assert_eq!(
            pageblock.flags().0,
            meta.flags[number].load(Ordering::Relaxed)
        );
    }
}

#[test]
fn each_frame_has_an_entry_of_its_own() {
    let meta = SectionMeta::new();
    let mut number = 0;
    for pageblock in pageblocks(&meta) {
        for frame in 0..PAGEBLOCK_FRAMES as u32 {
            let pfn = Pfn(pageblock.start().0 + u64::from(frame));
            let word = frame as usize / 64;
            let entry = &meta.entries[number];
            entry.store(number as u32, Ordering::Relaxed);
            assert!(std::ptr::eq(meta.entry_of(pfn), entry));
            assert!(std::ptr::eq(pageblock.entry(frame), entry));
            assert_eq!(pageblock.entry_now(frame).0, number as u32);
            let of_word = pageblock.entries_of_word(word);
            assert!(std::ptr::eq(&of_word[frame as usize % 64], entry));
            assert_eq!(pageblock.start_of_word(word).0, pfn.0 - pfn.0 % 64);
            number += 1;
        }
    }
}

#[test]
fn a_pageblock_that_joins_is_for_small_blocks_of_what_its_zone_knows() {
    let meta = SectionMeta::new();
    let pageblock = PageblockRef::of(&meta, Pfn(512));
    for zone in ZoneKind::ALL.map(|kind| zone(0, kind)) {
        let migrate_type = MigrateType::default().within(zone);
        pageblock.set_zone(zone, resizing());
        assert_eq!(
            pageblock.flags(),
            PageblockFlags::new(zone, PageblockKind::of(migrate_type, Order::ZERO))
        );
        assert_eq!(pageblock.migrate_type(), migrate_type);
    }
}

#[test]
fn a_kind_changes_only_from_the_one_named() {
    let meta = SectionMeta::new();
    let pageblock = PageblockRef::of(&meta, Pfn(512));
    pageblock.set_zone(NORMAL, resizing());
    let first = pageblock.kind();
    for (from, to) in [(KINDS[0], KINDS[1]), (KINDS[1], KINDS[2])] {
        let (before, other) = (pageblock.flags(), before_or_behind(from));
        assert!(!pageblock.change_kind(other, to), "it is {from:?}");
        assert!(!pageblock.exchange_flags(
            PageblockFlags::new(NORMAL, other),
            PageblockFlags::new(NORMAL, to)
        ));
        assert_eq!(pageblock.flags(), before);
        assert!(pageblock.change_kind(from, to));
        assert_eq!((pageblock.zone(), pageblock.kind()), (NORMAL, to));
    }
    assert_eq!(first, KINDS[0]);
}

fn before_or_behind(kind: PageblockKind) -> PageblockKind {
    if kind == KINDS[1] { KINDS[0] } else { KINDS[1] }
}

#[test]
fn only_what_is_not_in_reserve_turns_to_a_request() {
    let meta = SectionMeta::new();
    let pageblock = PageblockRef::of(&meta, Pfn(512));
    for (is, becomes) in [
        (KINDS[0], KINDS[1]),
        (KINDS[1], KINDS[1]),
        (KINDS[2], KINDS[2]),
    ] {
        meta.flags[1].store(PageblockFlags::new(NORMAL, is).0, Ordering::Relaxed);
        pageblock.turn_to(KINDS[1]);
        assert_eq!(pageblock.kind(), becomes, "was {is:?}");
        assert_eq!(pageblock.zone(), NORMAL);
    }
}

#[test]
fn what_is_kept_out_of_caches_stays_what_it_is() {
    let meta = SectionMeta::new();
    let pageblock = PageblockRef::of(&meta, Pfn(512));
    for kind in KINDS {
        let flags = PageblockFlags::new(NORMAL, kind);
        meta.flags[1].store(flags.0, Ordering::Relaxed);
        for _ in 0..2 {
            pageblock.keep_out_of_caches(true);
            assert!(pageblock.flags().is_kept_out() && pageblock.flags().is_for(flags));
        }
        assert_eq!(pageblock.flags().cached_in(), None);
        for _ in 0..2 {
            pageblock.keep_out_of_caches(false);
            assert_eq!(pageblock.flags(), flags);
        }
    }
}

#[test]
fn the_set_bits_of_a_mask_come_from_the_lowest_on() {
    for mask in [0, 1, 1 << 63, 0x8421, u64::MAX] {
        let expected = (0..64).filter(|bit| mask >> bit & 1 == 1);
        assert!(bits_of(mask).eq(expected), "{mask:#x}");
    }
}

#[test]
fn a_place_of_the_table_is_filled_once() {
    let books = [(); 2].map(|()| &*Box::leak(Box::new(SectionMeta::new())));
    let slot = SectionSlot::new();
    assert!(slot.meta().is_none());
    assert_eq!(
        slot.meta_or_none().entry_of(Pfn(7)).load(Ordering::Relaxed),
        0
    );
    assert!(slot.fill(books[0]).is_ok());
    let refused = slot.fill(books[1]);
    assert!(refused.is_err_and(|rest| std::ptr::eq(rest, books[1])));
    assert!(std::ptr::eq(slot.meta().unwrap(), books[0]));
    assert!(std::ptr::eq(slot.meta_or_none(), books[0]));
}

#[test]
fn a_frame_is_found_in_its_blocks_books() {
    let frames = normal_machine(1, 2);
    for block in 32..34 {
        for (local, frame) in [(0, 0), (0, 511), (63, 77)] {
            let pfn = Pfn(SectionNo(block).start().0 + local * 512 + frame);
            let (pageblock, index) = frames.pageblock_of(pfn).unwrap();
            assert_eq!(pageblock.index, block as u64 * 64 + local);
            assert_eq!(u64::from(index), frame);
            let meta = frames
                .books()
                .slot(SectionNo(block))
                .unwrap()
                .meta()
                .unwrap();
            assert!(std::ptr::eq(pageblock.meta, meta));
            assert!(std::ptr::eq(pageblock.entry(index), meta.entry_of(pfn)));
        }
    }
    assert!(frames.pageblock_of(SectionNo(34).start()).is_none());
    assert!(frames.pageblock(u64::MAX / 512).is_none());
    assert_sound(frames);
}
