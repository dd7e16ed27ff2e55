use super::*;
use crate::testing::*;
use crate::*;

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);
const ORDER: Order = Order::COSTLY;

/// Makes one CPU and Normal of 256 MiB, with two pageblocks in the reserve at most, and takes it
/// down to `free` of its watermarks.
fn pressed(free: impl Fn(&ZoneInfo) -> u64) -> (&'static TestFrames, Vec<TestBlock>) {
    let frames = bare_machine(1, 1);
    for block in [32, 33] {
        add_section(frames, block);
        frames
            .online_range(section_range(block), NORMAL, &task())
            .unwrap();
    }
    let mut held = Vec::new();
    let left = free(&frames.zone_info(NORMAL));
    for order in [Order::HUGE, ORDER, Order::ZERO] {
        while frames.zone_info(NORMAL).free >= left + order.frames() {
            held.extend(frames.alloc_in_zone(ContextKind::Task, NORMAL, order, test_owner(1)));
            frames.drain_all(&task());
        }
    }
    (frames, held)
}

fn atomic(frames: &'static TestFrames) -> Result<TestBlock, AllocError> {
    let request = Request::atomic(ORDER)
        .with(Gfp::NOWARN)
        .owned_by(test_owner(2));
    frames.alloc(&hard_irq(), &request)
}

fn kept(frames: &TestFrames) -> u64 {
    frames.zone_info(NORMAL).high_atomic
}

#[test]
fn an_atomic_block_on_the_slow_path_puts_its_pageblock_into_the_reserve_up_to_a_hundredth() {
    let (frames, held) = pressed(|zone| zone.low);
    let single = frames
        .alloc(&hard_irq(), &Request::atomic(Order::ZERO))
        .unwrap();
    let waits = Request::kernel(ORDER).with(Gfp::HIGH | Gfp::NORETRY);
    let waits = frames.alloc(&task(), &waits).unwrap();
    assert_eq!(kept(frames), 0);
    let blocks = std::iter::from_fn(|| atomic(frames).ok()).collect::<Vec<_>>();
    assert!(blocks.len() > 30);
    assert_eq!(kept(frames), 1024);
    assert_sound(frames);
    drop((held, single, waits, blocks));
    assert_sound(frames);
}

#[test]
fn what_is_kept_is_not_free_for_others_and_comes_first_for_those_it_is_kept_for() {
    let (frames, held) = pressed(|zone| zone.low);
    let first = atomic(frames).unwrap();
    let pageblock = first.pfn().0 / 512;
    assert_eq!(kept(frames), 512);
    let in_pageblock = |block: &TestBlock| block.pfn().0 / 512 == pageblock;
    // The zone is below its watermark without the reserve's frames, and above it with them.
    let nowait = Request::nowait(Order::ZERO);
    let others = std::iter::from_fn(|| frames.alloc(&task(), &nowait).ok());
    let others = others.collect::<Vec<_>>();
    assert!(!others.iter().any(in_pageblock));
    let info = frames.zone_info(NORMAL);
    let unusable = u64::from(frames.pageblock(pageblock).unwrap().core().state().free());
    assert_eq!(info.free - unusable, info.min);
    let second = atomic(frames).unwrap();
    assert!(in_pageblock(&second));
    drop((held, first, others, second));
    assert_sound(frames);
}

#[test]
fn single_frames_of_the_reserve_are_not_cached() {
    let (frames, held) = pressed(|zone| zone.low);
    let block = atomic(frames).unwrap();
    drop(held);
    frames.drain_all(&task());
    let mut parts = vec![block];
    while let Some(at) = parts.iter().position(|part| part.order() > Order::ZERO) {
        let (lower, upper) = parts.swap_remove(at).split().unwrap();
        parts.extend([lower, upper]);
    }
    drop(parts);
    assert_eq!(frames.zone_info(NORMAL).cached, 0);
    assert_sound(frames);
}

#[test]
fn whole_pageblocks_of_the_reserve_are_not_taken_as_huge_blocks() {
    let (frames, held) = pressed(|zone| zone.low);
    let block = atomic(frames).unwrap();
    let pageblock = block.pfn().0 / 512;
    drop((block, held));
    frames.drain_all(&task());
    assert_eq!(kept(frames), 512);
    for order in [Order::MAX, Order::HUGE] {
        let request = Request::nowait(order);
        let all = std::iter::from_fn(|| frames.alloc(&task(), &request).ok());
        let all = all.collect::<Vec<_>>();
        let hits = |block: &TestBlock| {
            let start = block.pfn().0 / 512;
            (start..start + order.frames() / 512).contains(&pageblock)
        };
        assert!(all.len() > 50 && !all.iter().any(hits));
    }
    assert_sound(frames);
}

#[test]
fn the_reserve_is_given_back_before_anybody_is_killed() {
    let (frames, held) = pressed(|zone| zone.low);
    let blocks = std::iter::from_fn(|| atomic(frames).ok()).collect::<Vec<_>>();
    drop(blocks);
    assert_eq!(kept(frames), 1024);
    *frames.platform().oom.lock().unwrap() = Some(Box::new(|_| panic!("killed")));
    let kernel = Request::kernel(Order::ZERO).owned_by(test_owner(3));
    let mut others = Vec::new();
    while kept(frames) > 0 {
        others.push(frames.alloc(&task(), &kernel).unwrap());
        assert!(others.len() < 4_000);
    }
    assert!(frames.zone_info(NORMAL).free >= frames.zone_info(NORMAL).min);
    drop((held, others));
    assert_sound(frames);
}

#[test]
fn a_pageblock_that_leaves_leaves_the_reserve() {
    let (frames, held) = pressed(|zone| zone.low);
    let blocks = std::iter::from_fn(|| atomic(frames).ok()).collect::<Vec<_>>();
    drop((held, blocks));
    assert_eq!(kept(frames), 1024);
    for block in [32, 33] {
        frames
            .offline_range(section_range(block), 0, &task())
            .unwrap();
        assert_sound(frames);
    }
    assert_eq!(kept(frames), 0);
}

#[test]
fn flags_and_order_say_whether_the_reserve_may_be_used() {
    let order = |order| Order::new(order).unwrap();
    let atomic = Gfp::ATOMIC;
    for (gfp, size, expected) in [
        (atomic, 0, HighAtomic::Spared),
        (atomic, 1, HighAtomic::Usable),
        (atomic, 8, HighAtomic::Usable),
        (atomic, 9, HighAtomic::Spared),
        (atomic, 10, HighAtomic::Spared),
        (atomic | Gfp::NOMEMALLOC, 3, HighAtomic::Spared),
        (Gfp::KERNEL | Gfp::HIGH, 3, HighAtomic::Spared),
        (Gfp::NOWAIT, 3, HighAtomic::Spared),
    ] {
        assert_eq!(HighAtomic::of(gfp, order(size)), expected, "{gfp:?} {size}");
    }
}

/// Returns the pageblock of a block, which must not be in the reserve.
fn pageblock_of(
    frames: &'static TestFrames,
    block: &TestBlock,
) -> crate::pageblock::section_meta::PageblockRef<'static> {
    frames.pageblock_of(block.pfn()).unwrap().0
}

#[test]
fn a_pageblock_is_counted_once_however_often_a_block_of_it_is_had() {
    let (frames, held) = pressed(|zone| zone.low);
    let block = atomic(frames).unwrap();
    assert_eq!(kept(frames), 512);
    frames.reserve_pageblock_of(NORMAL, block.pfn());
    assert_eq!(kept(frames), 512);
    drop((held, block));
    assert_sound(frames);
}

#[test]
fn only_pageblocks_of_the_reserve_give_blocks_of_it() {
    let frames = normal_machine(1, 2);
    assert_eq!(frames.take_reserved(NORMAL, ORDER), None);
    assert_sound(frames);
}

#[test]
fn a_pageblock_that_changes_its_kind_while_it_is_to_be_kept_is_not_counted() {
    let (frames, held) = pressed(|zone| zone.low);
    let block = frames
        .alloc_in_zone(ContextKind::Task, NORMAL, ORDER, test_owner(2))
        .unwrap();
    let pageblock = pageblock_of(frames, &block);
    let hook = at_steps(move || {
        pageblock.turn_to(pageblock.kind().turned_to(MigrateType::Movable));
    });
    frames.reserve_pageblock_of(NORMAL, block.pfn());
    drop(hook);
    assert_eq!(kept(frames), 0);
    drop((held, block));
    frames.drain_all(&task());
    assert_sound(frames);
}

#[test]
fn a_whole_pageblock_that_is_given_back_is_seen_by_searches() {
    let (frames, held) = pressed(|zone| zone.low);
    let block = atomic(frames).unwrap();
    let pageblock = pageblock_of(frames, &block);
    drop((held, block));
    frames.drain_all(&task());
    let free_huge = || format!("{:?}", frames.zone(NORMAL).free_huge);
    let before = free_huge();
    assert!(frames.release_high_atomic(pageblock, MigrateType::Movable));
    assert_ne!(free_huge(), before, "a search would miss it");
    assert_eq!(pageblock.migrate_type(), MigrateType::Movable);
    assert!(!frames.release_high_atomic(pageblock, MigrateType::Movable));
    assert_eq!(kept(frames), 0);
    assert_sound(frames);
}

#[test]
fn a_zone_is_never_taken_to_have_more_frames_than_it_manages() {
    let frames = bare_machine(1, 1);
    add_section(frames, 32);
    let start = section_range(32).start;
    let range = PfnRange::new(start, Pfn(start.0 + 1024));
    frames.online_range(range, NORMAL, &task()).unwrap();
    let alloc_flags = AllocFlags::fast(ZoneKind::Normal);
    assert!(!frames.watermark_ok_with_more(NORMAL, 1 << 40, Order::MAX, alloc_flags));
    let held = press(frames, NORMAL, 0);
    assert!(!frames.watermark_ok_with_more(NORMAL, 0, Order::ZERO, alloc_flags));
    let low = frames.zone_info(NORMAL).low;
    assert!(!frames.watermark_ok_with_more(NORMAL, low, Order::ZERO, alloc_flags));
    assert!(frames.watermark_ok_with_more(NORMAL, low + 1, Order::ZERO, alloc_flags));
    drop(held);
    frames.drain_all(&task());
    assert_sound(frames);
}

#[test]
fn who_takes_everything_gets_what_is_kept_as_well() {
    let (frames, held) = pressed(|zone| zone.low);
    let block = atomic(frames).unwrap();
    let pageblock = pageblock_of(frames, &block);
    drop(block);
    frames.drain_all(&task());
    let of_pageblock = pageblock.core().state().free();
    assert!(kept(frames) == 512 && of_pageblock > 0);
    let take = || frames.alloc_in_zone(ContextKind::Task, NORMAL, Order::ZERO, test_owner(7));
    let all = std::iter::from_fn(take).collect::<Vec<_>>();
    assert_eq!(frames.zone_info(NORMAL).free, 0);
    let in_pageblock = |block: &&TestBlock| block.pfn().0 / 512 == pageblock.start().0 / 512;
    assert_eq!(all.iter().filter(in_pageblock).count() as u32, of_pageblock);
    assert!(all.iter().all(|block| block.owner() == test_owner(7)));
    let count = frames.zone_events(NORMAL).allocs[0][0];
    assert!(count >= all.len() as u64);
    assert_sound(frames);
    drop((all, held));
    assert_sound(frames);
}

#[test]
fn what_is_in_use_of_the_reserve_is_not_missing_twice() {
    let (frames, mut held) = pressed(|zone| zone.low);
    let block = atomic(frames).unwrap();
    let pageblock = pageblock_of(frames, &block);
    // Another pageblock becomes free. The zone is then above its watermark by less than the
    // reserve.
    drop(held.swap_remove(0));
    frames.drain_all(&task());
    let nowait = Request::nowait(Order::ZERO);
    let others = std::iter::from_fn(|| frames.alloc(&task(), &nowait).ok());
    let others = others.collect::<Vec<_>>();
    let unusable = u64::from(pageblock.core().state().free());
    assert!(!others.is_empty() && unusable < 512);
    let info = frames.zone_info(NORMAL);
    assert_eq!(info.free - unusable, info.min);
    drop((held, block, others));
    assert_sound(frames);
}
