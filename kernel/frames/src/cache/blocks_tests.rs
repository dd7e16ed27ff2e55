use super::*;
use crate::zone::places::*;
use crate::{base::owner::FrameState, testing::*, *};
use std::{cell::RefCell, rc::Rc};

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);

fn take(frames: &'static TestFrames, order: Order) -> Option<TestBlock> {
    frames.alloc_in_zone(ContextKind::Task, NORMAL, order, test_owner(1))
}

fn take_all(frames: &'static TestFrames, order: Order) -> Vec<TestBlock> {
    std::iter::from_fn(|| take(frames, order)).collect()
}

#[test]
fn a_block_comes_back_from_the_cache_that_it_went_to() {
    let frames = small_machine(1);
    for order in super::CACHED_ORDERS {
        frames.drain_all(&task());
        let before = frames.zone_info(NORMAL);
        let block = take(frames, order).unwrap();
        let pfn = block.pfn();
        drop(block);
        assert_eq!(frames.frame_state(pfn), FrameState::Cached);
        let kept = frames.zone_info(NORMAL);
        assert!(kept.cached >= order.frames());
        assert_eq!(kept.free + kept.cached, before.free);
        assert_sound(frames);
        let again = take(frames, order).unwrap();
        assert_eq!(again.pfn(), pfn);
        assert_eq!(frames.zone_info(NORMAL).free, kept.free);
        assert_sound(frames);
        drop(again);
    }
    frames.drain_all(&task());
    assert_eq!(assert_sound(frames).cached, 0);
}

#[test]
fn a_refill_brings_blocks_of_one_word_and_no_more_than_the_cache_holds() {
    let frames = small_machine(1);
    for order in super::CACHED_ORDERS.into_iter().take(3) {
        frames.drain_all(&task());
        let block = take(frames, order).unwrap();
        let cached = frames.zone_info(NORMAL).cached;
        assert_eq!(cached, (BLOCKS_AT_ONCE - 1) * order.frames());
        let more = (0..40).map(|_| take(frames, order).unwrap());
        drop(more.collect::<Vec<_>>());
        let blocks = frames.caches().cpus()[0].block_caches(NORMAL);
        assert_eq!(each(blocks).count() as u32, most(order));
        assert_sound(frames);
        drop(block);
    }
}

#[test]
fn a_request_that_finds_nothing_else_has_what_its_cpu_keeps() {
    let frames = small_machine(1);
    for kept in super::CACHED_ORDERS {
        drop(take(frames, kept));
    }
    let cached = frames.zone_info(NORMAL).cached;
    assert!(cached > 512 + 1_024);
    let managed = frames.zone_info(NORMAL).managed;
    let all = take_all(frames, Order::ZERO);
    assert_eq!(all.len() as u64, managed);
    assert_sound(frames);
    drop(all);
    frames.drain_all(&task());
    drop(take(frames, Order::MAX));
    let all = take_all(frames, Order::HUGE);
    assert_eq!(all.len() as u64 * 512, managed);
    drop(all);
    assert_sound(frames);
}

#[test]
fn nothing_is_kept_of_a_zone_below_high() {
    let frames = small_machine(1);
    let block = super::CACHED_ORDERS.map(|order| take(frames, order).unwrap());
    let singles = take_all(frames, Order::ZERO);
    frames.drain_all(&task());
    let high = frames.zone_info(NORMAL).high;
    assert!(frames.zone_info(NORMAL).free < high);
    for block in block {
        let order = block.order();
        if frames.zone_info(NORMAL).free + order.frames() >= high {
            break;
        }
        drop(block);
        assert_eq!(frames.zone_info(NORMAL).cached, 0, "order {order}");
    }
    drop(singles);
    assert_sound(frames);
}

#[test]
fn small_zones_keep_nothing() {
    assert_eq!(cached_orders(0), 0);
    assert_eq!(cached_orders(60), 1 << 1);
    assert_eq!(cached_orders(1_023), 0b1110);
    assert_eq!(cached_orders(1_024), 0b10_0000_1110);
    assert_eq!(cached_orders(u64::MAX), 0b110_0000_1110);
}

#[test]
fn a_block_in_a_cache_that_is_not_marked_so_is_reported_and_left_out() {
    let frames = small_machine(1);
    let block = take(frames, Order::HUGE).unwrap();
    let pfn = block.pfn();
    drop(block);
    let (pageblock, frame) = frames.pageblock_of(pfn).unwrap();
    let other = Entry::allocated(Order::HUGE, test_owner(2));
    pageblock.entry(frame).store(other.0, Ordering::Relaxed);
    let next = take(frames, Order::HUGE).unwrap();
    assert_ne!(next.pfn(), pfn);
    let faults = std::mem::take(&mut *frames.platform().faults.lock().unwrap());
    let faults: Vec<_> = faults.iter().map(|error| error.fault).collect();
    assert_eq!(faults, [FreeFault::CacheCorrupt]);
    // The entry names another owner now.
    drop(next);
    frames.free_raw(pfn, Order::HUGE);
    assert_sound(frames);
}

#[test]
fn memory_leaves_although_a_cpu_kept_blocks_of_it() {
    let frames = small_machine(1);
    let kept = super::CACHED_ORDERS.map(|order| take(frames, order).unwrap().pfn());
    let range = section_range(32);
    assert!(kept.iter().all(|&pfn| range.contains(pfn)));
    frames.offline_range(range, u64::MAX, &task()).unwrap();
    assert_eq!(frames.zone_info(NORMAL).cached, 0);
    assert_sound(frames);
    frames.online_range(range, NORMAL, &task()).unwrap();
    assert_sound(frames);
}

#[test]
fn a_pair_is_of_one_zone_and_one_kind() {
    let frames = bare_machine(1, 1);
    add_section(frames, 0);
    let zones = [ZoneKind::Dma, ZoneKind::Dma32].map(|kind| ZoneId::new(NodeId(0), kind));
    // The halves of the second pair are in different zones.
    for (zone, pageblocks) in zones.into_iter().zip([0..3, 3..8]) {
        let range = PfnRange::new(Pfn(pageblocks.start * 512), Pfn(pageblocks.end * 512));
        frames.add_boot_range(range, zone).unwrap();
    }
    frames.finish_boot();
    for (zone, pairs) in zones.into_iter().zip([1, 2]) {
        for owner in [test_owner(1), Owner::new(OwnerKind::PageCache, 1)] {
            let take = || frames.alloc_in_zone(ContextKind::Task, zone, Order::MAX, owner);
            let all = std::iter::from_fn(take).collect::<Vec<_>>();
            assert_eq!(all.len(), pairs);
            for block in &all {
                let (pageblock, _) = frames.pageblock_of(block.pfn()).unwrap();
                assert_eq!(pageblock.zone(), zone);
                assert_eq!(pageblock.flags(), pageblock.upper().flags());
            }
        }
    }
    assert_sound(frames);
}

#[test]
fn a_plain_block_comes_without_a_walk_and_is_counted() {
    let frames = small_machine(1);
    for order in super::CACHED_ORDERS {
        let request = Request::nowait(order).owned_by(test_owner(1));
        // The first request finds the zone that serves the class, and fills the cache on the
        // general path.
        drop(frames.alloc(&task(), &request).unwrap());
        let before = frames.zone_events(NORMAL);
        let pfn = frames.alloc(&task(), &request).unwrap().pfn();
        assert_eq!(frames.frame_state(pfn), FrameState::Cached);
        let block = frames.alloc(&task(), &request).unwrap();
        assert_eq!((block.pfn(), block.owner()), (pfn, test_owner(1)));
        let after = frames.zone_events(NORMAL);
        let count = |events: &ZoneEvents| events.allocs[order.get() as usize][0];
        assert_eq!(count(&after), count(&before) + 2);
        assert_eq!(after.refills, before.refills);
        drop(block);
        assert_sound(frames);
    }
}

#[test]
fn limits_are_those_of_the_orders() {
    for (slot, order) in super::CACHED_ORDERS.into_iter().enumerate() {
        assert_eq!(slot_of(order), slot);
        assert!(has_slot(order) && is_used(slot));
        assert_eq!(limit_at(SLOTS + slot, 1 << order.get()), most(order));
        assert_eq!(limit_at(slot, !(1 << order.get())), 0);
    }
    for order in [0, 4, 5, 6, 7, 8].map(|order| Order::new(order).unwrap()) {
        assert!(!has_slot(order) && !is_used(slot_of(order)));
        assert_eq!(limit_at(slot_of(order), u32::MAX), 0);
    }
}

fn faults(frames: &TestFrames) -> Vec<FreeFault> {
    let faults = std::mem::take(&mut *frames.platform().faults.lock().unwrap());
    faults.into_iter().map(|error| error.fault).collect()
}

#[test]
fn a_block_cached_with_another_order_is_reported_and_left_out() {
    let frames = small_machine(1);
    let block = take(frames, Order::HUGE).unwrap();
    let pfn = block.pfn();
    drop(block);
    let (pageblock, frame) = frames.pageblock_of(pfn).unwrap();
    let other = Entry::cached(Order::COSTLY);
    pageblock.entry(frame).store(other.0, Ordering::Relaxed);
    let next = take(frames, Order::HUGE).unwrap();
    assert_ne!(next.pfn(), pfn);
    assert_eq!(faults(frames), [FreeFault::CacheCorrupt]);
    let right = Entry::allocated(Order::HUGE, test_owner(2));
    pageblock.entry(frame).store(right.0, Ordering::Relaxed);
    drop(next);
    frames.free_raw(pfn, Order::HUGE);
    assert_sound(frames);
}

#[test]
fn a_refill_leaves_the_zone_at_high() {
    for order in [Order::ONE, Order::TWO, Order::COSTLY] {
        let frames = small_machine(1);
        let high = frames.zone_info(NORMAL).high;
        let held = press(frames, NORMAL, high + 2 * order.frames());
        let block = take(frames, order);
        assert!(block.is_some());
        assert!(frames.zone_info(NORMAL).free >= high, "order {order}");
        drop((block, held));
        frames.drain_all(&task());
        assert_sound(frames);
    }
}

#[test]
fn a_zone_too_small_for_an_order_fills_no_cache() {
    let frames = bare_machine(1, 1);
    add_section(frames, 32);
    let start = section_range(32).start;
    let range = PfnRange::new(start, Pfn(start.0 + 1_024));
    frames.online_range(range, NORMAL, &task()).unwrap();
    for (order, is_cached) in [(Order::ONE, true), (Order::COSTLY, false)] {
        let block = take(frames, order).unwrap();
        let cached = frames.zone_info(NORMAL).cached;
        assert_eq!(cached > 0, is_cached, "order {order}");
        drop(block);
        frames.drain_all(&task());
    }
    assert_sound(frames);
}

#[test]
fn refills_and_drains_of_blocks_are_counted_with_their_frames() {
    let frames = small_machine(1);
    let block = take(frames, Order::TWO).unwrap();
    frames.drain_all(&task());
    frames.drain_all(&task());
    let events = frames.zone_events(NORMAL);
    assert_eq!((events.refills, events.refilled), (1, BLOCKS_AT_ONCE * 4));
    assert_eq!(
        (events.drains, events.drained),
        (1, (BLOCKS_AT_ONCE - 1) * 4)
    );
    drop(block);
    assert_sound(frames);
}

#[test]
fn a_block_beyond_the_memory_is_reported() {
    let frames = small_machine(1);
    frames.free_raw(Pfn(1 << 31), Order::HUGE);
    assert_eq!(faults(frames), [FreeFault::Foreign]);
    assert_sound(frames);
}

#[test]
fn a_block_that_finds_no_place_goes_to_its_pageblock() {
    let frames = small_machine(1);
    let held = (0..40).map(|_| take(frames, Order::ONE).unwrap());
    let held = held.collect::<Vec<_>>();
    frames.drain_all(&task());
    // The later of two crossings is recorded first. Until the other one is, the limit does not
    // hold.
    frames.tell_block_cache_limits(NORMAL, false);
    drop(held);
    let blocks = frames.caches().cpus()[0].block_caches(NORMAL);
    assert_eq!(each(blocks).count(), ROOM);
    frames.tell_block_cache_limits(NORMAL, true);
    assert_eq!(assert_sound(frames).allocated, 0);
    frames.drain_all(&task());
    assert_sound(frames);
}

#[test]
fn a_free_past_the_cache_is_pinned() {
    let frames = small_machine(2);
    let order = Order::new(4).unwrap();
    let block = take(frames, order).unwrap();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sees = Rc::clone(&seen);
    let hook = at_steps(move || {
        let is_switched = on_cpu(0, || {
            frames.platform().switch_to(1);
            <Host as tidemark_sync::LocalIrq>::cpu() == 1
        });
        sees.borrow_mut().push(is_switched);
    });
    drop(block);
    drop(hook);
    let seen = seen.take();
    let pinned = seen.iter().rev().take_while(|&&is_switched| !is_switched);
    assert!(pinned.count() >= 3, "{seen:?}");
    assert_sound(frames);
}

#[test]
fn blocks_without_a_walk_are_counted_by_context() {
    let frames = small_machine(1);
    let request = Request::atomic(Order::COSTLY);
    drop(frames.alloc(&task(), &request).unwrap());
    for _ in 0..2 {
        drop(frames.alloc(&task(), &request).unwrap());
        drop(frames.alloc(&nmi(), &request).unwrap());
        drop(frames.alloc(&hard_irq(), &request).unwrap());
    }
    assert_eq!(frames.zone_events(NORMAL).allocs[3], [3, 2, 2]);
    assert_sound(frames);
}

#[test]
fn a_racing_double_free_of_a_block_is_not_handed_out_twice() {
    for order in [Order::ONE, Order::COSTLY, Order::HUGE] {
        let frames = small_machine(2);
        let request = Request::nowait(order).owned_by(test_owner(1));
        let plain = || frames.alloc(&task(), &request).unwrap();
        (0..2).for_each(|cpu| on_cpu(cpu, || drop(plain())));
        (0..2).for_each(|cpu| on_cpu(cpu, || drop(plain())));
        frames.drain_all(&task());
        let pfn = take(frames, order).unwrap().leak().pfn();
        let (pageblock, frame) = frames.pageblock_of(pfn).unwrap();
        let label = Entry::allocated(order, test_owner(1));
        for cpu in 0..2 {
            // The entry is as both CPUs have read it before the other one wrote it.
            pageblock.entry(frame).store(label.0, Ordering::Relaxed);
            on_cpu(cpu, || frames.free_raw(pfn, order));
        }
        let first = on_cpu(0, plain);
        assert_eq!(first.pfn(), pfn);
        let second = on_cpu(1, plain);
        assert_ne!(second.pfn(), pfn);
        assert_eq!(faults(frames), [FreeFault::CacheCorrupt]);
        drop((first, second));
        assert_sound(frames);
    }
}

#[test]
fn what_a_section_works_on_is_not_given_up() {
    let frames = small_machine(1);
    drop(take(frames, Order::HUGE));
    let cached = frames.zone_info(NORMAL).cached;
    assert!(cached >= 512);
    let cpu = frames.this_cpu(HERE);
    let inside = frames.enter().unwrap();
    assert!(!frames.give_up_blocks(NORMAL, cpu));
    assert!(frames.platform().gate(CpuId(0)).is_open());
    assert_eq!(frames.zone_info(NORMAL).cached, cached);
    frames.leave(inside, cpu);
    assert!(frames.give_up_blocks(NORMAL, cpu));
    assert_sound(frames);
}

#[test]
fn a_drain_that_comes_while_blocks_are_given_up_is_done() {
    let frames = small_machine(1);
    drained_at_each_step(frames, || {
        drop(take(frames, Order::COSTLY));
        let _pinned = Pinned::new(frames.platform());
        frames.give_up_blocks(NORMAL, frames.this_cpu(HERE));
    });
    assert_sound(frames);
}

/// The number that stands for "unknown" would be the last zone's cache, if used as an index.
#[test]
fn a_block_of_a_class_that_is_not_known_yet_is_walked_for() {
    for order in super::CACHED_ORDERS {
        let frames = bare_machine(1, 8);
        let last = zone(7, ZoneKind::Movable);
        for (block, zone) in [(32, NORMAL), (34, last)] {
            add_section(frames, block);
            frames
                .online_range(section_range(block), zone, &task())
                .unwrap();
        }
        let page = Owner::new(OwnerKind::PageCache, 1);
        drop(frames.alloc_in_zone(ContextKind::Task, last, order, page));
        assert!(frames.zone_info(last).cached >= order.frames());
        let block = frames.alloc(&task(), &Request::nowait(order)).unwrap();
        assert_eq!(frames.zone_of(block.pfn()), Some(NORMAL), "order {order}");
        drop(block);
        assert_sound(frames);
    }
}

#[test]
fn a_block_that_no_cache_is_for_goes_back_to_its_own_place() {
    let frames = small_machine(1);
    let order = Order::new(4).unwrap();
    let blocks = [take(frames, order).unwrap(), take(frames, order).unwrap()];
    let [first, second] = blocks;
    assert_eq!(second.pfn().0, first.pfn().0 + 16);
    drop(second);
    assert_eq!(assert_sound(frames).allocated, 16);
    drop(first);
    assert_sound(frames);
}

/// The later of two crossings may be recorded first. Even then, orders without caches have a limit
/// of 0.
#[test]
fn a_crossing_that_is_told_early_opens_no_cache_for_other_orders() {
    let frames = small_machine(1);
    let block = take(frames, Order::new(4).unwrap()).unwrap();
    let pfn = block.pfn();
    frames.tell_block_cache_limits(NORMAL, false);
    drop(block);
    assert_eq!(frames.frame_state(pfn), FrameState::Free);
    frames.tell_block_cache_limits(NORMAL, true);
    assert_sound(frames);
}

#[path = "blocks_race_tests.rs"]
mod races;
