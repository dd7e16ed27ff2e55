//! Drains: their numbers, the code that does them, and when they are over.

use super::*;
use crate::{pageblock::flags::PageblockFlags, testing::*, *};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::atomic::AtomicBool,
};
use tidemark_sync::LocalIrq;

const NORMAL: ZoneId = zone(0, ZoneKind::Normal);

fn take(frames: &'static TestFrames) -> TestBlock {
    frames
        .alloc_in_zone(ContextKind::Task, NORMAL, Order::ZERO, test_owner(1))
        .unwrap()
}

#[test]
fn a_later_drain_acknowledges_the_earlier_ones() {
    let drain_state = super::DrainState::default();
    for last in [0, 5, u32::MAX / 2, u32::MAX - 1, 3, 9] {
        drain_state.acknowledge(last);
        assert!(drain_state.has_drained(last) && drain_state.has_drained(last.wrapping_sub(7)));
        assert!(!drain_state.has_drained(last.wrapping_add(1)));
        drain_state.acknowledge(last.wrapping_sub(2));
        assert!(drain_state.has_drained(last), "an older one takes it back");
    }
}

#[test]
fn a_drain_that_comes_while_the_last_frames_are_looked_for_is_done() {
    let frames = small_machine(1);
    let cpu = frames.this_cpu(HERE);
    drained_at_each_step(frames, || {
        drop(take(frames));
        let pinned = Pinned::new(frames.platform());
        let cache = &cpu.pcp[PageblockFlags::cache_of(NORMAL, MigrateType::Unmovable)];
        let left = frames.take_left_over(NORMAL, cache, cpu);
        // This is tested before the calls behind it, which would do the drain as well.
        assert!(frames.is_at_rest(CpuId(0)), "the look leaves a drain");
        drop(pinned);
        if let Some(pfn) = left {
            frames.free_single(pfn, frames.books_of(pfn).unwrap());
        }
    });
    assert_sound(frames);
}

#[test]
fn the_oracle_says_of_a_cpu_in_a_section_or_with_a_drain_to_do_that_it_is_not_at_rest() {
    let frames = small_machine(2);
    let gate = frames.platform().gate(CpuId(1));
    let is_told = || {
        let found = frames.validate_at_rest();
        matches!(found, Err(Inconsistency::Cpu { cpu: CpuId(1) }))
    };
    gate.begin();
    assert!(is_told());
    gate.end();
    gate.owe(CpuGate::DRAIN);
    assert!(is_told());
    assert!(gate.take(CpuGate::DRAIN));
    assert_sound(frames);
}

#[test]
fn an_initiators_share_is_done_on_one_cpu() {
    let frames = small_machine(2);
    drop(take(frames));
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sees = Rc::clone(&seen);
    let drain = frames.caches().drains().ask();
    let hook = at_steps(move || {
        let is_switched = on_cpu(0, || {
            frames.platform().switch_to(1);
            Host::cpu() == 1
        });
        sees.borrow_mut().push(is_switched);
    });
    frames.drain_here(drain);
    drop(hook);
    let seen = seen.take();
    assert!(seen.len() > 3 && !seen.contains(&true), "{seen:?}");
    assert_sound(frames);
}

#[test]
fn a_drain_that_comes_into_an_initiators_share_is_done() {
    let frames = small_machine(1);
    drained_at_each_step(frames, || {
        drop(take(frames));
        frames.drain_all(&task());
    });
    assert_sound(frames);
}

/// If the drain were owed before its number is stored, the NMI's gated section would do the drain
/// before it, and leave this one undone.
#[test]
fn an_nmi_that_comes_into_a_drains_interrupt_leaves_the_drain_to_it_or_does_it() {
    for at in 0.. {
        let frames = small_machine(1);
        drop(take(frames));
        let steps = Rc::new(Cell::new(0));
        let count = Rc::clone(&steps);
        let hook = at_steps(move || {
            if count.replace(count.get() + 1) == at {
                drop(frames.alloc(&nmi(), &Request::nowait(Order::ZERO)).unwrap());
            }
        });
        let drain = frames.caches().drains().ask();
        frames.drain_local(&hard_irq());
        drop(hook);
        let is_done = frames.this_cpu(HERE).drain_state.has_drained(drain);
        assert!(is_done, "the initiator has to ask again, at step {at}");
        assert_sound(frames);
        if at >= steps.get() {
            assert!(at > 2, "{at} steps");
            return;
        }
    }
}

/// A gated section of CPU 1 is open when its interrupt comes. It does the drain at its end.
#[test]
fn a_drain_is_over_when_the_last_cpu_has_done_it() {
    let frames = small_machine(2);
    on_cpu(1, || drop(take(frames)));
    let host = frames.platform();
    let (is_open, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let other = || {
        let inside = frames.enter().unwrap();
        is_open.store(true, Ordering::SeqCst);
        while host.relaxes.load(Ordering::SeqCst) < 4 && !is_over.load(Ordering::SeqCst) {
            host.take_interrupts();
            std::thread::yield_now();
        }
        let was_over = is_over.load(Ordering::SeqCst);
        frames.leave(inside, frames.this_cpu(HERE));
        while !is_over.load(Ordering::SeqCst) {
            host.take_interrupts();
            std::thread::yield_now();
        }
        assert!(!was_over, "a gate owed its drain");
    };
    host.threaded[1].store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        scope.spawn(|| on_cpu(1, other));
        while !is_open.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        frames.drain_all(&task());
        is_over.store(true, Ordering::SeqCst);
    });
    host.threaded[1].store(false, Ordering::SeqCst);
    assert_eq!(frames.cached_frames(NORMAL), 0);
    assert_sound(frames);
}

#[test]
fn a_drain_is_acknowledged_behind_it_and_inside_its_section() {
    let frames = small_machine(1);
    drop(take(frames));
    let (drain, managed) = (
        frames.caches().drains().ask(),
        frames.zone_info(NORMAL).managed,
    );
    let hook = at_steps(move || {
        let cpu = frames.this_cpu(HERE);
        let is_empty = cpu.held(NORMAL) == 0;
        let is_done = cpu.drain_state.has_drained(drain);
        let is_back = frames.zone_info(NORMAL).free == managed;
        assert!(!is_done || is_back, "acknowledged, but not drained");
        let is_outside = !frames.this_gate(HERE).is_open();
        assert!(
            !is_empty || !is_outside || is_done,
            "drained, but not acknowledged"
        );
    });
    frames.drain_local(&hard_irq());
    drop(hook);
    assert!(frames.this_cpu(HERE).drain_state.has_drained(drain));
    assert_sound(frames);
}
