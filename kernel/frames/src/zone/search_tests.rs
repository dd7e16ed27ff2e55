//! The frames that a search claims, passes over, and gives back.

use super::*;
use crate::{testing::*, *};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

const NORMAL: ZoneId = zone(0, ZoneKind::Normal);
const PAGE: Owner = Owner::new(OwnerKind::PageCache, 1);

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn take(frames: &'static TestFrames, order: Order) -> Option<TestBlock> {
    take_for(frames, order, test_owner(1))
}

fn take_for(frames: &'static TestFrames, order: Order, owner: Owner) -> Option<TestBlock> {
    frames.alloc_in_zone(ContextKind::Task, NORMAL, order, owner)
}

fn take_all(frames: &'static TestFrames, order: Order) -> Vec<TestBlock> {
    std::iter::from_fn(|| take(frames, order)).collect()
}

/// Makes two CPUs, and NORMAL of `pageblocks` pageblocks.
fn machine_of_pageblocks(pageblocks: u64) -> &'static TestFrames {
    let frames = bare_machine(2, 1);
    add_section(frames, 32);
    let start = section_range(32).start;
    let range = PfnRange::new(start, Pfn(start.0 + pageblocks * PAGEBLOCK_FRAMES as u64));
    frames.online_range(range, NORMAL, &task()).unwrap();
    frames
}

/// Returns the number of the block's pageblock in its zone.
fn pageblock_in_zone(block: &TestBlock) -> u64 {
    (block.pfn().0 - section_range(32).start.0) / PAGEBLOCK_FRAMES as u64
}

/// Makes two pageblocks with nothing free but the frames of the second one that `is_free` selects.
fn with_free(
    is_free: impl Fn(u64) -> bool,
) -> (&'static TestFrames, PageblockRef<'static>, Vec<TestBlock>) {
    let frames = machine_of_pageblocks(2);
    let start = section_range(32).start.0 + PAGEBLOCK_FRAMES as u64;
    let all = take_all(frames, Order::ZERO);
    assert_eq!(all.len(), 2 * PAGEBLOCK_FRAMES);
    let (freed, kept) = all
        .into_iter()
        .partition::<Vec<_>, _>(|block| block.pfn().0 >= start && is_free(block.pfn().0 - start));
    drop(freed);
    frames.drain_all(&task());
    let (pageblock, _) = frames.pageblock_of(Pfn(start)).unwrap();
    (frames, pageblock, kept)
}

fn free_huge(frames: &TestFrames) -> String {
    format!("{:?}", frames.zone(NORMAL).free_huge)
}

/// Lets two CPUs claim the only run of four frames; other free frames lie apart. The second CPU
/// comes at each step of the first one's search, and with `isolates` an offline, too.
fn a_run_is_lost(isolates: bool) {
    for at in 0.. {
        let (frames, pageblock, kept) =
            with_free(|frame| frame < 4 || (64..128).contains(&frame) && frame % 2 == 0);
        let theirs = Rc::new(RefCell::new(None));
        let is_isolated = Rc::new(Cell::new(false));
        let (held, isolated) = (Rc::clone(&theirs), Rc::clone(&is_isolated));
        let (hook, steps) = at_step(at, move || {
            held.replace(on_cpu(1, || take(frames, order(2))));
            if isolates {
                isolate(frames, pageblock).unwrap();
                isolated.set(true);
            }
        });
        let ours = take(frames, order(2));
        drop(hook);
        if is_isolated.get() {
            unisolate(frames, pageblock).unwrap();
        }
        frames.drain_all(&task());
        assert_sound(frames);
        drop((ours, theirs.take(), kept));
        frames.drain_all(&task());
        assert_eq!(assert_sound(frames).free, 2 * PAGEBLOCK_FRAMES as u64);
        if at >= steps.get() {
            assert!(at > 4, "{at} steps");
            return;
        }
    }
}

#[test]
fn what_is_reserved_in_vain_is_given_back() {
    a_run_is_lost(false);
}

#[test]
fn a_reservation_that_is_given_up_in_an_isolated_pageblock_leaves_the_zones_counter() {
    a_run_is_lost(true);
}

/// Puts back the bits that others have claimed without a reservation, and frees the frames that
/// came.
fn give_back(
    frames: &TestFrames,
    pageblock: PageblockRef<'_>,
    claimed: (usize, u64),
    came: (usize, u64),
) {
    pageblock.core().clear_mask(claimed.0, claimed.1);
    pageblock.core().clear_mask(came.0, came.1);
    let count = came.1.count_ones();
    pageblock.core().add(count);
    frames.gain(NORMAL, count);
}

#[test]
fn single_frames_that_are_reserved_in_vain_are_given_back() {
    let (frames, pageblock, kept) = with_free(|frame| [0, 64, 65].contains(&frame));
    let came = Cell::new((0, 0));
    let count = frames.take_singles(
        NORMAL,
        MigrateType::Unmovable,
        3,
        &frames.this_cpu(HERE).hints,
        |pageblock, word, mask| {
            came.set((word, mask));
            // Others are ahead of the claim at each turn.
            assert_eq!(pageblock.core().claim_singles(2, |_, _| ()), 2);
        },
    );
    assert_eq!((count, came.get()), (1, (0, 1)));
    give_back(frames, pageblock, (1, 0b11), came.get());
    assert_sound(frames);
    drop(kept);
}

#[test]
fn runs_that_are_reserved_in_vain_are_given_back() {
    let (frames, pageblock, kept) = with_free(|frame| frame < 2 || frame / 2 == 32);
    let came = Cell::new(None);
    let count = frames.take_runs(
        NORMAL,
        Order::ONE,
        MigrateType::Unmovable,
        2,
        &frames.this_cpu(HERE).hints,
        |pageblock, frame| {
            came.set(Some(frame));
            assert_eq!(pageblock.core().claim_runs(Order::ONE, 1, 1, |_, _| ()), 1);
        },
    );
    assert_eq!((count, came.get()), (1, Some(0)));
    give_back(frames, pageblock, (1, 0b11), (0, 0b11));
    assert_sound(frames);
    drop(kept);
}

/// Makes two pageblocks with a run of this order each. The run in the one where a search begins is
/// taken at one of its steps.
fn one_pageblock_gives_nothing(size: Order) {
    for at in 0.. {
        let frames = machine_of_pageblocks(2);
        let run = size.frames();
        let all = take_all(frames, Order::ZERO);
        let (freed, kept) = all
            .into_iter()
            .partition::<Vec<_>, _>(|block| block.pfn().0 % (PAGEBLOCK_FRAMES as u64) < run);
        drop(freed);
        frames.drain_all(&task());
        let cpu = frames.this_cpu(HERE);
        let search = Search::new(NORMAL, size, MigrateType::Unmovable, &cpu.hints);
        let first = frames.pageblock(section_range(32).start.0 / 512).unwrap();
        search.hints.set(NORMAL, first.index);
        let stolen = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&stolen);
        let (hook, steps) = at_step(at, move || {
            first
                .core()
                .claim_singles(run as u32, |_, mask| theirs.set(mask));
        });
        let came = Rc::new(Cell::new(None));
        let migrate_type = MigrateType::Unmovable;
        let count = match size {
            Order::ZERO => frames.take_singles(
                NORMAL,
                migrate_type,
                1,
                &cpu.hints,
                |pageblock, word, mask| {
                    came.set(Some((pageblock, word, mask)));
                },
            ),
            _ => frames.take_runs(
                NORMAL,
                size,
                migrate_type,
                1,
                &cpu.hints,
                |pageblock, frame| {
                    came.set(Some((pageblock, 0, ((1 << run) - 1) << frame)));
                },
            ),
        };
        drop(hook);
        assert_eq!(count, 1, "another pageblock has a run, at step {at}");
        let (pageblock, word, mask) = came.get().unwrap();
        give_back(frames, pageblock, (0, 0), (word, mask));
        first.core().clear_mask(0, stolen.get());
        assert_sound(frames);
        drop(kept);
        if at >= steps.get() {
            assert!(at > 1, "{at} steps");
            return;
        }
    }
}

#[test]
fn a_pageblock_that_gives_nothing_is_passed_over() {
    one_pageblock_gives_nothing(Order::ZERO);
    one_pageblock_gives_nothing(Order::ONE);
}

#[test]
fn a_search_visits_each_pageblock_once_and_goes_no_further_than_its_window() {
    let frames = machine_of_pageblocks(4);
    let first = section_range(32).start.0 / 512;
    let visited = |hint: u64, window: u32| {
        let mut seen = Vec::new();
        let found = frames.search(
            NORMAL,
            hint,
            window,
            StateFilter::free(1),
            |pageblock, _, _| {
                seen.push(pageblock.index - first);
                assert!(seen.len() < 9, "goes round and round");
                None::<()>
            },
        );
        assert!(found.is_none());
        seen
    };
    assert_eq!(visited(first, u32::MAX), [0, 1, 2, 3]);
    assert_eq!(visited(first + 2, u32::MAX), [2, 3, 0, 1]);
    assert_eq!(visited(first + 2, 3), [2, 3, 0]);
    assert_eq!(visited(first + 1, 2), [1, 2]);
    assert_eq!(visited(0, u32::MAX), [0, 1, 2, 3]);
    assert_eq!(visited(first + 9, u32::MAX), [0, 1, 2, 3]);
    assert_sound(frames);
}

#[test]
fn a_search_is_shown_its_own_zones_pageblocks_only() {
    let frames = machine_of_pageblocks(2);
    let (start, movable) = (section_range(32).start.0, zone(0, ZoneKind::Movable));
    let online = |pageblocks: std::ops::Range<u64>, zone| {
        let range = PfnRange::new(
            Pfn(start + pageblocks.start * 512),
            Pfn(start + pageblocks.end * 512),
        );
        frames.online_range(range, zone, &task()).unwrap();
    };
    online(2..4, movable);
    online(4..6, NORMAL);
    let mut seen = Vec::new();
    frames.search(
        NORMAL,
        0,
        u32::MAX,
        StateFilter::free(1),
        |pageblock, _, _| {
            seen.push(pageblock.index - start / 512);
            None::<()>
        },
    );
    assert_eq!(seen, [0, 1, 4, 5]);
    assert_sound(frames);
}

#[test]
fn a_hole_in_a_zone_is_passed_over() {
    let frames = bare_machine(1, 1);
    for block in [32, 34] {
        add_section(frames, block);
        let online = frames.online_range(section_range(block), NORMAL, &task());
        online.unwrap();
    }
    assert_eq!(take_all(frames, Order::HUGE).len(), 128);
    assert_sound(frames);
}

#[test]
fn a_pageblock_changes_its_kind_only_while_it_is_wholly_free() {
    let frames = machine_of_pageblocks(2);
    let block = take(frames, Order::ZERO).unwrap();
    let (pageblock, _) = frames.pageblock_of(block.pfn()).unwrap();
    assert!(
        frames
            .reserve_in(pageblock, NORMAL, 1, 1, Part::First)
            .is_none()
    );
    assert_eq!(
        frames.reserve_in(pageblock, NORMAL, 1, 1, Part::Free),
        Some(1)
    );
    frames.return_reservation(pageblock, 1);
    let other = frames.pageblock(pageblock.index ^ 1).unwrap();
    assert_eq!(frames.reserve_in(other, NORMAL, 1, 1, Part::First), Some(1));
    frames.return_reservation(other, 1);
    drop(block);
    assert_sound(frames);
}

#[test]
fn a_reservation_that_is_given_up_may_complete_a_pageblock() {
    let frames = machine_of_pageblocks(2);
    let pageblock = frames.pageblock(section_range(32).start.0 / 512).unwrap();
    assert_eq!(
        frames.reserve_in(pageblock, NORMAL, 8, 8, Part::Free),
        Some(8)
    );
    let before = free_huge(frames);
    frames.return_reservation(pageblock, 8);
    assert_ne!(free_huge(frames), before, "a search would miss it");
    assert_sound(frames);
}

#[test]
fn a_pageblock_that_is_given_up_is_counted() {
    let frames = machine_of_pageblocks(2);
    let pageblock = frames.pageblock(section_range(32).start.0 / 512).unwrap();
    assert!(pageblock.core().take());
    let before = free_huge(frames);
    frames.untake(pageblock);
    assert_ne!(free_huge(frames), before, "a search would miss it");
    assert_sound(frames);
    // If the pageblock is isolated meanwhile, the isolation finds nothing free, so the zone's
    // counter still has its frames.
    assert!(pageblock.core().take());
    isolate(frames, pageblock).unwrap();
    frames.untake(pageblock);
    unisolate(frames, pageblock).unwrap();
    assert_sound(frames);
}

#[test]
fn what_is_taken_whole_is_of_the_requests_kind() {
    for size in [Order::HUGE, Order::MAX] {
        for owner in [PAGE, test_owner(1), PAGE] {
            let frames = machine_of_pageblocks(2);
            let block = take_for(frames, size, owner).unwrap();
            let (pageblock, _) = frames.pageblock_of(block.pfn()).unwrap();
            let kind = PageblockKind::of(MigrateType::of_owner(owner), size);
            assert_eq!(pageblock.kind(), kind);
            assert!(size == Order::HUGE || pageblock.upper().kind() == kind);
            drop(block);
            assert_sound(frames);
        }
    }
}

#[test]
fn both_halves_of_a_pair_go_before_the_next_pair() {
    let frames = machine_of_pageblocks(4);
    let [lower, upper] = [(); 2].map(|()| take(frames, Order::HUGE).unwrap());
    assert_eq!([&lower, &upper].map(pageblock_in_zone), [0, 1]);
    drop(lower);
    frames.drain_all(&task());
    let again = take(frames, Order::HUGE).unwrap();
    assert_eq!(pageblock_in_zone(&again), 0);
    drop((again, upper));
    assert_sound(frames);
}

#[test]
fn a_pair_of_which_one_half_is_kept_is_not_taken() {
    for half in 0..2 {
        let frames = machine_of_pageblocks(2);
        let pageblock = frames
            .pageblock(section_range(32).start.0 / 512 + half)
            .unwrap();
        let kind = pageblock.kind();
        let kept = kind.turned_to(MigrateType::HighAtomic);
        assert!(pageblock.change_kind(kind, kept));
        assert!(take(frames, Order::MAX).is_none(), "half {half} is kept");
        assert!(pageblock.change_kind(kept, kind));
        drop(take(frames, Order::MAX).unwrap());
        assert_sound(frames);
    }
}

#[test]
fn a_hint_to_a_pageblock_of_another_kind_is_not_followed() {
    let frames = machine_of_pageblocks(2);
    let other = take(frames, Order::HUGE).unwrap();
    let single = take(frames, Order::ZERO).unwrap();
    let there = pageblock_in_zone(&single);
    drop(single);
    frames.drain_all(&task());
    let page = take_for(frames, Order::ZERO, PAGE).unwrap();
    assert_eq!(pageblock_in_zone(&page), there);
    let stolen = take(frames, Order::ZERO).unwrap();
    assert_eq!(pageblock_in_zone(&stolen), there);
    assert_eq!(frames.zone_events(NORMAL).steals, 1);
    drop((other, page, stolen));
    assert_sound(frames);
}

#[test]
fn whole_pageblocks_stay_whole_while_others_have_room() {
    let frames = machine_of_pageblocks(4);
    let all = take_all(frames, Order::ZERO);
    let (freed, kept) = all.into_iter().partition::<Vec<_>, _>(|block| {
        let in_pageblock = block.pfn().0 % PAGEBLOCK_FRAMES as u64;
        pageblock_in_zone(block) == 1 || pageblock_in_zone(block) == 2 && in_pageblock == 7
    });
    drop(freed);
    frames.drain_all(&task());
    let single = take(frames, Order::ZERO).unwrap();
    assert_eq!(pageblock_in_zone(&single), 2);
    drop((single, kept));
    frames.drain_all(&task());
    assert_sound(frames);
}

#[test]
fn pageblocks_for_other_sizes_come_before_the_other_migrate_type() {
    let frames = machine_of_pageblocks(2);
    let page = take_for(frames, Order::ZERO, PAGE).unwrap();
    let large = take(frames, order(8)).unwrap();
    assert_ne!(pageblock_in_zone(&page), pageblock_in_zone(&large));
    let (pageblock, _) = frames.pageblock_of(large.pfn()).unwrap();
    let kind = pageblock.kind();
    let single = take(frames, Order::ZERO).unwrap();
    assert_eq!(pageblock_in_zone(&single), pageblock_in_zone(&large));
    assert_eq!(frames.zone_events(NORMAL).steals, 0);
    assert_eq!(pageblock.kind(), kind, "a pageblock in use keeps its kind");
    drop((page, large, single));
    assert_sound(frames);
}
