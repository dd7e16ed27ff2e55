//! The oracle, and an offline, while a compaction is under way.

use super::*;

/// A compacting task may be preempted at any step, and the machine be brought to rest meanwhile.
#[test]
fn the_oracle_says_of_a_preempted_compaction_that_it_is_under_way() {
    let frames = one_zone(2);
    let pages = Pages::new(frames);
    while pages.add(frames, SINGLE).is_some() {}
    let count = pages.0.lock().unwrap().len();
    for number in (0..count).filter(|number| number % 512 < 256) {
        pages.free(number);
    }
    frames.drain_all(&task());
    let seen = Arc::new(AtomicU32::new(0));
    let under_way = Arc::clone(&seen);
    let hook = at_steps(move || {
        if frames.compacting().load(Ordering::Relaxed) > 0 {
            // A recount at each step would take long, so the test's time shows that there is none.
            assert_eq!(frames.validate_at_rest(), Err(Inconsistency::NotAtRest));
            under_way.fetch_add(1, Ordering::Relaxed);
        }
    });
    let request = Request::kernel(Order::HUGE).owned_by(test_owner(3));
    let mut got = Vec::new();
    while events(frames).compactions == 0 {
        got.push(frames.alloc(&task(), &request).unwrap());
    }
    drop(hook);
    let seen = seen.load(Ordering::Relaxed);
    assert!(seen > 3, "{seen} steps under way, {:?}", events(frames));
    assert_eq!(frames.compacting().load(Ordering::Relaxed), 0);
    drop(got);
    assert_all_back(frames, &pages);
}

#[test]
fn a_compaction_that_ends_during_an_offline_leaves_its_isolation_alone() {
    let run = || {
        let frames = one_zone(1);
        let pages = Pages::new(frames);
        scatter(frames, &pages);
        let isolated = Arc::new(Mutex::new(None));
        let target = Arc::clone(&isolated);
        while_moving(frames, move |pfn| {
            let (pageblock, _) = frames.pageblock_of(pfn).unwrap();
            assert_eq!(isolate(frames, pageblock), Some(0));
            *target.lock().unwrap() = Some(pageblock);
        });
        // The compaction gives that pageblock up, and finds another one.
        let block = ask(frames, Order::HUGE).unwrap();
        let pageblock = isolated.lock().unwrap().unwrap();
        assert_ne!(block.pfn(), pageblock.start());
        assert!(pageblock.core().state().is_isolated());
        unisolate(frames, pageblock).unwrap();
        assert_sound(frames);
        drop(block);
        assert_all_back(frames, &pages);
    };
    run();
    let wrong = || mutant::with(Mutant::OneIsolationForAll, run);
    assert!(catch_unwind(AssertUnwindSafe(wrong)).is_err(), "not caught");
}
