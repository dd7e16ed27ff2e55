//! Batches and single frames on their way back to the pageblocks, with other CPUs at each step.

use crate::{testing::*, *};
use std::{cell::RefCell, rc::Rc};

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);

fn take(frames: &'static TestFrames, order: Order) -> Option<TestBlock> {
    frames.alloc_in_zone(ContextKind::Task, NORMAL, order, test_owner(1))
}

fn take_all(frames: &'static TestFrames, order: Order) -> Vec<TestBlock> {
    std::iter::from_fn(|| take(frames, order)).collect()
}

fn faults(frames: &TestFrames) -> Vec<FreeFault> {
    let faults = std::mem::take(&mut *frames.platform().faults.lock().unwrap());
    faults.into_iter().map(|error| error.fault).collect()
}

#[test]
fn a_refill_takes_no_more_than_the_zone_has_above_low() {
    let frames = normal_machine(1, 1);
    let low = frames.zone_info(NORMAL).low;
    let mut held = press(frames, NORMAL, low + 5);
    frames.drain_all(&task());
    held.extend(press(frames, NORMAL, low + 5));
    frames.drain_all(&task());
    let above = frames.zone_info(NORMAL).free - low;
    assert!(above >= 5);
    held.extend(take(frames, Order::ZERO));
    let info = frames.zone_info(NORMAL);
    assert!(info.free >= low.min(low + above - 6), "{info:?}");
    assert!(info.cached < above.max(6), "{info:?}");
    frames.drain_all(&task());
    held.extend(press(frames, NORMAL, low - 3));
    frames.drain_all(&task());
    // Below LOW a refill takes one frame.
    let before = frames.zone_events(NORMAL).refills;
    held.extend(take(frames, Order::ZERO));
    assert_eq!(frames.zone_info(NORMAL).cached, 0);
    assert_eq!(frames.zone_events(NORMAL).refills, before + 1);
    assert_sound(frames);
    drop(held);
    frames.drain_all(&task());
    assert_sound(frames);
}

#[test]
fn what_is_drained_is_free_and_says_so() {
    let frames = normal_machine(1, 1);
    let before = frames.zone_info(NORMAL).free;
    let blocks: Vec<_> = (0..300).filter_map(|_| take(frames, Order::ZERO)).collect();
    let (freed, kept): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|b| b.pfn().0 % 7 == 0);
    let pfns: Vec<_> = freed.iter().map(TestBlock::pfn).collect();
    drop(freed);
    assert!(frames.zone_info(NORMAL).cached > 0);
    frames.drain_all(&task());
    for pfn in pfns {
        assert_eq!(frames.frame_state(pfn), FrameState::Free);
    }
    let census = assert_sound(frames);
    assert_eq!((census.cached, census.allocated), (0, kept.len() as u64));
    drop(kept);
    frames.drain_all(&task());
    assert_eq!(frames.zone_info(NORMAL).free, before);
    assert_sound(frames);
}

#[test]
fn a_frame_in_two_caches_is_reported_by_the_second_drain() {
    let frames = small_machine(2);
    let pfn = take(frames, Order::ZERO).unwrap().leak().pfn();
    let meta = frames.books_of(pfn).unwrap();
    for cpu in 0..2 {
        on_cpu(cpu, || frames.free_single(pfn, meta));
    }
    frames.drain_all(&task());
    assert_eq!(faults(frames), [FreeFault::CacheCorrupt]);
    assert_sound(frames);
}

/// Does what another CPU's free of the frame would do: clears the bit, and adds to the count.
fn freed_elsewhere(frames: &TestFrames, pfn: Pfn) {
    let (pageblock, frame) = frames.pageblock_of(pfn).unwrap();
    pageblock
        .core()
        .clear_mask(frame as usize / 64, 1 << (frame % 64));
    pageblock.core().add(1);
    frames.gain(NORMAL, 1);
}

#[test]
fn a_frame_whose_bit_is_clear_is_reported_by_its_drain_and_not_counted() {
    let frames = small_machine(1);
    let block = take(frames, Order::ZERO).unwrap();
    let pfn = block.pfn();
    drop(block);
    freed_elsewhere(frames, pfn);
    frames.drain_all(&task());
    assert_eq!(faults(frames), [FreeFault::BitsClear]);
    assert_sound(frames);
}

#[test]
fn a_single_frame_whose_bit_is_clear_is_reported_by_its_free_and_not_counted() {
    let frames = small_machine(1);
    frames.turn_caches_off(NORMAL);
    let block = take(frames, Order::ZERO).unwrap();
    freed_elsewhere(frames, block.pfn());
    drop(block);
    assert_eq!(faults(frames), [FreeFault::BitsClear]);
    frames.turn_caches_on(NORMAL);
    assert_sound(frames);
}

/// Makes a machine with a pageblock that is free but for one frame, and frames of other pageblocks.
fn nearly_whole() -> (&'static TestFrames, TestBlock, Vec<TestBlock>) {
    let frames = normal_machine(1, 1);
    let blocks: Vec<_> = (0..1_024)
        .filter_map(|_| take(frames, Order::ZERO))
        .collect();
    frames.drain_all(&task());
    let first = blocks[0].pfn().0 / 512;
    let (mut of_it, others): (Vec<_>, Vec<_>) = blocks
        .into_iter()
        .partition(|block| block.pfn().0 / 512 == first);
    assert_eq!(of_it.len(), 512);
    let last = of_it.swap_remove(77);
    drop(of_it);
    frames.drain_all(&task());
    (frames, last, others)
}

#[test]
fn a_pageblock_that_a_drain_completes_is_counted_whatever_is_drained_behind_it() {
    let (frames, last, mut others) = nearly_whole();
    let free_huge = || format!("{:?}", frames.zone(NORMAL).free_huge);
    drop(others.pop());
    // The frame lies on top of the cache, so it is drained first.
    drop(last);
    let before = free_huge();
    frames.drain_all(&task());
    assert_ne!(free_huge(), before, "a search would miss it");
    drop(others);
    frames.drain_all(&task());
    assert_sound(frames);
}

#[test]
fn a_pageblock_that_is_drained_whole_is_left_alone_as_soon_as_it_can_be_had() {
    for at in 0..12 {
        let (frames, last, mut others) = nearly_whole();
        // The zone counts more than a pageblock of frames before the drain is counted, too.
        others.truncate(100);
        frames.drain_all(&task());
        drop(last);
        // No other pageblock is whole.
        let rest = take_all(frames, Order::HUGE);
        let got = Rc::new(RefCell::new(Vec::new()));
        let theirs = Rc::clone(&got);
        let (hook, _) = at_step(at, move || {
            if let Some(Ok((lower, upper))) = take(frames, Order::HUGE).map(TestBlock::split) {
                theirs.borrow_mut().extend([lower, upper]);
            }
        });
        frames.drain_local(&hard_irq());
        frames.drain_all(&task());
        drop(hook);
        assert_sound(frames);
        drop((got.take(), rest, others));
        frames.drain_all(&task());
        assert_sound(frames);
    }
}

#[test]
fn what_an_nmi_takes_of_a_word_that_is_freed_in_bulk_keeps_its_entry() {
    let mut at = 0;
    loop {
        let frames = normal_machine(1, 1);
        let all = take_all(frames, Order::ZERO);
        let (bulk, kept): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|block| block.pfn().0 % 32_768 < 8);
        let mut bulk: Vec<_> = bulk.into_iter().map(Some).collect();
        let got = Rc::new(RefCell::new(None));
        let theirs = Rc::clone(&got);
        let (hook, steps) = at_step(at, move || {
            *theirs.borrow_mut() =
                frames.alloc_in_zone(ContextKind::Task, NORMAL, Order::ZERO, test_owner(2));
        });
        assert_eq!(frames.free_bulk(&mut bulk), 8);
        drop(hook);
        if let Some(block) = &*got.borrow() {
            assert_eq!(block.owner(), test_owner(2), "at step {at}");
        }
        frames.drain_all(&task());
        assert_sound(frames);
        drop((got.take(), kept));
        frames.drain_all(&task());
        assert_sound(frames);
        at += 1;
        if at >= steps.get() {
            assert!(at > 8, "{at} steps");
            return;
        }
    }
}

/// Frees what it is given.
type Free = fn(&'static TestFrames, TestBlock, TestBlock);

const BY_DROP: Free = |_, one, other| drop((one, other));
const IN_BULK: Free = |frames, one, other| {
    frames.free_bulk(&mut [Some(one), Some(other)]);
};

/// Frees the last frames of a memory section. At each step in turn the section leaves and comes
/// back in another zone.
fn changes_zones(size: Order, free: Free, caches: bool) {
    let mut at = 0;
    loop {
        let frames = small_machine(2);
        let (one, other) = (take(frames, size).unwrap(), take(frames, size).unwrap());
        frames.drain_all(&task());
        if !caches {
            frames.turn_caches_off(NORMAL);
        }
        let movable = zone(0, ZoneKind::Movable);
        let (hook, steps) = at_step(at, move || {
            on_cpu(1, || {
                if frames.platform().gate(CpuId(0)).is_open() {
                    // CPU 0's caches cannot be drained now.
                    return;
                }
                let until = frames.platform().now_ns() + 10_000;
                if frames
                    .offline_range(section_range(32), until, &task())
                    .is_ok()
                {
                    frames
                        .online_range(section_range(32), movable, &task())
                        .unwrap();
                }
            });
        });
        free(frames, one, other);
        drop(hook);
        if !caches {
            frames.turn_caches_on(NORMAL);
        }
        frames.drain_all(&task());
        assert_sound(frames);
        at += 1;
        if at >= steps.get() {
            return;
        }
    }
}

#[test]
fn a_block_may_change_zones_at_any_step_of_its_last_free() {
    for size in [0, 3, 5, 9, 10].into_iter().filter_map(Order::new) {
        changes_zones(size, BY_DROP, false);
    }
    changes_zones(Order::ZERO, BY_DROP, true);
    changes_zones(Order::ZERO, IN_BULK, true);
}

#[test]
fn what_comes_in_bulk_is_counted() {
    let frames = small_machine(1);
    let mut blocks: Vec<Option<TestBlock>> = (0..100).map(|_| None).collect();
    let request = Request::atomic(Order::ZERO);
    assert_eq!(frames.alloc_bulk(&nmi(), &request, &mut blocks), Ok(100));
    assert_eq!(frames.zone_events(NORMAL).allocs[0], [0, 0, 100]);
    frames.free_bulk(&mut blocks);
    assert_sound(frames);
}

#[test]
fn neighbouring_words_and_larger_blocks_of_one_word_are_not_freed_as_one() {
    let frames = normal_machine(1, 1);
    for order in [Order::ZERO, Order::ONE] {
        let blocks: Vec<_> = (0..200).filter_map(|_| take(frames, order)).collect();
        let (mut some, kept): (Vec<_>, Vec<_>) = blocks
            .into_iter()
            .map(Some)
            .partition(|block| block.as_ref().unwrap().pfn().0 % 32 == 0);
        let count = some.len();
        assert!(count > 3);
        assert_eq!(frames.free_bulk(&mut some), count);
        assert_eq!(
            assert_sound(frames).allocated,
            kept.len() as u64 * order.frames()
        );
        drop(kept);
        frames.drain_all(&task());
        assert_sound(frames);
    }
}

#[test]
fn another_allocators_frames_go_back_to_that_one() {
    let (ours, theirs) = (normal_machine(1, 1), normal_machine(1, 1));
    let held = [(); 2].map(|()| take(ours, Order::ZERO).unwrap());
    let mut others = [(); 2].map(|()| take(theirs, Order::ZERO));
    assert_eq!(ours.free_bulk(&mut others), 2);
    assert_eq!(assert_sound(theirs).allocated, 0);
    assert_eq!(assert_sound(ours).allocated, 2);
    drop(held);
    assert_sound(ours);
}

#[test]
fn a_free_in_bulk_unpins() {
    let frames = small_machine(2);
    on_cpu(0, || {
        let mut blocks = [(); 9].map(|()| take(frames, Order::ZERO));
        frames.free_bulk(&mut blocks);
        frames.platform().switch_to(1);
        assert_eq!(<Host as tidemark_sync::LocalIrq>::cpu(), 1);
    });
    assert_sound(frames);
}
