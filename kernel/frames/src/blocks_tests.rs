use super::*;
use crate::{FrameState, testing::*, *};

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
    for order in super::ORDERS {
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
    for order in super::ORDERS.into_iter().take(3) {
        frames.drain_all(&task());
        let block = take(frames, order).unwrap();
        let cached = frames.zone_info(NORMAL).cached;
        assert_eq!(cached, (BATCH - 1) * order.frames());
        let more = (0..40).map(|_| take(frames, order).unwrap());
        drop(more.collect::<Vec<_>>());
        let blocks = frames.storage.cpus[0].block_caches(NORMAL);
        assert_eq!(each(blocks).count() as u32, most(order));
        assert_sound(frames);
        drop(block);
    }
}

#[test]
fn a_request_that_finds_nothing_else_has_what_its_cpu_keeps() {
    let frames = small_machine(1);
    for kept in super::ORDERS {
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
    let block = super::ORDERS.map(|order| take(frames, order).unwrap());
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
    let (area, frame) = frames.area_of(pfn).unwrap();
    let other = Entry::allocated(Order::HUGE, test_owner(2));
    area.entry(frame).store(other.0, Ordering::Relaxed);
    let next = take(frames, Order::HUGE).unwrap();
    assert_ne!(next.pfn(), pfn);
    let faults = std::mem::take(&mut *frames.platform.faults.lock().unwrap());
    let faults: Vec<_> = faults.iter().map(|error| error.fault).collect();
    assert_eq!(faults, [FreeFault::CacheCorrupt]);
    // It is somebody else's now.
    drop(next);
    frames.free_raw(pfn, Order::HUGE);
    assert_sound(frames);
}

#[test]
fn memory_leaves_although_a_cpu_kept_blocks_of_it() {
    let frames = small_machine(1);
    let kept = super::ORDERS.map(|order| take(frames, order).unwrap().pfn());
    let range = block_range(32);
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
    add_block(frames, 0);
    let zones = [ZoneKind::Dma, ZoneKind::Dma32].map(|kind| ZoneId::new(NodeId(0), kind));
    // The second pair is of both zones, by halves.
    for (zone, areas) in zones.into_iter().zip([0..3, 3..8]) {
        let range = PfnRange::new(Pfn(areas.start * 512), Pfn(areas.end * 512));
        frames.add_boot_range(range, zone).unwrap();
    }
    frames.finish_boot();
    for (zone, pairs) in zones.into_iter().zip([1, 2]) {
        for owner in [test_owner(1), Owner::new(OwnerKind::PageCache, 1)] {
            let take = || frames.alloc_in_zone(ContextKind::Task, zone, Order::MAX, owner);
            let all = std::iter::from_fn(take).collect::<Vec<_>>();
            assert_eq!(all.len(), pairs);
            for block in &all {
                let (area, _) = frames.area_of(block.pfn()).unwrap();
                assert_eq!(area.zone(), zone);
                assert_eq!(area.home(), area.upper().home());
            }
        }
    }
    assert_sound(frames);
}

#[test]
fn a_plain_block_comes_without_a_walk_and_is_counted() {
    let frames = small_machine(1);
    for order in super::ORDERS {
        let request = Request::nowait(order).owned_by(test_owner(1));
        // The first learns which zone serves the class, and fills the cache on the whole way.
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
    for (slot, order) in super::ORDERS.into_iter().enumerate() {
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
