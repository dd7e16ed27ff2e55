//! Larger blocks that two CPUs want at once: by two frees, or by a drain and an allocation.

use super::*;

#[test]
fn of_two_frees_of_a_block_that_race_the_later_one_is_reported_and_does_nothing() {
    for order in [Order::COSTLY, Order::new(4).unwrap(), Order::HUGE] {
        let frames = small_machine(2);
        frames.platform().by_exchange.store(true, Ordering::Relaxed);
        let pfn = take(frames, order).unwrap().leak().pfn();
        frames.drain_all(&task());
        // CPU 0 has read the entry, and not claimed it yet.
        let (hook, steps) = at_step(0, move || on_cpu(1, || frames.free_raw(pfn, order)));
        frames.free_raw(pfn, order);
        drop(hook);
        assert_eq!(faults(frames), [FreeFault::DoubleFree], "order {order}");
        assert_eq!(steps.get(), 1, "it went on");
        assert_sound(frames);
    }
}

/// A CPU's blocks are drained, and another CPU takes all that it can get at each step in turn. The
/// entries must name it as the owner of what it gets.
#[test]
fn a_drained_block_is_left_alone_as_soon_as_it_can_be_had() {
    for order in super::super::CACHED_ORDERS {
        for at in 0.. {
            let frames = small_machine(2);
            drop(take(frames, order));
            // Nothing else of that size is free, and no block comes from a cache.
            let mut held = on_cpu(1, || take_all(frames, order));
            frames.turn_caches_off(NORMAL);
            let got = Rc::new(RefCell::new(Vec::new()));
            let gets = Rc::clone(&got);
            let (hook, steps) = at_step(at, move || {
                let take = || frames.alloc_in_zone(ContextKind::Task, NORMAL, order, test_owner(2));
                gets.replace(on_cpu(1, || std::iter::from_fn(take).collect()));
            });
            {
                let _pinned = Pinned::new(frames.platform());
                frames.give_up_blocks(NORMAL, frames.this_cpu(HERE));
            }
            drop(hook);
            let got = got.take();
            for block in &got {
                assert_eq!(block.owner(), test_owner(2), "order {order}, step {at}");
            }
            held.extend(got);
            drop(held);
            frames.turn_caches_on(NORMAL);
            assert_sound(frames);
            if at >= steps.get() {
                assert!(at > 2, "{at} steps");
                break;
            }
        }
    }
}
