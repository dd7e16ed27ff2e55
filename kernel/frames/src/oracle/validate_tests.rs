//! Each inconsistency is planted, reported by the oracle under its name, and undone.

use crate::{
    base::owner::Entry,
    pageblock::{bits::Isolation, flags::PageblockFlags, migrate_type::MigrateType},
    testing::*,
    *,
};
use tidemark_sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

const NORMAL: ZoneId = zone(0, ZoneKind::Normal);
const DMA32: ZoneId = zone(0, ZoneKind::Dma32);
/// An order without caches.
const UNCACHED: Order = Order::new(4).unwrap();

fn take(frames: &'static TestFrames, order: Order) -> TestBlock {
    let block = frames.alloc_in_zone(ContextKind::Task, NORMAL, order, test_owner(1));
    block.unwrap()
}

/// Demands that the oracle reports this of a frame.
#[track_caller]
fn assert_told(frames: &TestFrames, what: &'static str, at: Pfn) {
    let found = frames.validate_at_rest();
    assert_eq!(found, Err(Inconsistency::Frame { what, at }));
}

/// Demands that the oracle reports a zone's counter as wrong.
#[track_caller]
fn assert_miscounted(frames: &TestFrames, zone: ZoneId, name: &str) {
    let found = frames.validate_at_rest();
    let is_told = matches!(
        found,
        Err(Inconsistency::Count { what, zone: id, says, counted })
            if what == name && id == zone && says != counted
    );
    assert!(is_told, "{name}: {found:?}");
}

fn entry_of(frames: &'static TestFrames, pfn: Pfn) -> &'static AtomicU32 {
    let (pageblock, frame) = frames.pageblock_of(pfn).unwrap();
    pageblock.entry(frame)
}

/// Returns the word with a frame's bit, and the bit.
fn bit_of(frames: &'static TestFrames, pfn: Pfn) -> (&'static AtomicU64, u64) {
    let (pageblock, frame) = frames.pageblock_of(pfn).unwrap();
    (
        &pageblock.core().bits.0[frame as usize / 64],
        1 << (frame % 64),
    )
}

/// Demands that the oracle reports this of a frame while an entry, its own or another one's, is
/// changed.
#[track_caller]
fn assert_told_of_entry(
    frames: &'static TestFrames,
    (at, entry): (Pfn, Entry),
    what: &'static str,
    told_at: Pfn,
) {
    let before = entry_of(frames, at).swap(entry.0, Relaxed);
    assert_told(frames, what, told_at);
    entry_of(frames, at).store(before, Relaxed);
    assert_sound(frames);
}

#[test]
fn a_cached_frame_says_so_and_is_in_one_cache_of_its_zone_once() {
    let frames = small_machine(1);
    drop(take(frames, Order::ZERO));
    let cache = |zone| {
        &frames.caches().cpus()[0].pcp[PageblockFlags::cache_of(zone, MigrateType::Unmovable)]
    };
    let (pfn, _) = cache(NORMAL).top().unwrap();
    let what = "in a cache, but its entry does not say so";
    assert_told_of_entry(frames, (pfn, Entry::FREE), what, pfn);
    cache(NORMAL).pop();
    cache(DMA32).push(pfn);
    assert_told(frames, "in the cache of another zone", pfn);
    cache(DMA32).pop();
    cache(NORMAL).push(pfn);
    assert_sound(frames);
    cache(NORMAL).push(pfn);
    assert_told(frames, "twice in a cache", pfn);
    cache(NORMAL).pop();
    assert_sound(frames);
}

#[test]
fn a_cached_block_says_so_and_is_in_one_cache_of_its_zone_once() {
    let frames = small_machine(1);
    let order = Order::COSTLY;
    drop(take(frames, order));
    let cache = |zone| {
        let caches = frames.caches().cpus()[0].block_caches(zone);
        let mut caches = crate::cache::blocks::with_orders(caches);
        caches.find(|(of, _)| *of == order).unwrap().1
    };
    let (pfn, _) = cache(NORMAL).top().unwrap();
    let what = "a cached block, but its entry does not say so";
    // With another order it would be another block.
    assert_told_of_entry(frames, (pfn, Entry::cached(Order::TWO)), what, pfn);
    cache(NORMAL).pop();
    cache(DMA32).push(pfn);
    assert_told(frames, "in the cache of another zone", pfn);
    cache(DMA32).pop();
    cache(NORMAL).push(pfn);
    assert_sound(frames);
    cache(NORMAL).push(pfn);
    assert_told(frames, "twice in a cache", pfn);
    cache(NORMAL).pop();
    assert_sound(frames);
}

#[test]
fn at_rest_no_pageblock_is_isolated_or_kept_out_of_the_caches() {
    let frames = small_machine(1);
    let (pageblock, _) = frames.pageblock_of(section_range(32).start).unwrap();
    for by in [Isolation::Offline(resizing()), Isolation::Compaction] {
        pageblock.core().isolate(by).unwrap();
        let what = "isolated, but nobody is going offline or compacting";
        assert_told(frames, what, pageblock.start());
        pageblock.core().unisolate(by).unwrap();
    }
    pageblock.keep_out_of_caches(true);
    let what = "kept out of the caches, but nobody compacts";
    assert_told(frames, what, pageblock.start());
    pageblock.keep_out_of_caches(false);
    assert_sound(frames);
}

#[test]
fn bits_and_entries_of_an_open_pageblock_agree() {
    let frames = small_machine(1);
    let blocks = [take(frames, UNCACHED), take(frames, UNCACHED)];
    let [even, odd] = blocks.each_ref().map(|block| block.pfn());
    assert_eq!((even.0 % 32, odd.0), (0, even.0 + 16));
    let free = Pfn(even.0 + 511 - even.0 % 512);
    assert_eq!(frames.frame_state(free), FrameState::Free);
    let allocated = |order| Entry::allocated(order, test_owner(1));
    let told = |at, entry, what, told_at| assert_told_of_entry(frames, (at, entry), what, told_at);
    told(odd, Entry::FREE, "not free, but without an entry", odd);
    let what = "free, but its entry says otherwise";
    told(free, allocated(Order::ZERO), what, free);
    told(free, Entry::CACHED, what, free);
    told(free, Entry::ABSENT, what, free);
    let none = Entry(Entry::CACHED.0 | 15 << 26);
    told(odd, none, "in use with an order that is none", odd);
    let what = "in use with an order that does not fit";
    told(odd, allocated(Order::new(5).unwrap()), what, odd);
    told(even, allocated(Order::HUGE), what, even);
    let (what, inside) = ("inside a block, but with books of its own", Pfn(odd.0 + 3));
    told(inside, allocated(Order::ZERO), what, inside);
    let (word, bit) = bit_of(frames, inside);
    word.fetch_and(!bit, Relaxed);
    assert_told(frames, what, inside);
    word.fetch_or(bit, Relaxed);
    drop(blocks);
    assert_sound(frames);
}

#[test]
fn a_pageblocks_count_is_the_number_of_its_zero_bits() {
    let frames = small_machine(1);
    let (pageblock, _) = frames.pageblock_of(section_range(32).start).unwrap();
    assert!(frames.reserve_for_test(pageblock, NORMAL, 8).is_some());
    let what = "its pageblock's count is not the number of its zero bits";
    assert_told(frames, what, pageblock.start());
    pageblock.core().unreserve(8);
    assert_sound(frames);
}

#[test]
fn a_wholly_taken_pageblock_has_neither_bits_nor_entries_and_one_owner() {
    let frames = small_machine(1);
    for order in [Order::HUGE, Order::MAX] {
        let block = take(frames, order);
        let at = block.pfn();
        let (word, bit) = bit_of(frames, Pfn(at.0 + 70));
        word.fetch_or(bit, Relaxed);
        assert_told(frames, "wholly taken, but with bits or a count", at);
        word.fetch_and(!bit, Relaxed);
        let entry = Entry::allocated(Order::ZERO, test_owner(1));
        let what = "wholly taken, but with entries inside";
        assert_told_of_entry(frames, (Pfn(at.0 + 70), entry), what, at);
        let what = "wholly taken, but by nobody";
        assert_told_of_entry(frames, (at, Entry::FREE), what, at);
        assert_told_of_entry(frames, (at, entry), what, at);
        if order == Order::MAX {
            let upper = Pfn(at.0 + 512);
            let pair = Entry::allocated(Order::MAX, test_owner(1));
            assert_told_of_entry(frames, (upper, pair), what, upper);
        }
    }
    frames.drain_all(&task());
    assert_sound(frames);
}

#[test]
fn counters_are_what_is_counted() {
    let frames = normal_machine(1, 2);
    drop(take(frames, Order::ZERO));
    let zone = frames.zone(NORMAL);
    zone.add_free(1);
    assert_miscounted(frames, NORMAL, "free");
    zone.subtract_free(1);
    zone.grow(1, resizing());
    assert_miscounted(frames, NORMAL, "managed");
    zone.shrink(1, resizing());
    let cache =
        &frames.caches().cpus()[0].pcp[PageblockFlags::cache_of(NORMAL, MigrateType::Unmovable)];
    let pfn = cache.pop().unwrap();
    assert_miscounted(frames, NORMAL, "cached");
    cache.push(pfn);
    assert!(zone.grow_high_atomic());
    assert_miscounted(frames, NORMAL, "high-atomic");
    zone.shrink_high_atomic();
    assert_sound(frames);
}

#[test]
fn watermarks_reserves_and_floors_are_those_of_the_sizes() {
    let frames = normal_machine(1, 2);
    let zone = frames.zone(NORMAL);
    let right = zone.policy();
    for name in ["min", "low", "high", "reserve"] {
        let mut wrong = right;
        match name {
            "min" => wrong.watermarks.min -= 1,
            "low" => wrong.watermarks.low -= 1,
            "high" => wrong.watermarks.high += 1,
            _ => wrong.reserve[3] += 1,
        }
        zone.set_policy(&wrong, resizing());
        assert_miscounted(frames, NORMAL, name);
        zone.set_policy(&right, resizing());
    }
    let floor = zone.set_floor(0, 1 << 20);
    assert_miscounted(frames, NORMAL, "floor");
    zone.set_floor(0, floor);
    assert_sound(frames);
}

#[test]
fn rooms_and_the_words_above_low_follow_the_watermarks() {
    let frames = small_machine(1);
    type Tell = fn(&TestFrames, bool);
    let tells: [Tell; 2] = [
        |frames, is_below| frames.tell_cache_limits(NORMAL, is_below),
        |frames, is_below| frames.tell_block_cache_limits(NORMAL, is_below),
    ];
    for tell in tells {
        tell(frames, true);
        let found = frames.validate_at_rest();
        assert_eq!(found, Err(Inconsistency::CacheLimit { zone: NORMAL }));
        tell(frames, false);
        assert_sound(frames);
    }
    for highest in [ZoneKind::Normal, ZoneKind::Movable] {
        frames.zone_table().flip_above_low(highest, NORMAL);
        let zone = NORMAL;
        let found = frames.validate_at_rest();
        assert_eq!(found, Err(Inconsistency::AboveLow { zone, highest }));
        frames.zone_table().flip_above_low(highest, NORMAL);
    }
    assert_sound(frames);
}

#[test]
fn lists_are_those_of_the_order_of_nodes_and_the_populated_zones() {
    let frames = two_nodes(1);
    let told = |node, entry| {
        let what = "not the zone that belongs here";
        let node = NodeId(node);
        let found = frames.validate_at_rest();
        assert_eq!(found, Err(Inconsistency::List { what, node, entry }));
    };
    let mut order = [None; MAX_NODES];
    order[0] = Some(NodeId(1));
    frames.lists().nodes()[1].set_order(&order);
    // The list goes on where it should end.
    told(1, 1);
    order[1] = Some(NodeId(0));
    order.swap(0, 1);
    frames.lists().nodes()[1].set_order(&order);
    told(1, 0);
    frames.set_topology(&Topology::flat(NodeMask(0b11)));
    assert_sound(frames);
}

#[test]
fn the_oracle_counts_nothing_while_something_is_under_way() {
    let frames = small_machine(1);
    let busy = Err(Inconsistency::NotAtRest);
    let resizing = frames.lock_resizing(&task());
    assert_eq!(frames.validate_at_rest(), busy);
    drop(resizing);
    frames.compacting().store(1, Relaxed);
    assert_eq!(frames.validate_at_rest(), busy);
    frames.compacting().store(0, Relaxed);
    frames.turn_caches_off(NORMAL);
    assert_eq!(frames.validate_at_rest(), busy);
    frames.turn_caches_on(NORMAL);
    assert_sound(frames);
}

/// The counter alone says that lists are being written, whether the hot-plug lock is held or not.
#[test]
fn the_oracle_counts_nothing_while_lists_are_written() {
    let frames = bare_machine(1, 1);
    add_section(frames, 0);
    frames.add_boot_range(section_range(0), DMA32).unwrap();
    let hook = at_points(move |point| {
        let found = frames.validate_at_rest();
        let is_odd = matches!(
            point,
            Point::RebuildOdd | Point::RebuildEntry | Point::RebuildEven
        );
        assert_eq!(found == Err(Inconsistency::NotAtRest), is_odd, "{point:?}");
    });
    frames.refresh_policy(resizing());
    frames.build_zonelists(resizing());
    drop(hook);
    assert_sound(frames);
}

#[test]
fn at_any_time_watermarks_are_in_order_and_no_more_is_free_than_there_is() {
    let frames = normal_machine(1, 1);
    let zone = frames.zone(NORMAL);
    assert_eq!(frames.validate(), Ok(()));
    let told = |name: &str| {
        let found = frames.validate();
        let is_told = matches!(found, Err(Inconsistency::Count { what, .. }) if what == name);
        assert!(is_told, "{name}: {found:?}");
    };
    let right = zone.policy();
    for (min, low) in [
        (right.watermarks.low + 1, right.watermarks.low),
        (right.watermarks.min, right.watermarks.high + 1),
    ] {
        let mut wrong = right;
        (wrong.watermarks.min, wrong.watermarks.low) = (min, low);
        zone.set_policy(&wrong, resizing());
        told("watermarks out of order");
        zone.set_policy(&right, resizing());
    }
    // Frames under way may be counted twice for a moment.
    let in_flight = 2 * 512;
    zone.add_free(in_flight);
    assert_eq!(frames.validate(), Ok(()));
    zone.add_free(1);
    told("more free than managed");
    zone.subtract_free(in_flight + 1);
    assert_eq!(frames.validate(), Ok(()));
    assert_sound(frames);
}

/// Entries of an earlier, longer list lie behind the end of a list.
#[test]
fn what_lies_behind_the_end_of_a_list_is_not_looked_at() {
    let frames = small_machine_of(1, Variant::Snapshot);
    add_section(frames, 33);
    let movable = zone(0, ZoneKind::Movable);
    frames
        .online_range(section_range(33), movable, &task())
        .unwrap();
    // One of the two sides is written again, so two zones leave.
    for block in [33, 32] {
        frames
            .offline_range(section_range(block), u64::MAX, &task())
            .unwrap();
        assert_sound(frames);
    }
    let side = frames.lists().published().current().side();
    let list = frames.lists().nodes()[0].list(side, ListKind::Fallback);
    assert!(list.is_exactly(2, None) && !list.is_exactly(3, None));
}
