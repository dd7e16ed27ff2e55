//! Known failures of other allocators, each as a test that this one must pass.

use crate::{
    base::mutant::{self, Mutant},
    testing::*,
    *,
};
use std::{cell::Cell, panic::catch_unwind, rc::Rc};

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);

fn take(frames: &'static TestFrames, order: Order) -> Option<TestBlock> {
    frames.alloc_in_zone(ContextKind::Task, NORMAL, order, test_owner(1))
}

fn take_all(frames: &'static TestFrames, order: Order) -> Vec<TestBlock> {
    std::iter::from_fn(|| take(frames, order)).collect()
}

/// Counts the steps of `work` at which an interrupt could come.
fn steps(work: impl FnOnce()) -> usize {
    let count = Rc::new(Cell::new(0));
    let counted = Rc::clone(&count);
    let hook = at_steps(move || counted.set(counted.get() + 1));
    work();
    drop(hook);
    count.get()
}

fn claim_between_taken_frames() {
    for (order, words) in [(7, 2_u64), (8, 4)] {
        let frames = normal_machine(1, 1);
        let order = Order::new(order).unwrap();
        let singles = take_all(frames, Order::ZERO);
        // One frame in the last word of each run but the first of a pageblock stays taken.
        let (kept, freed): (Vec<_>, Vec<_>) = singles.into_iter().partition(|block| {
            let frame = block.pfn().0 % 512;
            frame % 64 == 63 && frame / 64 % words == words - 1 && frame / 64 >= words
        });
        drop(freed);
        frames.drain_all(&task());
        let blocks = take_all(frames, order);
        assert_eq!(blocks.len(), 64);
        for block in &blocks {
            assert_eq!(block.pfn().0 % 512, 0);
        }
        for single in &kept {
            let apart = |block: &TestBlock| {
                !(block.pfn().0..block.pfn().0 + order.frames()).contains(&single.pfn().0)
            };
            assert!(blocks.iter().all(apart));
        }
        assert_sound(frames);
        drop((blocks, kept));
        assert_sound(frames);
    }
}

/// Claims a run while an interrupt takes a frame of its last word.
fn claim_that_loses_its_last_word() {
    for (order, words) in [(7, 2_u64), (8, 4)] {
        let order = Order::new(order).unwrap();
        let mut steps_of_claim = 1;
        for at in 0.. {
            if at >= steps_of_claim {
                break;
            }
            let frames = normal_machine(1, 1);
            let singles = take_all(frames, Order::ZERO);
            // Only one pageblock has free frames: a run, and some more.
            let last = singles.iter().map(|block| block.pfn().0 / 512).max();
            let (kept, freed): (Vec<_>, Vec<_>) = singles.into_iter().partition(|block| {
                let frame = block.pfn().0 % 512;
                Some(block.pfn().0 / 512) != last || frame / 64 >= words && frame % 8 == 7
            });
            drop(freed);
            frames.drain_all(&task());
            let single = Rc::new(Cell::new(None));
            let (taken, step) = (Rc::clone(&single), Rc::new(Cell::new(0)));
            let count = Rc::clone(&step);
            let hook = at_steps(move || {
                if count.replace(count.get() + 1) == at {
                    let mut others = take_all(frames, Order::ZERO).into_iter();
                    taken.set(others.find(|block| block.pfn().0 % 512 / 64 == words - 1));
                    drop(others);
                    frames.drain_local(&hard_irq());
                }
            });
            let block = take(frames, order);
            drop(hook);
            steps_of_claim = step.get();
            let single: Option<TestBlock> = single.take();
            // If the run was claimed before the interrupt, both have got their frames.
            if let (Some(block), Some(single)) = (&block, &single) {
                let run = block.pfn().0..block.pfn().0 + order.frames();
                assert!(!run.contains(&single.pfn().0), "at step {at}");
            }
            assert_sound(frames);
            drop((block, single, kept));
            assert_sound(frames);
        }
    }
}

#[test]
fn a_claim_of_several_words_that_meets_a_taken_frame_does_not_report_success() {
    claim_between_taken_frames();
    claim_that_loses_its_last_word();
    let mistake = Mutant::ClaimWithoutRollback;
    let caught = catch_unwind(|| mutant::with(mistake, claim_that_loses_its_last_word));
    assert!(caught.is_err(), "{mistake:?} passes");
}

#[test]
fn a_refill_needs_no_contiguous_frames_with_98304_single_frames_free() {
    let frames = normal_machine(1, 6);
    let singles = take_all(frames, Order::ZERO);
    assert_eq!(singles.len(), 196_608);
    let (kept, freed): (Vec<_>, Vec<_>) = singles
        .into_iter()
        .partition(|block| block.pfn().0.is_multiple_of(2));
    drop(freed);
    frames.drain_all(&task());
    assert_eq!(frames.zone_info(NORMAL).free, 98_304);
    assert!(take(frames, Order::new(1).unwrap()).is_none());
    let again = take_all(frames, Order::ZERO);
    assert_eq!(again.len(), 98_304);
    drop((kept, again));
    assert_sound(frames);
}

#[test]
fn memory_freed_by_one_cpu_is_had_by_another() {
    let frames = normal_machine(2, 1);
    let all = on_cpu(0, || take_all(frames, Order::ZERO));
    assert_eq!(all.len(), SECTION_FRAMES);
    on_cpu(0, || drop(all));
    let info = frames.zone_info(NORMAL);
    assert!(info.cached <= u64::from(frames.zone(NORMAL).cache_high()));
    let got = on_cpu(1, || take_all(frames, Order::ZERO));
    assert_eq!(got.len() as u64, info.managed - info.cached);
    // The other frames are in the other CPU's cache, until a drain.
    on_cpu(1, || frames.drain_all(&task()));
    let rest = on_cpu(1, || take_all(frames, Order::ZERO));
    assert_eq!(rest.len() as u64, info.cached);
    drop((got, rest));
    assert_sound(frames);
}

#[test]
fn nothing_is_rebalanced_with_interrupts_off_whatever_the_order() {
    let frames = normal_machine(1, 2);
    let before = irqs_turned_off();
    for order in (0..=10).filter_map(Order::new) {
        let blocks = take_all(frames, order);
        drop(blocks);
        frames.drain_all(&task());
    }
    assert_eq!(irqs_turned_off(), before);
    assert_sound(frames);
}

#[test]
fn an_interrupt_may_land_anywhere_in_the_partial_free_of_a_huge_block() {
    let part_free = |frames: &'static TestFrames| {
        let (lower, upper) = take(frames, Order::HUGE).unwrap().split().unwrap();
        let (quarter, rest) = lower.split().unwrap();
        drop(quarter);
        drop((rest, upper));
    };
    let frames = normal_machine(1, 1);
    let count = steps(|| part_free(frames));
    assert!(count > 3);
    for at in 0..count {
        let frames = normal_machine(1, 1);
        let held = Rc::new(Cell::new(Vec::new()));
        let interrupts = Rc::clone(&held);
        let step = Cell::new(0);
        let hook = at_steps(move || {
            if step.replace(step.get() + 1) == at {
                let mut blocks = Vec::new();
                for order in [Order::HUGE, Order::COSTLY, Order::ZERO] {
                    let request = Request::atomic(order).owned_by(test_owner(2));
                    drop(frames.alloc(&nmi(), &request).unwrap());
                    blocks.push(frames.alloc(&nmi(), &request).unwrap());
                }
                interrupts.set(blocks);
            }
        });
        part_free(frames);
        drop(hook);
        assert_eq!(assert_sound(frames).allocated, 521, "at step {at}");
        drop(held.take());
        assert_sound(frames);
    }
}

#[test]
fn no_free_of_ten_thousand_pays_for_the_others() {
    let frames = normal_machine(1, 1);
    let mut blocks = (0..10_000)
        .map(|_| take(frames, Order::ZERO).unwrap())
        .collect::<Vec<_>>();
    let mut state = 1_usize;
    let mut worst = 0;
    while !blocks.is_empty() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let block = blocks.swap_remove((state >> 33) % blocks.len());
        worst = worst.max(steps(|| drop(block)));
    }
    // At most 16 frames go back at once, with two steps a frame. The other steps are those of the
    // gated section that finds the cache full and makes room, and of its surroundings.
    assert!(worst <= 2 * 16 + 18, "{worst} steps");
    assert_sound(frames);
}
