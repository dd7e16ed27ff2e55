//! Compactions of runs with cached frames in them.

use super::*;

/// Requests an order 9 where one frame is in the way: a page, or a frame in another CPU's cache.
/// Returns how often the other CPUs drained for it, and how often it waited.
fn with_one_in_the_way(is_cached: bool) -> (usize, usize) {
    let mut pageblocks = Pageblocks::new(2, 2);
    pageblocks.pages(3, [0]);
    let at = pageblocks.pageblock(3).start();
    if is_cached {
        on_cpu(1, || drop(pageblocks.pages.lock().unwrap().remove(&at.0)));
        assert_eq!(pageblocks.frames.frame_state(at), FrameState::Cached);
    }
    let platform = pageblocks.frames.platform();
    let counts = || {
        let drains = platform.drains.load(Ordering::Relaxed);
        (drains, platform.relaxes.load(Ordering::Relaxed))
    };
    let before = counts();
    let block = pageblocks.ask(Order::HUGE).unwrap();
    let after = counts();
    assert_eq!(block.pfn(), at);
    assert_eq!(pageblocks.events().compactions, 1);
    pageblocks.assert_sound();
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn other_cpus_are_disturbed_for_what_is_in_a_cache_and_for_nothing_else() {
    assert_eq!(with_one_in_the_way(true), (1, 0));
    assert_eq!(with_one_in_the_way(false), (0, 0));
}
