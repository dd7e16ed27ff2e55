//! A memory section leaves and comes back in another zone between any two steps of code that uses
//! it. A state or a counter must be changed for the zone that was read while the pageblock could
//! not leave.

use crate::{alloc::compact::tests_hook, pageblock::migrate_type::MigrateType, testing::*};
use std::{cell::Cell, rc::Rc};

const NORMAL: ZoneId = zone(0, ZoneKind::Normal);
const MOVABLE: ZoneId = zone(0, ZoneKind::Movable);
/// The section that leaves.
const LEAVES: usize = 32;

/// The preparation: it makes the blocks that the work gets.
type Prepare = fn(&'static TestFrames) -> Vec<TestBlock>;
type Work = fn(&'static TestFrames, Vec<TestBlock>);

/// Makes two CPUs, and NORMAL of three sections, of which one leaves.
fn machine() -> &'static TestFrames {
    let frames = bare_machine(2, 1);
    frames.finish_boot();
    for section in LEAVES..LEAVES + 3 {
        add_section(frames, section);
        frames
            .online_range(section_range(section), NORMAL, &task())
            .unwrap();
    }
    frames
}

/// Takes the section out of its zone and into the other one; returns whether it could leave.
fn change_zones(frames: &'static TestFrames) -> bool {
    let until = frames.platform().now_ns() + 10_000;
    let range = section_range(LEAVES);
    let is_gone = frames.offline_range(range, until, &task()).is_ok();
    if is_gone {
        frames.online_range(range, MOVABLE, &task()).unwrap();
    }
    is_gone
}

/// Runs `work`, with the section changing zones at each step in turn; returns how often it could.
fn at_each_step(prepare: Prepare, work: Work) -> u32 {
    let changed = Rc::new(Cell::new(0));
    for at in 0.. {
        let frames = machine();
        let blocks = prepare(frames);
        frames.drain_all(&task());
        let step = Rc::new(Cell::new(0));
        let (counts, steps) = (Rc::clone(&changed), Rc::clone(&step));
        let armed = Rc::new(Cell::new(true));
        let hook = at_steps(move || {
            // A drain cannot wait for a gated section further up on this stack.
            let is_open = frames.platform().gate(CpuId(0)).is_open();
            if steps.replace(steps.get() + 1) >= at && !is_open && armed.replace(false) {
                counts.set(counts.get() + u32::from(on_cpu(1, || change_zones(frames))));
            }
        });
        work(frames, blocks);
        drop(hook);
        frames.drain_all(&task());
        assert_sound(frames);
        let managed = [NORMAL, MOVABLE].map(|zone| frames.zone_info(zone).managed);
        assert_eq!(managed.iter().sum::<u64>(), 3 * SECTION_FRAMES as u64);
        if step.get() <= at {
            break;
        }
    }
    changed.get()
}

/// Takes a block of the section that leaves.
fn take_there(frames: &'static TestFrames, order: Order) -> Vec<TestBlock> {
    let mut others = Vec::new();
    loop {
        let block = frames
            .alloc_in_zone(ContextKind::Task, NORMAL, order, test_owner(1))
            .unwrap();
        if section_range(LEAVES).contains(block.pfn()) {
            return vec![block];
        }
        others.push(block);
    }
}

fn nothing(_: &'static TestFrames) -> Vec<TestBlock> {
    Vec::new()
}

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

#[test]
fn while_the_last_frames_of_it_are_freed() {
    let prepared: [Prepare; 7] = [
        |frames| take_there(frames, order(0)),
        |frames| take_there(frames, order(1)),
        |frames| take_there(frames, order(3)),
        |frames| take_there(frames, order(5)),
        |frames| take_there(frames, order(8)),
        |frames| take_there(frames, Order::HUGE),
        |frames| take_there(frames, Order::MAX),
    ];
    for prepare in prepared {
        assert!(at_each_step(prepare, |_, blocks| drop(blocks)) > 0);
    }
}

#[test]
fn while_its_last_frame_is_freed_past_the_cache() {
    let work: Work = |frames, blocks| {
        let (pageblock, _) = frames.pageblock_of(blocks[0].pfn()).unwrap();
        pageblock.keep_out_of_caches(true);
        drop(blocks);
        pageblock.keep_out_of_caches(false);
    };
    assert!(at_each_step(|frames| take_there(frames, order(0)), work) > 0);
}

#[test]
fn while_the_last_frames_of_it_are_freed_in_bulk() {
    let pair = |frames| {
        let mut halves = Vec::new();
        for block in take_there(frames, order(1)) {
            let (lower, upper) = block.split().unwrap();
            halves.extend([lower, upper]);
        }
        halves
    };
    let work: Work = |frames, blocks| {
        let mut blocks = blocks.into_iter().map(Some).collect::<Vec<_>>();
        assert_eq!(frames.free_bulk(&mut blocks), 2);
    };
    assert!(at_each_step(pair, work) > 0);
}

/// Requests a block of NORMAL: it must not come from a pageblock that has become MOVABLE before the
/// claim.
fn take_of_normal(frames: &'static TestFrames, size: Order) {
    let taken = frames.alloc_in_zone(ContextKind::Task, NORMAL, size, test_owner(2));
    // A block that was taken before keeps the section from leaving.
    let taken = taken.expect("NORMAL has two blocks more");
    assert_eq!(frames.zone_of(taken.pfn()), Some(NORMAL));
    drop(taken);
}

#[test]
fn between_the_look_at_a_pageblock_and_its_claim() {
    let works: [Work; 6] = [
        |frames, _| take_of_normal(frames, order(0)),
        |frames, _| take_of_normal(frames, order(2)),
        |frames, _| take_of_normal(frames, order(5)),
        |frames, _| take_of_normal(frames, order(8)),
        |frames, _| take_of_normal(frames, Order::HUGE),
        |frames, _| take_of_normal(frames, Order::MAX),
    ];
    for work in works {
        assert!(at_each_step(nothing, work) > 0);
    }
}

#[test]
fn while_a_compaction_that_moved_nothing_ends() {
    for size in [order(3), Order::HUGE, Order::MAX] {
        let work: Work = match size {
            Order::HUGE => |frames, _| tests_hook::isolate_and_give_up(frames, LEAVES, Order::HUGE),
            Order::MAX => |frames, _| tests_hook::isolate_and_give_up(frames, LEAVES, Order::MAX),
            _ => |frames, _| tests_hook::isolate_and_give_up(frames, LEAVES, Order::COSTLY),
        };
        assert!(at_each_step(nothing, work) > 0);
    }
}

#[test]
fn while_its_pageblock_of_the_reserve_is_given_back() {
    let work: Work = |frames, _| {
        let (pageblock, _) = frames.pageblock_of(section_range(LEAVES).start).unwrap();
        let kind = pageblock.kind();
        assert!(frames.zone(NORMAL).grow_high_atomic());
        assert!(pageblock.change_kind(kind, kind.turned_to(MigrateType::HighAtomic)));
        // This returns `false` if the section left meanwhile, which takes the pageblock out of the
        // reserve as well.
        frames.release_high_atomic(pageblock, MigrateType::Unmovable);
        let kept = [NORMAL, MOVABLE].map(|zone| frames.zone_info(zone).high_atomic);
        assert_eq!(kept, [0, 0]);
    };
    assert!(at_each_step(nothing, work) > 0);
}

#[test]
fn while_a_reservation_in_it_is_given_up() {
    let work: Work = |frames, _| {
        let (pageblock, _) = frames.pageblock_of(section_range(LEAVES).start).unwrap();
        if let Some(reserved) = frames.reserve_for_test(pageblock, NORMAL, 8) {
            assert_eq!(reserved, 8);
            frames.return_reservation(pageblock, 8);
        }
    };
    assert!(at_each_step(nothing, work) > 0);
}
