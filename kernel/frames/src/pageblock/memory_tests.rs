//! Where the books of a frame are, and what an area says of itself.

use super::*;
use crate::{
    pageblock::{area::State, migrate_type::Size},
    testing::*,
    *,
};

#[test]
fn the_first_area_that_is_seen_is_the_first_that_is_sought() {
    let meta = BlockMeta::new();
    let states = [State::GONE, State::FULL, State::WHOLE, State::EMPTY];
    let mut random = 1_u64;
    for round in 0..200 {
        for pair in &meta.pairs {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            // Mostly something that nobody looks for.
            let state = |bits: u64| match bits % 16 {
                0 => State(State::FULL.0 + 7),
                bits => states[bits as usize % if round % 2 == 0 { 3 } else { 4 }],
            };
            let [lower, upper] = [state(random >> 40), state(random >> 50)];
            let word = u32::from(upper.0) << 16 | u32::from(lower.0);
            pair.0.store(word, Ordering::Relaxed);
        }
        for sought in [
            Sought::EMPTY,
            Sought::partial(7),
            Sought::free(8),
            Sought::PRESENT,
        ] {
            for (from, to) in (0..64).flat_map(|from| (from..=64).map(move |to| (from, to))) {
                let area = AreaRef {
                    meta: &meta,
                    index: 128 + from,
                };
                let has =
                    |&local: &u64| sought.has(meta.pairs[local as usize / 2].state(local as usize));
                let expected = (from..to).find(has).map(|local| 128 + local);
                let seen = area.first_seen(128 + to, sought).map(|area| area.index);
                assert_eq!(seen, expected, "{from}..{to} {sought:?}");
            }
        }
    }
}

const NORMAL: ZoneId = zone(0, ZoneKind::Normal);
const KINDS: [Kind; 3] = [
    Kind {
        mobility: Mobility::Unmovable,
        size: Size::Small,
    },
    Kind {
        mobility: Mobility::Movable,
        size: Size::Medium,
    },
    Kind {
        mobility: Mobility::HighAtomic,
        size: Size::Small,
    },
];

fn areas(meta: &BlockMeta) -> impl Iterator<Item = AreaRef<'_>> {
    (128..128 + BLOCK_AREAS as u64).map(move |index| AreaRef { meta, index })
}

#[test]
fn each_area_has_books_of_its_own() {
    let meta = BlockMeta::new();
    for (number, area) in areas(&meta).enumerate() {
        assert_eq!(area.start(), Pfn(area.index * 512));
        let last = Pfn(area.start().0 + 511);
        assert_eq!(AreaRef::of(&meta, last).index, area.index);
        assert_eq!(area.upper().index, area.index - area.index % 2 + 1);
        let core = area.core();
        assert!(std::ptr::eq(core.bits, &meta.bits[number]));
        assert!(std::ptr::eq(core.pair, &meta.pairs[number / 2]));
        assert_eq!(core.shift, [0, 16][number % 2]);
        let zone = ZoneId::from_index(number % crate::MAX_ZONES);
        area.set_zone(zone);
        meta.homes[number].fetch_xor(3 << 8, Ordering::Relaxed);
        assert_eq!(area.zone(), zone);
        assert_eq!(area.home(), meta.home_of(last));
        assert_eq!(area.home(), meta.home(number + BLOCK_AREAS));
        assert_eq!(area.home().0, meta.homes[number].load(Ordering::Relaxed));
    }
}

#[test]
fn each_frame_has_an_entry_of_its_own() {
    let meta = BlockMeta::new();
    let mut number = 0;
    for area in areas(&meta) {
        for frame in 0..AREA_FRAMES as u32 {
            let pfn = Pfn(area.start().0 + u64::from(frame));
            let word = frame as usize / 64;
            let entry = &meta.entries[number];
            entry.store(number as u32, Ordering::Relaxed);
            assert!(std::ptr::eq(meta.entry_of(pfn), entry));
            assert!(std::ptr::eq(area.entry(frame), entry));
            assert_eq!(area.entry_now(frame).0, number as u32);
            let of_word = area.entries_of_word(word);
            assert!(std::ptr::eq(&of_word[frame as usize % 64], entry));
            assert_eq!(area.start_of_word(word).0, pfn.0 - pfn.0 % 64);
            number += 1;
        }
    }
}

#[test]
fn an_area_that_joins_is_for_small_blocks_of_what_its_zone_knows() {
    let meta = BlockMeta::new();
    let area = AreaRef::of(&meta, Pfn(512));
    for zone in ZoneKind::ALL.map(|kind| zone(0, kind)) {
        let mobility = Mobility::default().within(zone);
        area.set_zone(zone);
        assert_eq!(
            area.home(),
            Home::new(zone, Kind::of(mobility, Order::ZERO))
        );
        assert_eq!(area.mobility(), mobility);
    }
}

#[test]
fn a_kind_changes_only_from_the_one_named() {
    let meta = BlockMeta::new();
    let area = AreaRef::of(&meta, Pfn(512));
    area.set_zone(NORMAL);
    let first = area.kind();
    for (from, to) in [(KINDS[0], KINDS[1]), (KINDS[1], KINDS[2])] {
        let (before, other) = (area.home(), before_or_behind(from));
        assert!(!area.change_kind(other, to), "it is {from:?}");
        assert!(!area.exchange_home(Home::new(NORMAL, other), Home::new(NORMAL, to)));
        assert_eq!(area.home(), before);
        assert!(area.change_kind(from, to));
        assert_eq!((area.zone(), area.kind()), (NORMAL, to));
    }
    assert_eq!(first, KINDS[0]);
}

fn before_or_behind(kind: Kind) -> Kind {
    if kind == KINDS[1] { KINDS[0] } else { KINDS[1] }
}

#[test]
fn only_what_is_not_in_reserve_turns_to_a_request() {
    let meta = BlockMeta::new();
    let area = AreaRef::of(&meta, Pfn(512));
    for (is, becomes) in [
        (KINDS[0], KINDS[1]),
        (KINDS[1], KINDS[1]),
        (KINDS[2], KINDS[2]),
    ] {
        meta.homes[1].store(Home::new(NORMAL, is).0, Ordering::Relaxed);
        area.turn_to(KINDS[1]);
        assert_eq!(area.kind(), becomes, "was {is:?}");
        assert_eq!(area.zone(), NORMAL);
    }
}

#[test]
fn what_is_kept_out_of_caches_stays_what_it_is() {
    let meta = BlockMeta::new();
    let area = AreaRef::of(&meta, Pfn(512));
    for kind in KINDS {
        let home = Home::new(NORMAL, kind);
        meta.homes[1].store(home.0, Ordering::Relaxed);
        for _ in 0..2 {
            area.keep_out_of_caches(true);
            assert!(area.home().is_kept_out() && area.home().is_for(home));
        }
        assert_eq!(area.home().cached_in(), None);
        for _ in 0..2 {
            area.keep_out_of_caches(false);
            assert_eq!(area.home(), home);
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
    let books = [(); 2].map(|()| &*Box::leak(Box::new(BlockMeta::new())));
    let slot = BlockSlot::new();
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
            let pfn = Pfn(BlockNo(block).start().0 + local * 512 + frame);
            let (area, index) = frames.area_of(pfn).unwrap();
            assert_eq!(area.index, block as u64 * 64 + local);
            assert_eq!(u64::from(index), frame);
            let meta = frames.books().slot(BlockNo(block)).unwrap().meta().unwrap();
            assert!(std::ptr::eq(area.meta, meta));
            assert!(std::ptr::eq(area.entry(index), meta.entry_of(pfn)));
        }
    }
    assert!(frames.area_of(BlockNo(34).start()).is_none());
    assert!(frames.area(u64::MAX / 512).is_none());
    assert_sound(frames);
}
