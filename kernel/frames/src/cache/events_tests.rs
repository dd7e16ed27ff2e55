use crate::testing::*;
use crate::*;

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);

#[test]
fn allocations_are_counted_by_order_and_by_who_asked() {
    let frames = small_machine(2);
    let order = Order::COSTLY;
    drop(frames.alloc(&task(), &Request::kernel(order)).unwrap());
    for cpu in 0..2 {
        let request = Request::atomic(Order::ZERO);
        on_cpu(cpu, || drop(frames.alloc(&hard_irq(), &request).unwrap()));
    }
    drop(frames.alloc(&nmi(), &Request::atomic(Order::MAX)).unwrap());
    let events = frames.zone_events(NORMAL);
    assert_eq!(events.allocs[3], [1, 0, 0]);
    assert_eq!(events.allocs[0], [0, 2, 0]);
    assert_eq!(events.allocs[10], [0, 0, 1]);
    assert_eq!(events.allocated(), 4);
    assert_eq!(events.fallbacks, [0; DISTANCES]);
    assert_eq!((events.refills, events.failures), (3, [0; CONTEXTS]));
}

#[test]
fn refills_and_drains_are_counted_with_their_frames() {
    let frames = small_machine(1);
    let block = frames.alloc_in_zone(ContextKind::Task, NORMAL, Order::ZERO, test_owner(1));
    drop(block);
    let filled = u64::from(frames.zone(NORMAL).cache_batch()) + 1;
    frames.drain_all(&task());
    frames.drain_all(&task());
    let events = frames.zone_events(NORMAL);
    assert_eq!((events.refills, events.refilled), (1, filled));
    assert_eq!((events.drains, events.drained), (1, filled));
}

#[test]
fn fallbacks_are_counted_by_the_entries_passed_over_and_failures_where_they_began() {
    let frames = small_machine(1);
    let take_all = |kind| {
        let id = zone(0, kind);
        let take = || frames.alloc_in_zone(ContextKind::Task, id, Order::ZERO, test_owner(1));
        std::iter::from_fn(take).collect::<Vec<_>>()
    };
    let request = Request::atomic(Order::ZERO).with(Gfp::NOWARN);
    let mut held = Vec::new();
    for (kind, next, distance) in [
        (ZoneKind::Normal, ZoneKind::Dma32, 0),
        (ZoneKind::Dma32, ZoneKind::Dma, 1),
    ] {
        held.push(take_all(kind));
        drop(frames.alloc(&nmi(), &request).unwrap());
        let mut expected = [0; DISTANCES];
        expected[distance] = 1;
        assert_eq!(frames.zone_events(zone(0, next)).fallbacks, expected);
    }
    held.push(take_all(ZoneKind::Dma));
    frames.alloc(&nmi(), &request).unwrap_err();
    frames.alloc(&task(), &request).unwrap_err();
    assert_eq!(frames.zone_events(NORMAL).failures, [1, 0, 1]);
    frames.alloc(&nmi(), &request.with(Gfp::DMA)).unwrap_err();
    let of_dma = frames.zone_events(zone(0, ZoneKind::Dma));
    assert_eq!(of_dma.failures, [0, 0, 1]);
    drop(held);
    assert_sound(frames);
}
