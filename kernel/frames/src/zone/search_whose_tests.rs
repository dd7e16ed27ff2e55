//! The zone of the pageblocks that a search takes from, and of the counter that a reservation goes
//! back to.

use super::*;
use crate::{pageblock::section_meta::SECTION_FRAMES, testing::*, *};
use std::{cell::Cell, rc::Rc};

const NORMAL: ZoneId = zone(0, ZoneKind::Normal);
const MOVABLE: ZoneId = zone(0, ZoneKind::Movable);
const PAGE: Owner = Owner::new(OwnerKind::PageCache, 1);

/// The memory section that leaves, and its first pageblock.
const LEAVES: usize = 32;
const FIRST: u64 = (LEAVES * SECTION_PAGEBLOCKS) as u64;

fn take_for(frames: &'static TestFrames, order: Order, owner: Owner) -> Option<TestBlock> {
    frames.alloc_in_zone(ContextKind::Task, NORMAL, order, owner)
}

fn take(frames: &'static TestFrames, order: Order) -> Option<TestBlock> {
    take_for(frames, order, test_owner(1))
}

/// Makes pageblocks of one memory section, each of its zone in `zones`.
fn machine_of(zones: &[ZoneId]) -> &'static TestFrames {
    let frames = bare_machine(1, 1);
    add_section(frames, LEAVES);
    for (&zone, pageblock) in zones.iter().zip(FIRST..) {
        let range = PfnRange::new(Pfn(pageblock * 512), Pfn((pageblock + 1) * 512));
        frames.add_boot_range(range, zone).unwrap();
    }
    frames.finish_boot();
    frames
}

#[test]
fn the_last_frames_are_had_of_the_other_kind() {
    for order in [Order::ZERO, Order::ONE, Order::COSTLY] {
        let frames = machine_of(&[NORMAL]);
        let pages = std::iter::from_fn(|| take_for(frames, order, PAGE));
        let mut pages = pages.collect::<Vec<_>>();
        drop(pages.pop());
        frames.drain_all(&task());
        assert_eq!(frames.zone_info(NORMAL).free, order.frames());
        let last = take(frames, order);
        assert!(last.is_some(), "{order:?}");
        drop((last, pages));
        assert_sound(frames);
    }
}

#[test]
fn a_pageblock_of_the_reserve_is_nobodys() {
    for in_use in [false, true] {
        let frames = machine_of(&[NORMAL; 2]);
        let kept = frames.pageblock(FIRST + 1).unwrap();
        let (kind, of_reserve) = (kept.kind(), kept.kind().turned_to(MigrateType::HighAtomic));
        let reserved = in_use.then(|| frames.reserve_for_test(kept, NORMAL, 8));
        assert!(kept.change_kind(kind, of_reserve));
        let cpu = frames.this_cpu(HERE);
        for order in [Order::ZERO, Order::COSTLY] {
            for migrate_type in [MigrateType::Unmovable, MigrateType::Movable] {
                let ways = [Zones::<Host>::take_from_zone, Zones::<Host>::take_foreign];
                let take = || {
                    ways.iter()
                        .find_map(|take| take(frames, NORMAL, order, migrate_type, &cpu.hints))
                };
                let all = std::iter::from_fn(take).collect::<Vec<_>>();
                let is_kept = |pfn: &Pfn| pfn.0 / 512 == kept.index;
                assert!(!all.iter().any(is_kept), "{order:?} of the reserve");
                assert_eq!(all.len() as u64, 512 / order.frames());
                for pfn in all {
                    frames.label(pfn, order, test_owner(1));
                    drop(frames.block(pfn, order));
                }
                frames.drain_all(&task());
            }
        }
        assert!(kept.change_kind(of_reserve, kind));
        if reserved.flatten().is_some() {
            frames.return_reservation(kept, 8);
        }
        assert_sound(frames);
    }
}

#[test]
fn a_pair_of_two_zones_is_neithers() {
    for zones in [[NORMAL, MOVABLE], [MOVABLE, NORMAL]] {
        let frames = machine_of(&[zones, zones].concat());
        assert_eq!(frames.zone_info(NORMAL).free, 1_024);
        assert!(take(frames, Order::MAX).is_none(), "half of it is MOVABLE");
        assert_sound(frames);
    }
}

type Step = fn(&TestFrames, PageblockRef<'static>);

/// Reserves in a pageblock, isolates it, and gives the reservation up. At each step in turn the
/// isolation ends, and the whole section leaves and comes back in another zone.
fn given_up_while_its_pageblock_leaves(taken: Step, give_up: Step) {
    let changed = Rc::new(Cell::new(0));
    for at in 0.. {
        let frames = normal_machine(2, 2);
        let pageblock = frames.pageblock(FIRST).unwrap();
        taken(frames, pageblock);
        isolate(frames, pageblock).unwrap();
        let end_isolation = move || unisolate(frames, pageblock).unwrap();
        let (steps, counts) = (Rc::new(Cell::new(0)), Rc::clone(&changed));
        let count = Rc::clone(&steps);
        let hook = at_steps(move || {
            if count.replace(count.get() + 1) == at {
                end_isolation();
                let (range, until) = (section_range(LEAVES), frames.platform().now_ns() + 10_000);
                let leave = || frames.offline_range(range, until, &task());
                if on_cpu(1, leave).is_ok() {
                    frames.online_range(range, MOVABLE, &task()).unwrap();
                    counts.set(counts.get() + 1);
                }
            }
        });
        give_up(frames, pageblock);
        drop(hook);
        let is_over = at >= steps.get();
        if is_over {
            end_isolation();
        }
        assert_sound(frames);
        let managed = [NORMAL, MOVABLE].map(|zone| frames.zone_info(zone).managed);
        assert_eq!(managed.iter().sum::<u64>(), 2 * SECTION_FRAMES as u64);
        if is_over {
            break;
        }
    }
    assert!(changed.get() > 0, "the block never left");
}

#[test]
fn a_reservation_goes_back_to_the_zone_that_had_the_pageblock() {
    given_up_while_its_pageblock_leaves(
        |frames, pageblock| assert_eq!(frames.reserve_for_test(pageblock, NORMAL, 8), Some(8)),
        |frames, pageblock| frames.return_reservation(pageblock, 8),
    );
}

#[test]
fn a_pageblock_goes_back_to_the_zone_that_had_it() {
    given_up_while_its_pageblock_leaves(
        |_, pageblock| assert!(pageblock.core().take()),
        |frames, pageblock| frames.untake(pageblock),
    );
}
