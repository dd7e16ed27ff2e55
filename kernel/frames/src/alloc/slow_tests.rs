use crate::testing::*;
use crate::*;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);

/// Takes every zone down to `free` of its watermarks.
fn press_all(frames: &'static TestFrames, free: impl Fn(&ZoneInfo) -> u64) -> Vec<Vec<TestBlock>> {
    let zones = frames.zones().collect::<Vec<_>>();
    let press = |info: &ZoneInfo| press(frames, info.id, free(info).min(info.free));
    zones.iter().map(press).collect()
}

fn alloc(
    frames: &'static TestFrames,
    request: &Request,
) -> (Result<TestBlock, AllocError>, WalkInfo) {
    let mut info = WalkInfo::default();
    let result = frames.alloc_traced(&task(), request, &mut info);
    (result, info)
}

const SINGLE: Order = Order::ZERO;

#[test]
fn a_request_above_the_low_watermark_never_sees_the_protocol() {
    let frames = small_machine(1);
    // The hot path reads the list without a check of the counter.
    let _hook = at_points(|point| match point {
        Point::NoteEntry | Point::FirstNoted { .. } => {}
        _ => panic!("reached {point:?}"),
    });
    let (block, info) = alloc(frames, &Request::atomic(SINGLE));
    assert_eq!(info, WalkInfo::default());
    drop(block);
}

#[test]
fn between_min_and_low_the_slow_path_succeeds_and_wakes_the_reclaimer() {
    let frames = small_machine(1);
    let held = press_all(frames, |zone| zone.low + zone.reserve[2]);
    let (block, info) = alloc(frames, &Request::atomic(SINGLE));
    assert!(block.is_ok());
    assert!(info.slow && !info.odd && !info.overlapped);
    assert!(frames.platform().wakes.load(Ordering::Relaxed) > 0);
    drop((block, held));
    assert_sound(frames);
}

#[test]
fn an_atomic_failure_is_reported_unless_it_asked_for_silence() {
    let frames = small_machine(1);
    let held = press_all(frames, |_| 0);
    let (result, info) = alloc(frames, &Request::atomic(SINGLE));
    assert_eq!(result.unwrap_err(), AllocError::NoMemory { order: SINGLE });
    let reports = frames.platform().failed.lock().unwrap().clone();
    assert_eq!((reports.len(), reports[0].walk), (1, info));
    assert!(alloc(frames, &Request::nowait(SINGLE)).0.is_err());
    assert_eq!(frames.platform().failed.lock().unwrap().len(), 1);
    drop(held);
    assert_sound(frames);
}

#[test]
fn direct_reclaim_frees_what_the_request_then_gets() {
    let frames = small_machine(1);
    let held = Arc::new(Mutex::new(press_all(frames, |_| 0)));
    let shared = Arc::clone(&held);
    *frames.platform().shrink.lock().unwrap() = Some(Box::new(move |_, highest, want| {
        assert_eq!(highest, ZoneKind::Normal);
        let of_normal = &mut shared.lock().unwrap()[2];
        let keep = of_normal.len().saturating_sub(want);
        of_normal
            .drain(keep..)
            .map(|block| block.order().frames() as usize)
            .sum()
    }));
    let (block, info) = alloc(frames, &Request::kernel(SINGLE));
    assert!(block.is_ok() && info.slow);
    drop(block);
    held.lock().unwrap().clear();
    assert_sound(frames);
}

#[test]
fn what_lies_in_another_cpus_cache_is_found_before_anything_is_given_up() {
    let frames = small_machine(2);
    let spare = |zone: &ZoneInfo| if zone.id == NORMAL { zone.low + 5 } else { 0 };
    let held = press_all(frames, spare);
    // CPU 1 fills its cache with all that Normal has above LOW. Then the rest is taken, down to
    // MIN.
    let cached = on_cpu(1, || {
        frames.alloc_in_zone(ContextKind::Task, NORMAL, SINGLE, test_owner(1))
    });
    let info = frames.zone_info(NORMAL);
    let take = |_| {
        frames
            .alloc_in_zone(ContextKind::Task, NORMAL, SINGLE, test_owner(1))
            .unwrap()
    };
    let rest: Vec<_> = (info.min..info.free).map(take).collect();
    let info = frames.zone_info(NORMAL);
    assert_eq!((info.free, info.cached), (info.min, 4));
    let drains = frames.platform().drains.load(Ordering::Relaxed);
    let (block, _) = alloc(frames, &Request::kernel(SINGLE).with(Gfp::NORETRY));
    assert!(block.is_ok());
    assert_eq!(frames.platform().drains.load(Ordering::Relaxed), drains + 1);
    drop((block, cached, held, rest));
    assert_sound(frames);
}

#[test]
fn sixteen_rounds_without_progress_end_in_oom_and_a_victim_feeds_the_request() {
    let frames = small_machine(1);
    let held = Arc::new(Mutex::new(press_all(frames, |_| 0)));
    frames
        .platform()
        .reclaimable
        .store(1 << 20, Ordering::Relaxed);
    let rounds = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&rounds);
    *frames.platform().shrink.lock().unwrap() = Some(Box::new(move |_, _, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        0
    }));
    let victim = Arc::clone(&held);
    *frames.platform().oom.lock().unwrap() = Some(Box::new(move |report| {
        assert_eq!(report.order, SINGLE);
        victim.lock().unwrap().clear();
        OomOutcome::VictimKilled
    }));
    let (block, _) = alloc(frames, &Request::kernel(SINGLE));
    assert!(block.is_ok());
    assert_eq!(rounds.load(Ordering::Relaxed), 17);
    drop(block);
    assert_sound(frames);
}

#[test]
fn requests_that_spare_victims_fail_instead() {
    let frames = small_machine(1);
    let held = press_all(frames, |_| 0);
    *frames.platform().oom.lock().unwrap() = Some(Box::new(|report| panic!("{report:?}")));
    for request in [
        Request::kernel(SINGLE).with(Gfp::RETRY_MAYFAIL),
        Request::kernel(SINGLE).with(Gfp::THISNODE),
        Request::kernel(SINGLE).with(Gfp::DMA32),
        Request::kernel(SINGLE).with(Gfp::NORETRY),
        Request::kernel(Order::HUGE),
    ] {
        assert!(alloc(frames, &request).0.is_err());
    }
    drop(held);
    assert_sound(frames);
}

#[test]
fn nofail_goes_round_until_memory_comes() {
    let frames = small_machine(1);
    let held = Arc::new(Mutex::new(press_all(frames, |_| 0)));
    let shared = Arc::clone(&held);
    let mut calls = 0;
    *frames.platform().oom.lock().unwrap() = Some(Box::new(move |_| {
        calls += 1;
        if calls == 5 {
            shared.lock().unwrap().clear();
        }
        OomOutcome::NoVictim
    }));
    assert!(
        alloc(frames, &Request::kernel(SINGLE).with(Gfp::NOFAIL))
            .0
            .is_ok()
    );
    assert_sound(frames);
}

#[test]
fn handlers_in_the_middle_of_a_rebuild_allocate_while_the_counter_is_odd() {
    let frames = small_machine(2);
    let held = press_all(frames, |zone| zone.low + zone.reserve[2]);
    let walks = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&walks);
    let _hook = at_points(move |point| {
        if point == Point::RebuildOdd {
            assert!(irqs_are_off());
            assert_eq!(frames.rebuild_counter() % 2, 1);
            let mut info = WalkInfo::default();
            let request = Request::atomic(SINGLE);
            drop(frames.alloc_traced(&nmi(), &request, &mut info).unwrap());
            seen.lock().unwrap().push(info);
            let mut info = WalkInfo::default();
            on_cpu(1, || {
                drop(
                    frames
                        .alloc_traced(&hard_irq(), &request, &mut info)
                        .unwrap(),
                )
            });
            seen.lock().unwrap().push(info);
            assert_eq!(frames.rebuild_counter() % 2, 1);
        }
    });
    frames.rebuild(&task());
    assert!(!irqs_are_off());
    let price = WalkInfo {
        slow: true,
        odd: true,
        overlapped: true,
        ..WalkInfo::default()
    };
    assert_eq!(*walks.lock().unwrap(), [price, price]);
    drop(held);
    assert_sound(frames);
}

#[test]
fn a_request_that_may_not_reclaim_pays_the_price_and_one_that_may_starts_again() {
    // H1: between the begin and the walk, the zone that the request would start from becomes empty.
    // NORETRY comes to the check at `nopage`, the plain request to the one before OOM.
    let no_retry = Gfp::KERNEL | Gfp::NORETRY;
    for (gfp, succeeds) in [(Gfp::NOWAIT, false), (no_retry, true), (Gfp::KERNEL, true)] {
        let frames = small_machine(1);
        *frames.platform().oom.lock().unwrap() = Some(Box::new(|_| panic!("spurious OOM")));
        let low = [ZoneKind::Dma, ZoneKind::Dma32].map(|kind| press(frames, zone(0, kind), 0));
        add_section(frames, 33);
        let movable = zone(0, ZoneKind::Movable);
        frames
            .online_range(section_range(33), movable, &task())
            .unwrap();
        let taken = press(frames, NORMAL, 0);
        let taken = Mutex::new(Some(taken));
        let mut once = true;
        let _hook = at_points(move |point| {
            if point == Point::SlowWalk && std::mem::take(&mut once) {
                // The request starts at entry 1 of [Movable, Normal, …].
                let range = section_range(33);
                frames.offline_range(range, u64::MAX, &task()).unwrap();
                taken.lock().unwrap().take();
                frames.drain_all(&task());
            }
        });
        let (result, info) = alloc(frames, &Request::new(gfp, SINGLE));
        assert_eq!(result.is_ok(), succeeds);
        assert!(info.overlapped && !info.odd);
        assert_eq!(info.retries > 0, succeeds);
        drop((result, low));
        assert_sound(frames);
    }
}

#[test]
fn direct_reclaim_flags_of_an_interrupt_do_not_act() {
    let frames = small_machine(1);
    let held = press_all(frames, |_| 0);
    *frames.platform().shrink.lock().unwrap() = Some(Box::new(|_, _, _| panic!("reclaimed")));
    let request = Request::kernel(SINGLE).with(Gfp::NOFAIL);
    assert!(frames.alloc(&hard_irq(), &request).is_err());
    drop(held);
    assert_sound(frames);
}

/// The handler may have interrupted the writer that it would wait for.
#[test]
fn a_handler_goes_round_no_odd_count_whatever_its_flags() {
    let frames = small_machine(1);
    let held = press_all(frames, |_| 0);
    let asked = Arc::new(AtomicUsize::new(0));
    let asks = Arc::clone(&asked);
    let hook = at_points(move |point| {
        if point != Point::RebuildOdd {
            return;
        }
        let mut begins = 0;
        let hook = at_points(move |point| {
            begins += u32::from(point == Point::SlowBegin);
            assert!(begins < 10, "goes round and round");
        });
        let request = Request::kernel(SINGLE).with(Gfp::NOWARN);
        assert!(frames.alloc(&hard_irq(), &request).is_err());
        drop(hook);
        asks.fetch_add(1, Ordering::Relaxed);
    });
    frames.rebuild(&task());
    drop(hook);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    drop(held);
    assert_sound(frames);
}
