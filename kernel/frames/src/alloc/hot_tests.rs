//! The first caches that a CPU remembers, and what the hot path owes and checks.

use super::*;
use crate::{pageblock::flags::CACHES, testing::*, *};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};
use tidemark_sync::LocalIrq;

const NORMAL: ZoneId = zone(0, ZoneKind::Normal);
const SINGLE: Order = Order::ZERO;

fn plain(frames: &'static TestFrames) -> TestBlock {
    let request = Request::nowait(SINGLE).owned_by(test_owner(1));
    frames.alloc(&task(), &request).unwrap()
}

fn take(frames: &'static TestFrames) -> Option<TestBlock> {
    frames.alloc_in_zone(ContextKind::Task, NORMAL, SINGLE, test_owner(1))
}

/// Returns the number of the cache that the CPU remembers for a request, if it does.
fn remembered(frames: &TestFrames, cpu: usize, request: &Request) -> Option<usize> {
    let cache = frames.caches().cpus()[cpu]
        .first_caches
        .cache(request.class());
    (cache < CACHES).then_some(cache)
}

/// Returns for each step of `work` whether a tick there could switch the task away.
fn switches(frames: &'static TestFrames, work: impl FnOnce()) -> Vec<bool> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sees = Rc::clone(&seen);
    let hook = at_steps(move || {
        let is_switched = on_cpu(0, || {
            frames.platform().switch_to(1);
            Host::cpu() == 1
        });
        sees.borrow_mut().push(is_switched);
    });
    work();
    drop(hook);
    seen.take()
}

#[test]
fn what_a_cpu_remembers_is_forgotten_by_a_rebuild() {
    let frames = small_machine(2);
    let requests = [
        Request::nowait(SINGLE),
        Request::movable(SINGLE),
        Request::nowait(SINGLE).with(Gfp::DMA32),
    ];
    for cpu in 0..2 {
        for request in &requests {
            on_cpu(cpu, || drop(frames.alloc(&task(), request).unwrap()));
            assert!(remembered(frames, cpu, request).is_some(), "{request:?}");
        }
    }
    frames.rebuild(&task());
    for cpu in 0..2 {
        for request in &requests {
            assert_eq!(remembered(frames, cpu, request), None, "{request:?}");
        }
    }
    assert_sound(frames);
}

/// NORMAL becomes empty at each step of the request that would note it.
#[test]
fn what_was_read_before_a_rebuild_is_not_remembered() {
    let request = Request::nowait(SINGLE);
    let gone = PageblockFlags::cache_of(NORMAL, MigrateType::Unmovable);
    let mut left = 0;
    for at in 0.. {
        let frames = small_machine(2);
        let (steps, is_gone) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let (count, goes) = (Rc::clone(&steps), Rc::clone(&is_gone));
        let hook = at_steps(move || {
            let is_open = frames.platform().gate(CpuId(0)).is_open();
            if count.replace(count.get() + 1) == at && !is_open {
                let until = frames.platform().now_ns() + 10_000;
                let offline = || frames.offline_range(section_range(32), until, &task());
                goes.set(on_cpu(1, offline).is_ok());
            }
        });
        let block = frames.alloc(&task(), &request).unwrap();
        drop(hook);
        if is_gone.get() {
            left += 1;
            assert_ne!(remembered(frames, 0, &request), Some(gone), "at step {at}");
        }
        drop(block);
        frames.drain_all(&task());
        assert_sound(frames);
        if at >= steps.get() {
            break;
        }
    }
    assert!(left > 2, "{left} times");
}

#[test]
fn what_is_remembered_of_a_class_does_not_depend_on_a_cpuset() {
    let frames = two_nodes(1);
    let node = NodeMask::only(NodeId(1));
    *frames.platform().cpuset.lock().unwrap() = Some(Cpuset {
        nodes: node,
        wall: node,
        generation: 1,
    });
    assert_eq!(
        frames.zone_of(plain(frames).pfn()),
        Some(zone(1, ZoneKind::Normal))
    );
    *frames.platform().cpuset.lock().unwrap() = None;
    // The blocks come from the cache that is remembered, which is refilled from then on.
    for _ in 0..3 {
        assert_eq!(frames.zone_of(plain(frames).pfn()), Some(NORMAL));
    }
    assert_sound(frames);
}

/// Takes everything but the frames in CPU 0's caches.
fn take_what_is_free(frames: &'static TestFrames) -> Vec<TestBlock> {
    let mut held = Vec::new();
    for info in frames.zones().collect::<Vec<_>>() {
        for order in [Order::MAX, Order::HUGE, Order::COSTLY, SINGLE] {
            let take = || frames.alloc_in_zone(ContextKind::Task, info.id, order, test_owner(2));
            held.extend(on_cpu(1, || std::iter::from_fn(take).collect::<Vec<_>>()));
        }
        assert_eq!(frames.zone_info(info.id).free, 0);
    }
    held
}

#[test]
fn what_a_cpu_keeps_comes_without_a_look_at_any_watermark() {
    for order in [SINGLE, Order::ONE, Order::COSTLY, Order::HUGE] {
        let frames = small_machine(2);
        let request = Request::nowait(order).owned_by(test_owner(1));
        // The first cache of the class is known, and has a block.
        drop(frames.alloc(&task(), &request).unwrap());
        let held = take_what_is_free(frames);
        let hook = at_points(|point| panic!("reached {point:?}"));
        let block = frames.alloc(&task(), &request).unwrap();
        drop(hook);
        assert_eq!(block.owner(), test_owner(1));
        drop((block, held));
        frames.drain_all(&task());
        assert_sound(frames);
    }
}

#[test]
fn a_traced_request_pays_what_is_owed() {
    let frames = small_machine(1);
    for order in [SINGLE, Order::COSTLY] {
        let request = Request::nowait(order);
        drained_at_each_step(frames, || {
            drop(frames.alloc(&task(), &request).unwrap());
            let mut info = WalkInfo::default();
            let block = frames.alloc_traced(&task(), &request, &mut info).unwrap();
            // This is tested before the block's free, which would do the drain as well.
            assert!(frames.is_at_rest(CpuId(0)), "the request leaves a drain");
            drop(block);
        });
    }
    assert_sound(frames);
}

#[test]
fn a_racing_double_free_is_not_handed_out_twice() {
    let frames = small_machine(2);
    for cpu in 0..2 {
        on_cpu(cpu, || [(); 2].map(|()| plain(frames)).map(drop));
    }
    let pfn = plain(frames).leak().pfn();
    let meta = frames.books_of(pfn).unwrap();
    for cpu in 0..2 {
        on_cpu(cpu, || frames.free_single(pfn, meta));
    }
    let first = on_cpu(0, || plain(frames));
    let second = on_cpu(1, || plain(frames));
    assert_eq!(first.pfn(), pfn);
    assert_ne!(second.pfn(), pfn);
    let faults = std::mem::take(&mut *frames.platform().faults.lock().unwrap());
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(
        (faults[0].fault, faults[0].pfn),
        (FreeFault::CacheCorrupt, pfn)
    );
    drop((first, second));
    assert_sound(frames);
}

#[test]
fn plain_frames_are_counted_by_context() {
    let frames = small_machine(1);
    let request = Request::atomic(SINGLE);
    drop(frames.alloc(&task(), &request).unwrap());
    for _ in 0..2 {
        drop(frames.alloc(&task(), &request).unwrap());
        drop(frames.alloc(&nmi(), &request).unwrap());
        drop(frames.alloc(&hard_irq(), &request).unwrap());
    }
    assert_eq!(frames.zone_events(NORMAL).allocs[0], [3, 2, 2]);
    assert_sound(frames);
}

#[test]
fn a_free_that_finds_no_place_goes_to_its_pageblock() {
    let frames = small_machine(1);
    let held = (0..300).map(|_| take(frames).unwrap()).collect::<Vec<_>>();
    // The later of two crossings is recorded first. Until the other one is, the limit does not
    // hold.
    frames.tell_cache_limits(NORMAL, false);
    drop(held);
    assert!(frames.zone_info(NORMAL).cached <= crate::zone::policy::CAPACITY as u64);
    frames.tell_cache_limits(NORMAL, true);
    assert_sound(frames);
    frames.drain_all(&task());
    assert_eq!(assert_sound(frames).allocated, 0);
}

#[test]
fn a_free_past_the_cache_is_pinned() {
    let frames = small_machine(2);
    let block = take(frames).unwrap();
    let (pageblock, _) = frames.pageblock_of(block.pfn()).unwrap();
    pageblock.keep_out_of_caches(true);
    let steps = switches(frames, || drop(block));
    let pinned = steps.iter().rev().take_while(|&&is_switched| !is_switched);
    assert!(pinned.count() >= 3, "{steps:?}");
    pageblock.keep_out_of_caches(false);
    assert_sound(frames);
}

#[test]
fn a_free_past_a_cache_that_is_off_pays_what_is_owed() {
    let frames = small_machine(1);
    let mut held = (0..200).map(|_| take(frames).unwrap()).collect::<Vec<_>>();
    frames.turn_caches_off(NORMAL);
    drained_at_each_step(frames, || drop(held.pop().unwrap()));
    frames.turn_caches_on(NORMAL);
    drop(held);
    frames.drain_all(&task());
    assert_sound(frames);
}

/// Two frames of a word find their cache off; the second one comes in a row.
#[test]
fn a_free_in_a_row_goes_past_a_cache_that_is_off() {
    let frames = small_machine(1);
    let managed = frames.zone_info(NORMAL).managed;
    let high = frames.zone(NORMAL).cache_high() as usize;
    let mut held = (0..2 * high + 64)
        .map(|_| take(frames).unwrap())
        .collect::<Vec<_>>();
    let at = held
        .windows(2)
        .position(|pair| pair[0].pfn().0 / 64 == pair[1].pfn().0 / 64)
        .unwrap();
    let row = held.drain(at..at + 2).collect::<Vec<_>>();
    drop(held);
    frames.turn_caches_off(NORMAL);
    let before = frames.zone_info(NORMAL).cached;
    drop(row);
    assert_eq!(frames.zone_info(NORMAL).cached, before);
    frames.turn_caches_on(NORMAL);
    assert_sound(frames);
    frames.drain_all(&task());
    assert_eq!(frames.zone_info(NORMAL).free, managed);
    assert_sound(frames);
}

/// A task that were switched away behind the gated section would do what is owed on another CPU.
#[test]
fn a_free_in_a_row_is_pinned() {
    let frames = small_machine(2);
    let high = frames.zone(NORMAL).cache_high() as usize;
    let mut held = (0..2 * high + 64)
        .map(|_| take(frames).unwrap())
        .collect::<Vec<_>>();
    let at = held
        .windows(2)
        .position(|pair| pair[0].pfn().0 / 64 == pair[1].pfn().0 / 64)
        .unwrap();
    let mut row = held.drain(at..at + 2);
    frames.turn_caches_off(NORMAL);
    let apart = switches(frames, || drop(row.next()));
    let in_row = switches(frames, || drop(row.next()));
    frames.turn_caches_on(NORMAL);
    drop(row);
    // The free of one frame alone is not pinned: it does what is owed on the CPU that it is on
    // then.
    assert_eq!((apart.last(), in_row.last()), (Some(&true), Some(&false)));
    drop(held);
    frames.drain_all(&task());
    assert_sound(frames);
}

/// A handler in the middle of the rebuild reads lists that are about to change.
#[test]
fn what_was_learnt_amid_a_rebuild_is_forgotten_at_its_end() {
    let frames = small_machine(1);
    let request = Request::atomic(SINGLE);
    let asked = Rc::new(Cell::new(0));
    let asks = Rc::clone(&asked);
    let hook = at_points(move |point| {
        if point == Point::RebuildOdd {
            drop(frames.alloc(&nmi(), &request).unwrap());
            assert!(remembered(frames, 0, &request).is_some());
            asks.set(asks.get() + 1);
        }
    });
    frames.rebuild(&task());
    drop(hook);
    assert_eq!((asked.get(), remembered(frames, 0, &request)), (1, None));
    assert_sound(frames);
}
