use crate::testing::*;
use crate::*;
use std::sync::{Arc, Mutex, atomic::Ordering};

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);

fn normal(frames: &'static TestFrames, order: Order, owner: Owner) -> TestBlock {
    frames
        .alloc_in_zone(ContextKind::Task, NORMAL, order, owner)
        .unwrap()
}

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn deadline(frames: &TestFrames) -> u64 {
    frames.platform().now_ns() + 100_000
}

#[test]
fn an_unused_range_leaves_and_comes_back() {
    let frames = small_machine(2);
    let before = assert_sound(frames);
    let range = section_range(32);
    for cycle in 1..4 {
        let stats = frames
            .offline_range(range, deadline(frames), &task())
            .unwrap();
        assert_eq!((stats.frames, stats.zone_emptied), (range.len(), true));
        assert_eq!(frames.frame_state(range.start), FrameState::Absent);
        assert_eq!(frames.rebuild_counter() % 2, 0);
        assert_eq!(assert_sound(frames).managed, before.managed - range.len());
        let lists = frames.zonelist(NodeId(0), ListKind::Fallback);
        assert!(lists.iter().all(|zone| zone != NORMAL));
        let stats = frames.online_range(range, NORMAL, &task()).unwrap();
        assert_eq!((stats.frames, stats.zone_was_empty), (range.len(), true));
        let lists = frames.zonelist(NodeId(0), ListKind::Fallback);
        assert_eq!(lists.iter().next(), Some(NORMAL));
        assert_eq!(assert_sound(frames), before);
        assert_eq!(frames.rebuild_stats().count, 2 + 2 * cycle);
    }
}

#[test]
fn a_part_of_a_zone_leaves_without_a_rebuild() {
    let frames = small_machine(1);
    let whole = section_range(32);
    let half = PfnRange::new(whole.start, Pfn(whole.start.0 + whole.len() / 2));
    let rebuilds = frames.rebuild_stats().count;
    let stats = frames
        .offline_range(half, deadline(frames), &task())
        .unwrap();
    assert!(!stats.zone_emptied);
    assert_eq!(frames.rebuild_stats().count, rebuilds);
    assert_eq!(frames.zone_info(NORMAL).managed, whole.len() / 2);
    assert_sound(frames);
}

#[test]
fn what_lies_in_caches_of_other_cpus_does_not_keep_a_range() {
    let frames = small_machine(4);
    for cpu in 0..4 {
        let frame = on_cpu(cpu, || normal(frames, Order::ZERO, test_owner(1)));
        on_cpu(cpu, || drop(frame));
    }
    assert!(frames.zone_info(NORMAL).cached > 0);
    frames
        .offline_range(section_range(32), deadline(frames), &task())
        .unwrap();
    assert_eq!(frames.zone_info(NORMAL).cached, 0);
    assert_sound(frames);
}

#[test]
fn an_unmovable_frame_is_named_and_everything_undone() {
    for size in [0, 3, 8, 9, 10].map(order) {
        let frames = small_machine(2);
        let before = frames.zone_info(NORMAL);
        let list = frames.zonelist(NodeId(0), ListKind::Fallback);
        let block = normal(frames, size, test_owner(77));
        let refused = frames.offline_range(section_range(32), deadline(frames), &task());
        assert_eq!(
            refused,
            Err(OfflineError::Unmovable {
                at: block.pfn(),
                owner: test_owner(77)
            })
        );
        assert_sound(frames);
        assert_eq!(frames.zonelist(NodeId(0), ListKind::Fallback), list);
        drop(block);
        frames.drain_all(&task());
        assert_eq!(
            frames.zone_info(NORMAL),
            ZoneInfo {
                cached: 0,
                free: before.managed,
                ..before
            }
        );
        frames
            .offline_range(section_range(32), deadline(frames), &task())
            .unwrap();
        assert_sound(frames);
    }
}

#[test]
fn a_frame_without_an_owner_is_waited_for() {
    let frames = small_machine(1);
    let block = normal(frames, Order::ZERO, Owner::NONE);
    let at = block.pfn();
    let refused = frames.offline_range(section_range(32), deadline(frames), &task());
    let owner = Owner::NONE;
    assert_eq!(refused, Err(OfflineError::Deadline { at, owner }));
    let held = Mutex::new(Some(block));
    let scans = Mutex::new(0);
    let _hook = at_points(move |point| {
        if point == Point::OfflineScanned {
            *scans.lock().unwrap() += 1;
            if *scans.lock().unwrap() == 3 {
                held.lock().unwrap().take();
            }
        }
    });
    let stats = frames.offline_range(section_range(32), deadline(frames), &task());
    assert_eq!(stats.unwrap().scans, 4);
    assert_sound(frames);
}

#[test]
fn movable_frames_are_moved_and_those_that_are_busy_tried_again() {
    let frames = small_machine(1);
    let page = |number| Owner::new(OwnerKind::PageCache, number);
    let pages = (0..300).map(|number| normal(frames, Order::ZERO, page(number)));
    let pages = Arc::new(Mutex::new(pages.map(Some).collect::<Vec<_>>()));
    let cache = Arc::clone(&pages);
    let mut calls = 0;
    *frames.platform().migrate.lock().unwrap() = Some(Box::new(move |pfn, owner| {
        calls += 1;
        if calls % 3 == 0 {
            return Err(MigrateError::Busy);
        }
        let old = cache.lock().unwrap()[owner.number() as usize]
            .take()
            .unwrap();
        assert_eq!(old.pfn(), pfn);
        let request = Request::movable(Order::ZERO).owned_by(owner);
        let new = frames.alloc(&task(), &request).unwrap();
        cache.lock().unwrap()[owner.number() as usize] = Some(new);
        Ok(())
    }));
    let stats = frames
        .offline_range(section_range(32), u64::MAX, &task())
        .unwrap();
    assert_eq!(stats.migrated, 300);
    assert!(stats.scans > 1);
    let census = assert_sound(frames);
    assert_eq!(census.owned(OwnerKind::PageCache), 300);
    for page in pages.lock().unwrap().iter().flatten() {
        assert!(!section_range(32).contains(page.pfn()));
    }
    pages.lock().unwrap().clear();
}

#[test]
fn nothing_is_handed_out_of_a_range_that_goes_and_frees_into_it_stay() {
    let frames = small_machine(1);
    let block = Mutex::new(Some(normal(frames, Order::ZERO, Owner::NONE)));
    let _hook = at_points(move |point| {
        let in_window = point == Point::OfflineScanned || point == Point::OfflineLeft;
        if in_window {
            block.lock().unwrap().take();
            assert_eq!(frames.zone_info(NORMAL).free, 0);
            assert_eq!(frames.zone_info(NORMAL).cached, 0);
            for size in [0, 4, 9, 10].map(order) {
                assert!(
                    frames
                        .alloc_in_zone(ContextKind::Task, NORMAL, size, test_owner(1))
                        .is_none()
                );
                let other = frames.alloc(&task(), &Request::kernel(size)).unwrap();
                assert!(!section_range(32).contains(other.pfn()));
            }
        }
    });
    frames
        .offline_range(section_range(32), deadline(frames), &task())
        .unwrap();
    assert_sound(frames);
}

#[test]
fn ranges_that_cannot_leave_or_come_are_refused_for_the_right_reason() {
    let frames = small_machine(1);
    let offline = |start, end| {
        let range = PfnRange::new(Pfn(start), Pfn(end));
        frames
            .offline_range(range, deadline(frames), &task())
            .unwrap_err()
    };
    assert_eq!(offline(0x1000, 0x1000), OfflineError::Misaligned);
    assert_eq!(offline(0x1000, 0x1200), OfflineError::Misaligned);
    assert_eq!(offline(0, 0x400), OfflineError::Hole { at: Pfn(0) });
    let last = SECTION_FRAMES as u64;
    let hole = OfflineError::Hole { at: Pfn(last - 77) };
    assert_eq!(offline(last - 0x400, last), hole);
    assert_eq!(
        offline(0xc00, 0x1400),
        OfflineError::TwoZones { at: Pfn(0x1000) }
    );
    let online = |range, zone| frames.online_range(range, zone, &task()).unwrap_err();
    let at = section_range(32).start;
    assert_eq!(
        online(section_range(32), NORMAL),
        OnlineError::Present { at }
    );
    let at = section_range(33).start;
    assert_eq!(
        online(section_range(33), NORMAL),
        OnlineError::NoSection { at }
    );
    let far = ZoneId::new(NodeId(3), ZoneKind::Normal);
    assert_eq!(online(section_range(33), far), OnlineError::NoNode);
    assert_sound(frames);
}

#[test]
fn a_range_may_come_back_in_another_zone() {
    let frames = small_machine(1);
    frames
        .offline_range(section_range(32), deadline(frames), &task())
        .unwrap();
    let movable = zone(0, ZoneKind::Movable);
    frames
        .online_range(section_range(32), movable, &task())
        .unwrap();
    let unmovable = frames
        .alloc(&task(), &Request::kernel(Order::ZERO))
        .unwrap();
    assert!(!section_range(32).contains(unmovable.pfn()));
    let page = frames
        .alloc(&task(), &Request::movable(Order::ZERO))
        .unwrap();
    assert_eq!(frames.zone_of(page.pfn()), Some(movable));
    drop((unmovable, page));
    assert_sound(frames);
}

#[test]
fn a_search_that_looked_before_a_pageblock_changed_zones_gives_its_reservation_back() {
    let frames = small_machine(1);
    let (pageblock, _) = frames.pageblock_of(section_range(32).start).unwrap();
    let movable = zone(0, ZoneKind::Movable);
    frames
        .offline_range(section_range(32), deadline(frames), &task())
        .unwrap();
    frames
        .online_range(section_range(32), movable, &task())
        .unwrap();
    let before = assert_sound(frames);
    assert!(frames.reserve_for_test(pageblock, NORMAL, 8).is_none());
    assert!(frames.reserve_for_test(pageblock, movable, 8).is_some());
    pageblock.core().unreserve(8);
    assert_eq!(assert_sound(frames), before);
    assert_eq!(frames.platform().relaxes.load(Ordering::Relaxed), 0);
}

/// A word that ends with free frames does not end the scan: pages in the next word are moved, too.
#[test]
fn one_scan_moves_every_page() {
    let frames = small_machine(1);
    let mut parts = vec![normal(frames, order(7), test_owner(1))];
    let start = parts[0].pfn().0;
    let kept = [4, 65, 127].map(|frame| start + frame);
    let mut pages = Vec::new();
    while let Some(part) = parts.pop() {
        let first = part.pfn().0;
        let end = first + part.order().frames();
        if !kept.iter().any(|page| (first..end).contains(page)) {
            drop(part);
        } else if part.order() > Order::ZERO {
            let (lower, upper) = part.split().unwrap();
            parts.extend([lower, upper]);
        } else {
            part.set_owner(Owner::new(OwnerKind::PageCache, pages.len() as u32));
            pages.push(Some(part));
        }
    }
    assert_eq!(pages.len(), kept.len());
    let pages = Arc::new(Mutex::new(pages));
    let moved = Arc::clone(&pages);
    *frames.platform().migrate.lock().unwrap() = Some(Box::new(move |_, owner| {
        let request = Request::movable(Order::ZERO).owned_by(owner);
        let new = frames.alloc(&task(), &request).unwrap();
        moved.lock().unwrap()[owner.number() as usize].replace(new);
        Ok(())
    }));
    let stats = frames
        .offline_range(section_range(32), u64::MAX, &task())
        .unwrap();
    assert_eq!((stats.migrated, stats.scans), (3, 2));
    pages.lock().unwrap().clear();
    assert_sound(frames);
}
