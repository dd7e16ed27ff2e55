//! The order of an offline's steps, the frames that it names, and how long it tries.

use crate::{testing::*, *};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

const NORMAL: ZoneId = zone(0, ZoneKind::Normal);
const PAGE: Owner = Owner::new(OwnerKind::PageCache, 1);

fn take(frames: &'static TestFrames, order: u8, owner: Owner) -> TestBlock {
    let order = Order::new(order).unwrap();
    frames
        .alloc_in_zone(ContextKind::Task, NORMAL, order, owner)
        .unwrap()
}

fn offline(frames: &'static TestFrames, deadline_ns: u64) -> Result<OfflineStats, OfflineError> {
    frames.offline_range(section_range(32), deadline_ns, &task())
}

fn migrate_by(
    frames: &TestFrames,
    mut migrate: impl FnMut(Pfn) -> Result<(), MigrateError> + Send + 'static,
) {
    let hook = Box::new(move |pfn, _: Owner| migrate(pfn));
    *frames.platform().migrate.lock().unwrap() = Some(hook);
}

#[test]
fn a_frame_that_is_freed_at_any_step_of_an_offline_does_not_keep_the_range() {
    let frames = small_machine(2);
    let hook = at_steps(move || {
        let taken = frames.alloc_in_zone(ContextKind::HardIrq, NORMAL, Order::ZERO, PAGE);
        drop(taken);
    });
    let left = offline(frames, frames.platform().now_ns() + 1_000_000);
    drop(hook);
    assert!(left.is_ok(), "{left:?}");
    assert_sound(frames);
}

#[test]
fn pageblocks_that_a_refused_offline_leaves_wholly_free_are_seen_by_searches() {
    let frames = small_machine(1);
    let block = take(frames, 9, test_owner(1));
    frames.drain_all(&task());
    let free_huge = || format!("{:?}", frames.zone(NORMAL).free_huge);
    let before = free_huge();
    assert!(offline(frames, 0).is_err());
    assert_ne!(free_huge(), before, "a search would miss them");
    drop(block);
    assert_sound(frames);
}

#[test]
fn hot_plug_is_locked_while_memory_leaves_and_comes() {
    let frames = small_machine(1);
    let is_locked = move || frames.resizing_lock().is_held();
    let points = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&points);
    let hook = at_points(move |_| {
        assert!(is_locked());
        seen.fetch_add(1, Ordering::Relaxed);
    });
    offline(frames, 0).unwrap();
    assert!(!is_locked());
    frames
        .online_range(section_range(32), NORMAL, &task())
        .unwrap();
    frames.rebuild(&task());
    drop(hook);
    assert!(!is_locked() && points.load(Ordering::Relaxed) > 8);
    assert_sound(frames);
}

#[test]
fn the_first_frame_in_the_way_is_named_and_one_that_stays_before_one_that_may_go() {
    let frames = small_machine(1);
    let mut blocks = (0..3)
        .map(|_| take(frames, 0, Owner::NONE))
        .collect::<Vec<_>>();
    blocks.sort_by_key(TestBlock::pfn);
    let owner = Owner::NONE;
    let at = blocks[0].pfn();
    assert_eq!(
        offline(frames, 0),
        Err(OfflineError::Deadline { at, owner })
    );
    blocks[0].set_owner(PAGE);
    let owner = PAGE;
    assert_eq!(
        offline(frames, 0),
        Err(OfflineError::Deadline { at, owner })
    );
    let owner = test_owner(1);
    blocks[1..].iter().for_each(|block| block.set_owner(owner));
    let at = blocks[1].pfn();
    assert_eq!(
        offline(frames, 0),
        Err(OfflineError::Unmovable { at, owner })
    );
    drop(blocks);
    assert_sound(frames);
}

#[test]
fn a_scan_behind_the_deadline_ends_with_the_pageblock_in_which_something_is_in_the_way() {
    let frames = small_machine(1);
    let pages = (0..600).map(|_| take(frames, 0, PAGE)).collect::<Vec<_>>();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&calls);
    migrate_by(frames, move |pfn| {
        asked.lock().unwrap().push(pfn.0 / 512);
        Err(MigrateError::Busy)
    });
    assert!(offline(frames, 0).is_err());
    let calls = calls.lock().unwrap().clone();
    assert!(!calls.is_empty() && calls.iter().all(|pageblock| *pageblock == calls[0]));
    drop(pages);
    assert_sound(frames);
}

/// Makes these blocks movable, by their first frames.
fn movable(frames: &'static TestFrames, blocks: Vec<TestBlock>) -> Arc<Mutex<Vec<TestBlock>>> {
    let blocks = Arc::new(Mutex::new(blocks));
    let held = Arc::clone(&blocks);
    migrate_by(frames, move |pfn| {
        let mut held = held.lock().unwrap();
        let at = held.iter().position(|block| block.pfn() == pfn).unwrap();
        let request = Request::movable(held[at].order()).owned_by(PAGE);
        held[at] = frames.alloc(&task(), &request).unwrap();
        Ok(())
    });
    blocks
}

#[test]
fn one_scan_finds_every_page_and_counts_the_frames_of_each() {
    let frames = small_machine(1);
    let mut blocks = vec![take(frames, 3, PAGE)];
    // One page in 61 stays: so there is one in every word, and at the ends of some.
    let all = (0..2_000).map(|_| take(frames, 0, PAGE));
    blocks.extend(all.filter(|page| page.pfn().0 % 61 == 0));
    let count = blocks.len() as u64 - 1;
    let blocks = movable(frames, blocks);
    let stats = offline(frames, u64::MAX).unwrap();
    assert_eq!((stats.migrated, stats.scans), (count + 8, 2));
    assert_sound(frames);
    blocks.lock().unwrap().clear();
}

#[test]
fn what_was_moved_is_looked_at_again_before_the_range_leaves() {
    let frames = small_machine(1);
    let page = Mutex::new(Some(take(frames, 0, PAGE)));
    // Its owner says that it has moved, and frees the frame a moment later.
    migrate_by(frames, |_| Ok(()));
    let hook = at_points(move |point| {
        if point == Point::OfflineScanned {
            page.lock().unwrap().take();
        }
    });
    assert_eq!(offline(frames, u64::MAX).unwrap().scans, 2);
    drop(hook);
    assert_sound(frames);
}

#[test]
fn an_offline_lets_time_pass_while_it_waits() {
    let frames = small_machine(1);
    let block = take(frames, 0, Owner::NONE);
    let until = frames.platform().now_ns() + 10_000;
    assert!(offline(frames, until).is_err());
    assert!(frames.platform().relaxes.load(Ordering::Relaxed) > 0);
    drop(block);
    assert_sound(frames);
}

/// An online adds its frames to the sizes before any is free, so no zone has more free than it
/// manages.
#[test]
fn no_zone_has_more_free_than_it_manages_at_any_step_of_an_online() {
    let frames = small_machine(1);
    offline(frames, 0).unwrap();
    let hook = at_steps(move || frames.validate().unwrap());
    frames
        .online_range(section_range(32), NORMAL, &task())
        .unwrap();
    drop(hook);
    assert_sound(frames);
}

/// Checks the watermarks of each zone, computed by the formulas from its present frames.
#[test]
fn watermarks_and_caches_follow_the_frames_that_are_there() {
    let frames = small_machine(2);
    let movable = zone(0, ZoneKind::Movable);
    add_section(frames, 33);
    frames
        .online_range(section_range(33), movable, &task())
        .unwrap();
    let zones = frames.zones().collect::<Vec<_>>();
    let lowmem = zones.iter().filter(|zone| zone.id != movable);
    let lowmem = lowmem.map(|zone| zone.managed).sum();
    for zone in zones {
        let kind = zone.id.kind();
        let watermarks = crate::zone::watermark::watermarks(kind, zone.managed, lowmem);
        assert_eq!(
            (zone.min, zone.low, zone.high),
            (watermarks.min, watermarks.low, watermarks.high)
        );
        let cache = frames.cache_info(zone.id, CpuId(1)).unwrap();
        let batch = crate::zone::watermark::batch(zone.managed);
        assert_eq!(cache.batch, batch);
        let places = crate::zone::policy::CAPACITY as u32;
        let high =
            crate::zone::watermark::cache_high(zone.managed, watermarks.low, 2, batch, places);
        assert_eq!(cache.high, high);
    }
    let of_dma32 = frames.zone_info(zone(0, ZoneKind::Dma32)).reserve;
    assert_eq!(of_dma32, [0, 0, 32_768 / 256, 65_536 / 256]);
    assert_sound(frames);
}
