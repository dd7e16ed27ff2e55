use crate::base::mutant::{self, Mutant};
use crate::testing::*;
use crate::*;
use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

fn faults(frames: &TestFrames) -> Vec<FreeFault> {
    let faults = std::mem::take(&mut *frames.platform().faults.lock().unwrap());
    faults.into_iter().map(|error| error.fault).collect()
}

fn normal(frames: &'static TestFrames, order: Order) -> TestBlock {
    frames
        .alloc_in_zone(
            ContextKind::Task,
            zone(0, ZoneKind::Normal),
            order,
            test_owner(1),
        )
        .unwrap()
}

#[test]
fn every_order_is_allocated_and_comes_back() {
    let frames = small_machine(1);
    let before = assert_sound(frames);
    for order in (0..=10).filter_map(Order::new) {
        let request = Request::kernel(order).owned_by(test_owner(9));
        let block = frames.alloc(&task(), &request).unwrap();
        assert_eq!(block.order(), order);
        assert_eq!(block.pfn().0 % order.frames(), 0);
        assert_eq!(block.owner(), test_owner(9));
        let during = assert_sound(frames);
        assert_eq!(during.allocated, order.frames());
        assert_eq!(during.ownerless, 0);
        drop(block);
        let after = assert_sound(frames);
        assert_eq!(after.free + after.cached, before.free + before.cached);
    }
}

#[test]
fn a_double_free_is_found_at_the_free() {
    let frames = small_machine(1);
    let block = normal(frames, Order::ZERO);
    let pfn = block.pfn();
    drop(block);
    frames.free_raw(pfn, Order::ZERO);
    assert_eq!(faults(frames), [FreeFault::DoubleFreeCached]);
    for (order, fault) in [(3, FreeFault::DoubleFreeCached), (5, FreeFault::DoubleFree)] {
        let order = Order::new(order).unwrap();
        let block = normal(frames, order);
        let pfn = block.pfn();
        drop(block);
        frames.free_raw(pfn, order);
        assert_eq!(faults(frames), [fault]);
        assert_sound(frames);
        frames.drain_all(&task());
        frames.free_raw(pfn, order);
        assert_eq!(faults(frames), [FreeFault::DoubleFree]);
    }
    assert_sound(frames);
}

#[test]
fn a_wrong_order_and_a_foreign_frame_are_refused() {
    let frames = small_machine(1);
    let block = normal(frames, Order::COSTLY);
    frames.free_raw(block.pfn(), Order::ZERO);
    frames.free_raw(Pfn(0xa0), Order::ZERO);
    frames.free_raw(Pfn(u64::MAX / 2), Order::ZERO);
    frames.free_raw(SectionNo(33).start(), Order::ZERO);
    assert_eq!(
        faults(frames),
        [
            FreeFault::WrongOrder,
            FreeFault::Foreign,
            FreeFault::Foreign,
            FreeFault::Foreign
        ]
    );
    drop(block);
    assert_sound(frames);
}

#[test]
fn a_double_free_that_races_on_two_cpus_is_found_at_the_second_pop() {
    let frames = small_machine(2);
    let block = normal(frames, Order::ZERO);
    let pfn = block.pfn();
    let handle = block.leak();
    // Both CPUs have checked the entry; then both put the frame into their caches.
    let meta = frames.books_of(pfn).unwrap();
    let zone = frames.zone_of(pfn).unwrap();
    for cpu in 0..2 {
        let cached = || frames.cache_info(zone, CpuId(cpu)).unwrap().count;
        let before = cached();
        on_cpu(cpu, || frames.free_single(pfn, meta));
        assert_eq!(cached(), before + 1);
    }
    let first = on_cpu(0, || normal(frames, Order::ZERO));
    assert_eq!(first.pfn(), pfn);
    let second = on_cpu(1, || normal(frames, Order::ZERO));
    assert_ne!(second.pfn(), pfn);
    assert_eq!(faults(frames), [FreeFault::CacheCorrupt]);
    let _ = handle;
    drop((first, second));
    assert_sound(frames);
}

#[test]
fn the_bits_are_the_last_line() {
    let frames = small_machine(1);
    let order = Order::new(4).unwrap();
    let block = normal(frames, order);
    let pfn = block.leak().pfn();
    frames.free_raw(pfn, order);
    frames.label(pfn, order, Owner::NONE);
    frames.free_raw(pfn, order);
    assert_eq!(faults(frames), [FreeFault::BitsClear]);
    assert_sound(frames);
}

#[test]
fn a_block_is_split_down_to_frames_and_each_part_freed_by_itself() {
    let frames = small_machine(1);
    let before = assert_sound(frames);
    let mut parts = vec![normal(frames, Order::MAX)];
    while let Some(at) = parts.iter().position(|part| part.order() > Order::ZERO) {
        let (lower, upper) = parts.swap_remove(at).split().unwrap();
        assert_eq!(lower.pfn().0 + lower.order().frames(), upper.pfn().0);
        assert_eq!(upper.owner(), test_owner(1));
        parts.extend([lower, upper]);
        if parts.len() < 24 {
            assert_sound(frames);
        }
    }
    assert_eq!(parts.len(), 1024);
    assert!(parts.pop().unwrap().split().is_err());
    assert_sound(frames);
    drop(parts);
    frames.drain_all(&task());
    let after = assert_sound(frames);
    assert_eq!(after.free, before.free + before.cached);
}

/// Frees a block while no other one of its size is free. An interrupt at each step requests such a
/// block; the entry must name it as the owner of what it gets.
fn interrupted_where_nothing_else_is_free(order: Order) {
    let mut at = 0;
    loop {
        let frames = bare_machine(1, 1);
        add_section(frames, 32);
        let start = section_range(32).start;
        let range = PfnRange::new(start, Pfn(start.0 + 1024));
        let zone = zone(0, ZoneKind::Normal);
        frames.online_range(range, zone, &task()).unwrap();
        // The cached frames are taken as well.
        frames.turn_caches_off(zone);
        let take = move || frames.alloc_in_zone(ContextKind::Task, zone, order, test_owner(1));
        let mut all = std::iter::from_fn(take).collect::<Vec<_>>();
        let freed = all.pop().unwrap();
        let got = Rc::new(RefCell::new(None));
        let (slot, steps) = (Rc::clone(&got), Rc::new(Cell::new(0)));
        let count = Rc::clone(&steps);
        let hook = at_steps(move || {
            if count.replace(count.get() + 1) == at {
                *slot.borrow_mut() =
                    frames.alloc_in_zone(ContextKind::Task, zone, order, test_owner(2));
            }
        });
        drop(freed);
        drop(hook);
        if let Some(block) = &*got.borrow() {
            assert_eq!(block.owner(), test_owner(2), "at step {at}");
        }
        drop((got.take(), all));
        frames.turn_caches_on(zone);
        assert_sound(frames);
        at += 1;
        if at == steps.get() {
            assert!(at >= 2, "{at} steps");
            return;
        }
    }
}

#[test]
fn a_block_is_its_next_owners_as_soon_as_it_can_be_had() {
    let orders = || {
        for order in [0, 2, 7, 9, 10].into_iter().filter_map(Order::new) {
            interrupted_where_nothing_else_is_free(order);
        }
    };
    orders();
    let wrong = AssertUnwindSafe(|| mutant::with(Mutant::EntryAfterBits, orders));
    assert!(catch_unwind(wrong).is_err());
}

#[test]
fn a_handle_is_adopted_once() {
    let frames = small_machine(1);
    let raw = normal(frames, Order::COSTLY).leak().into_raw();
    let adopted = frames.adopt(FrameHandle::from_raw(raw).unwrap()).unwrap();
    drop(adopted);
    assert!(frames.adopt(FrameHandle::from_raw(raw).unwrap()).is_err());
    assert_eq!(faults(frames), [FreeFault::DoubleFreeCached]);
    assert_sound(frames);
}

#[test]
fn an_owner_changes_only_from_the_one_named() {
    let frames = small_machine(1);
    let block = normal(frames, Order::ZERO);
    assert!(!frames.change_owner(block.pfn(), test_owner(2), test_owner(3)));
    assert!(frames.change_owner(block.pfn(), test_owner(1), test_owner(3)));
    assert_eq!(block.owner(), test_owner(3));
    block.set_owner(test_owner(4));
    assert_eq!(block.owner(), test_owner(4));
    drop(block);
    assert_sound(frames);
}

#[test]
fn a_double_free_that_races_is_found_at_once_where_frees_claim_by_exchange() {
    for order in [Order::ZERO, Order::COSTLY, Order::HUGE] {
        for by_exchange in [true, false] {
            let frames = small_machine(2);
            let exchanges = &frames.platform().by_exchange;
            exchanges.store(by_exchange, std::sync::atomic::Ordering::Relaxed);
            let block = normal(frames, order);
            let pfn = block.pfn();
            let (pageblock, frame) = frames.pageblock_of(pfn).unwrap();
            // CPU 1 has checked the entry and claimed it. Then CPU 0 does its whole free of the
            // block.
            assert!(frames.claim_for_free(pageblock.entry(frame), order));
            drop(block);
            // CPU 1 would go on here. With a plain store it could not know what CPU 0 did.
            let found = faults(frames);
            assert_eq!(found == [FreeFault::DoubleFree], by_exchange, "{order:?}");
            if by_exchange {
                frames.label(pfn, order, Owner::NONE);
                drop(frames.block(pfn, order));
            }
            assert_sound(frames);
        }
    }
}

/// Frees a block by `free` with another CPU's free of the block `pfn` at each of its steps in turn.
fn freed_twice_at_each_step(
    order: Order,
    prepare: impl Fn(&'static TestFrames) -> (Pfn, Box<dyn FnOnce()>),
) {
    for at in 0.. {
        let frames = small_machine(2);
        let exchanges = &frames.platform().by_exchange;
        exchanges.store(true, std::sync::atomic::Ordering::Relaxed);
        let (pfn, free) = prepare(frames);
        let steps = Rc::new(Cell::new(0));
        let count = Rc::clone(&steps);
        let hook = at_steps(move || {
            if count.replace(count.get() + 1) == at {
                on_cpu(1, || frames.free_raw(pfn, order));
            }
        });
        free();
        drop(hook);
        let found = faults(frames);
        if at >= steps.get() {
            assert!(at > 2 && found.is_empty(), "{at} steps: {found:?}");
            return;
        }
        let is_refused = matches!(
            found[..],
            [FreeFault::DoubleFree | FreeFault::DoubleFreeCached]
        );
        assert!(is_refused, "{order:?} at step {at}: {found:?}");
        assert_eq!(assert_sound(frames).allocated, 0, "{order:?} at step {at}");
    }
}

#[test]
fn of_two_frees_at_once_one_is_refused_wherever_the_other_comes() {
    for order in [
        Order::ZERO,
        Order::ONE,
        Order::COSTLY,
        Order::HUGE,
        Order::MAX,
    ] {
        freed_twice_at_each_step(order, |frames| {
            let block = normal(frames, order);
            (block.pfn(), Box::new(|| drop(block)))
        });
    }
}

#[test]
fn a_free_that_comes_amid_a_bulk_of_it_is_refused_or_refuses_it() {
    freed_twice_at_each_step(Order::ZERO, |frames| {
        let (lower, upper) = normal(frames, Order::ONE).split().unwrap();
        let pfn = upper.pfn();
        let mut both = [Some(lower), Some(upper)];
        let free = move || assert_eq!(frames.free_bulk(&mut both), 2);
        (pfn, Box::new(free))
    });
}

#[test]
fn what_has_left_is_absent_and_foreign() {
    let frames = small_machine(1);
    let pfn = normal(frames, Order::ZERO).pfn();
    frames
        .offline_range(section_range(32), u64::MAX, &task())
        .unwrap();
    assert_eq!(frames.frame_state(pfn), FrameState::Absent);
    assert_eq!(frames.zone_of(pfn), None);
    frames.free_raw(pfn, Order::ZERO);
    assert_eq!(faults(frames), [FreeFault::Foreign]);
    assert_sound(frames);
}

#[test]
fn a_whole_block_that_is_not_taken_is_reported_though_its_entry_says_so() {
    let frames = small_machine(1);
    frames.turn_caches_off(zone(0, ZoneKind::Normal));
    for order in [Order::HUGE, Order::MAX] {
        let pfn = normal(frames, order).leak().pfn();
        frames.free_raw(pfn, order);
        frames.label(pfn, order, Owner::NONE);
        frames.free_raw(pfn, order);
        assert_eq!(faults(frames), [FreeFault::BitsClear]);
    }
    frames.turn_caches_on(zone(0, ZoneKind::Normal));
    assert_sound(frames);
}

#[test]
fn a_block_is_claimed_for_its_free_once_and_by_its_order() {
    let frames = small_machine(1);
    let exchanges = &frames.platform().by_exchange;
    exchanges.store(true, std::sync::atomic::Ordering::Relaxed);
    let block = normal(frames, Order::COSTLY);
    let (pageblock, frame) = frames.pageblock_of(block.pfn()).unwrap();
    let claim = |order| frames.claim_for_free(pageblock.entry(frame), order);
    assert!(!claim(Order::ZERO));
    assert!(claim(Order::COSTLY));
    assert!(!claim(Order::COSTLY), "both go on");
    frames.label(block.pfn(), Order::COSTLY, Owner::NONE);
    drop(block);
    assert_sound(frames);
}
