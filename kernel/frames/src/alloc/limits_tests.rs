use crate::testing::*;
use crate::*;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);
const SINGLE: Order = Order::ZERO;
const QUIET: Gfp = Gfp::NOWARN;

/// Makes one node with nothing free but `normal` frames of NORMAL.
fn pressed(normal: impl Fn(&ZoneInfo) -> u64) -> (&'static TestFrames, Vec<Vec<TestBlock>>) {
    let frames = small_machine(1);
    let zones = frames.zones().collect::<Vec<_>>();
    let press = |info: &ZoneInfo| {
        let left = if info.id == NORMAL { normal(info) } else { 0 };
        press(frames, info.id, left)
    };
    let held = zones.iter().map(press).collect();
    (frames, held)
}

fn stands(frames: &TestFrames, role: MemallocRole) {
    *frames.platform().role.lock().unwrap() = Some(role);
}

/// Counts the calls of direct reclaim, which frees nothing.
fn count_reclaims(frames: &TestFrames) -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    *frames.platform().shrink.lock().unwrap() = Some(Box::new(move |_, _, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        0
    }));
    calls
}

/// Counts the calls of the OOM hook, which returns `outcome`.
fn count_ooms(frames: &TestFrames, outcome: OomOutcome) -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    *frames.platform().oom.lock().unwrap() = Some(Box::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        outcome
    }));
    calls
}

/// How much of MIN each request leaves, in sixteenths; MIN is a multiple of 16. A task that may
/// block is last, and the test sees what it takes before it fails.
const TABLE: [(&str, Gfp, MemallocRole, u64); 16] = [
    (
        "no discount without HIGH",
        Gfp::NOWAIT,
        MemallocRole::Ordinary,
        16,
    ),
    (
        "nor for one that can wait",
        Gfp::KERNEL,
        MemallocRole::Ordinary,
        16,
    ),
    (
        "half for HIGH",
        Gfp(Gfp::KERNEL.0 | Gfp::HIGH.0),
        MemallocRole::Ordinary,
        8,
    ),
    (
        "three eighths for HIGH that cannot block",
        Gfp::ATOMIC,
        MemallocRole::Ordinary,
        6,
    ),
    (
        "NOMEMALLOC keeps half of HIGH that cannot block",
        Gfp(Gfp::ATOMIC.0 | Gfp::NOMEMALLOC.0),
        MemallocRole::Ordinary,
        8,
    ),
    (
        "MEMALLOC ignores the watermarks",
        Gfp::MEMALLOC,
        MemallocRole::Ordinary,
        0,
    ),
    (
        "even one that may block",
        Gfp(Gfp::KERNEL.0 | Gfp::MEMALLOC.0),
        MemallocRole::Ordinary,
        0,
    ),
    (
        "NOMEMALLOC comes before MEMALLOC",
        Gfp(Gfp::MEMALLOC.0 | Gfp::NOMEMALLOC.0),
        MemallocRole::Ordinary,
        16,
    ),
    ("a victim halves MIN", Gfp::NOWAIT, MemallocRole::Victim, 8),
    ("also if it can wait", Gfp::KERNEL, MemallocRole::Victim, 8),
    (
        "a victim halves what HIGH leaves",
        Gfp(Gfp::KERNEL.0 | Gfp::HIGH.0),
        MemallocRole::Victim,
        4,
    ),
    (
        "a victim halves what an atomic request leaves",
        Gfp::ATOMIC,
        MemallocRole::Victim,
        3,
    ),
    (
        "NOMEMALLOC takes a victim's share back",
        Gfp(Gfp::NOWAIT.0 | Gfp::NOMEMALLOC.0),
        MemallocRole::Victim,
        16,
    ),
    (
        "a reclaimer ignores the watermarks",
        Gfp::KERNEL,
        MemallocRole::Reclaimer,
        0,
    ),
    (
        "NOMEMALLOC takes a reclaimer's share back",
        Gfp(Gfp::KERNEL.0 | Gfp::NOMEMALLOC.0),
        MemallocRole::Reclaimer,
        16,
    ),
    (
        "MEMALLOC is more than a victim's share",
        Gfp::MEMALLOC,
        MemallocRole::Victim,
        0,
    ),
];

#[test]
fn every_discount_on_min_goes_as_far_down_as_the_table_says_and_no_further() {
    for (what, gfp, role, sixteenths) in TABLE {
        let part = |zone: &ZoneInfo| {
            // Each step is rounded up to a frame, as the watermark itself.
            let half = |watermark: u64| watermark - watermark / 2;
            match sixteenths {
                16 => zone.min,
                8 => half(zone.min),
                6 => half(zone.min) - half(zone.min) / 4,
                4 => half(half(zone.min)),
                3 => half(half(zone.min) - half(zone.min) / 4),
                _ => 0,
            }
        };
        let (frames, held) = pressed(|zone| part(zone) + 1);
        stands(frames, role);
        let request = Request::new(gfp | Gfp::NORETRY | QUIET, SINGLE);
        let first = frames.alloc(&task(), &request);
        assert!(first.is_ok(), "{what}: refused above its share");
        let second = frames.alloc(&task(), &request);
        assert!(second.is_err(), "{what}: goes below its share");
        drop((first, held));
        assert_sound(frames);
    }
}

#[test]
fn a_handler_has_not_the_standing_of_the_task_that_it_interrupts() {
    for role in [MemallocRole::Victim, MemallocRole::Reclaimer] {
        let (frames, held) = pressed(|zone| zone.min);
        stands(frames, role);
        let request = Request::nowait(SINGLE);
        assert!(frames.alloc(&hard_irq(), &request).is_err());
        assert!(frames.alloc(&nmi(), &request).is_err());
        drop(held);
        assert_sound(frames);
    }
}

#[test]
fn lowmem_reserves_are_kept_from_everybody_but_who_ignores_the_watermarks() {
    let frames = small_machine(1);
    let dma = frames.zone_info(zone(0, ZoneKind::Dma));
    let reserve = dma.reserve[ZoneKind::Normal as usize];
    assert!(reserve > dma.min);
    let left = |id| match id == dma.id {
        true => reserve + dma.min / 4,
        false => 0,
    };
    let zones = frames.zones().collect::<Vec<_>>();
    let held = zones
        .iter()
        .map(|info| press(frames, info.id, left(info.id)));
    let held = held.collect::<Vec<_>>();
    let atomic = Request::new(Gfp::ATOMIC | QUIET, SINGLE);
    assert!(frames.alloc(&task(), &atomic).is_err());
    assert!(frames.alloc(&task(), &atomic.with(Gfp::DMA)).is_ok());
    assert!(frames.alloc(&task(), &atomic.with(Gfp::MEMALLOC)).is_ok());
    drop(held);
    assert_sound(frames);
}

#[test]
fn a_reclaimer_does_not_reclaim_inside() {
    for (gfp, role) in [
        (Gfp::KERNEL | Gfp::MEMALLOC, MemallocRole::Ordinary),
        (
            Gfp::KERNEL | Gfp::MEMALLOC | Gfp::NOMEMALLOC,
            MemallocRole::Ordinary,
        ),
        (Gfp::KERNEL, MemallocRole::Reclaimer),
    ] {
        let (frames, held) = pressed(|_| 0);
        stands(frames, role);
        let (reclaims, ooms) = (
            count_reclaims(frames),
            count_ooms(frames, OomOutcome::NoVictim),
        );
        assert!(
            frames
                .alloc(&task(), &Request::new(gfp | QUIET, SINGLE))
                .is_err()
        );
        assert_eq!(reclaims.load(Ordering::Relaxed), 0, "{gfp:?}");
        assert_eq!(ooms.load(Ordering::Relaxed), 0, "{gfp:?}");
        drop(held);
        assert_sound(frames);
    }
}

#[test]
fn a_victim_that_has_had_its_share_fails_instead_of_going_round() {
    for gfp in [Gfp::KERNEL, Gfp::KERNEL | Gfp::NOMEMALLOC] {
        let (frames, held) = pressed(|_| 0);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        *frames.platform().oom.lock().unwrap() = Some(Box::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            // The requester is the victim.
            stands(frames, MemallocRole::Victim);
            OomOutcome::VictimKilled
        }));
        assert!(
            frames
                .alloc(&task(), &Request::new(gfp | QUIET, SINGLE))
                .is_err()
        );
        // With NOMEMALLOC it has no share, and need not go round for it.
        let expected = if gfp == Gfp::KERNEL { 2 } else { 1 };
        assert_eq!(calls.load(Ordering::Relaxed), expected, "{gfp:?}");
        drop(held);
        assert_sound(frames);
    }
}

#[test]
fn a_request_that_becomes_a_victim_is_fed_by_its_share() {
    let (frames, held) = pressed(|zone| zone.min);
    *frames.platform().oom.lock().unwrap() = Some(Box::new(|_| {
        stands(frames, MemallocRole::Victim);
        OomOutcome::VictimKilled
    }));
    let block = frames.alloc(&task(), &Request::kernel(SINGLE));
    assert!(block.is_ok());
    drop((block, held));
    assert_sound(frames);
}

#[test]
fn nofail_takes_half_of_min_and_leaves_the_rest() {
    let (frames, held) = pressed(|zone| zone.min - zone.min / 2 + 1);
    let shared = Mutex::new(held);
    let ooms = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ooms);
    *frames.platform().oom.lock().unwrap() = Some(Box::new(move |_| {
        if counted.fetch_add(1, Ordering::Relaxed) == 3 {
            shared.lock().unwrap().clear();
        }
        OomOutcome::NoVictim
    }));
    let nofail = Request::kernel(SINGLE).with(Gfp::NOFAIL);
    let first = frames.alloc(&task(), &nofail).unwrap();
    assert_eq!(ooms.load(Ordering::Relaxed), 1);
    let second = frames.alloc(&task(), &nofail).unwrap();
    assert_eq!(ooms.load(Ordering::Relaxed), 4);
    drop((first, second));
    assert_sound(frames);
}

#[test]
fn the_last_try_before_oom_takes_what_is_above_high_and_nothing_else() {
    for (above, spared) in [(1, true), (0, false)] {
        let (frames, held) = pressed(|zone| zone.high + above);
        let take = || frames.alloc_in_zone(ContextKind::Task, NORMAL, SINGLE, test_owner(1));
        let mut singles = std::iter::from_fn(take).collect::<Vec<_>>();
        let ooms = count_ooms(frames, OomOutcome::NoVictim);
        let hook = at_points(move |point| {
            if point == Point::SlowCheckOom {
                // The victim of another task frees memory at the last moment.
                singles.clear();
                frames.drain_all(&task());
            }
        });
        let block = frames.alloc(&task(), &Request::kernel(SINGLE));
        assert_eq!(block.is_ok(), spared);
        assert_eq!(ooms.load(Ordering::Relaxed) == 0, spared);
        drop((hook, block, held));
        assert_sound(frames);
    }
}

#[test]
fn rounds_of_reclaim_end_where_the_modifiers_say() {
    let costly = Order::new(4).unwrap();
    let cases = [
        ("NORETRY: one round", Gfp::NORETRY, SINGLE, 1, 0),
        ("a costly order: one round", Gfp::NONE, costly, 1, 0),
        (
            "RETRY_MAYFAIL: all of them, no OOM",
            Gfp::RETRY_MAYFAIL,
            SINGLE,
            17,
            0,
        ),
        ("even for a costly order", Gfp::RETRY_MAYFAIL, costly, 17, 0),
        (
            "nothing said: all of them, and OOM",
            Gfp::NONE,
            Order::COSTLY,
            17,
            1,
        ),
        ("THISNODE: no OOM", Gfp::THISNODE, SINGLE, 17, 0),
        ("low zones only: no OOM", Gfp::DMA, SINGLE, 17, 0),
    ];
    for (what, gfp, order, rounds, ooms) in cases {
        let (frames, held) = pressed(|_| 0);
        frames
            .platform()
            .reclaimable
            .store(1 << 20, Ordering::Relaxed);
        let reclaims = count_reclaims(frames);
        let oom = count_ooms(frames, OomOutcome::NoVictim);
        let request = Request::kernel(order).with(gfp | QUIET);
        assert!(frames.alloc(&task(), &request).is_err());
        assert_eq!(reclaims.load(Ordering::Relaxed), rounds, "{what}");
        assert_eq!(oom.load(Ordering::Relaxed), ooms, "{what}");
        drop(held);
        assert_sound(frames);
    }
}

#[test]
fn progress_starts_the_count_of_rounds_anew_but_not_for_a_costly_order() {
    let costly = Order::new(4).unwrap();
    for (order, gfp, rounds) in [
        (SINGLE, Gfp::NONE, 40 + 17),
        (costly, Gfp::RETRY_MAYFAIL, 17),
    ] {
        let (frames, held) = pressed(|_| 0);
        frames
            .platform()
            .reclaimable
            .store(1 << 20, Ordering::Relaxed);
        let reclaims = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reclaims);
        *frames.platform().shrink.lock().unwrap() = Some(Box::new(move |_, _, _| {
            // Another CPU takes what is freed.
            usize::from(counted.fetch_add(1, Ordering::Relaxed) < 40)
        }));
        assert!(
            frames
                .alloc(&task(), &Request::kernel(order).with(gfp | QUIET))
                .is_err()
        );
        assert_eq!(reclaims.load(Ordering::Relaxed), rounds);
        drop(held);
        assert_sound(frames);
    }
}

#[test]
fn nobody_goes_round_when_not_even_everything_reclaimable_would_do() {
    let (frames, held) = pressed(|_| 0);
    let reclaims = count_reclaims(frames);
    let min = frames.zone_info(NORMAL).min as usize;
    frames.platform().reclaimable.store(min, Ordering::Relaxed);
    let request = Request::kernel(SINGLE).with(QUIET);
    assert!(frames.alloc(&task(), &request).is_err());
    assert_eq!(reclaims.load(Ordering::Relaxed), 1);
    frames
        .platform()
        .reclaimable
        .store(min + 1, Ordering::Relaxed);
    assert!(frames.alloc(&task(), &request).is_err());
    assert_eq!(reclaims.load(Ordering::Relaxed), 1 + 17);
    drop(held);
    assert_sound(frames);
}

#[test]
fn a_request_that_no_zone_may_serve_fails_without_reclaim_or_oom() {
    let frames = small_machine(1);
    let (reclaims, ooms) = (
        count_reclaims(frames),
        count_ooms(frames, OomOutcome::NoVictim),
    );
    let nowhere = Request::kernel(SINGLE).with(QUIET).among(NodeMask::NONE);
    assert!(frames.alloc(&task(), &nowhere).is_err());
    assert_eq!(reclaims.load(Ordering::Relaxed), 0);
    assert_eq!(ooms.load(Ordering::Relaxed), 0);
    assert_eq!(frames.platform().wakes.load(Ordering::Relaxed), 0);
    assert_sound(frames);
}

#[test]
fn reclaimers_are_woken_on_the_nodes_that_the_request_may_use_and_only_if_it_says_so() {
    let only = |node| NodeMask::only(NodeId(node));
    for (gfp, among, nodes) in [
        (Gfp::ATOMIC, NodeMask::ALL, vec![0, 1]),
        (Gfp::ATOMIC, only(1), vec![1]),
        (Gfp::ATOMIC | Gfp::THISNODE, NodeMask::ALL, vec![0]),
        (Gfp::HIGH, NodeMask::ALL, vec![]),
        (
            Gfp::KERNEL.without(Gfp::KSWAPD_RECLAIM),
            NodeMask::ALL,
            vec![],
        ),
    ] {
        let frames = two_nodes(1);
        let held = [0, 1].map(|node| press(frames, zone(node, ZoneKind::Normal), 0));
        let request = Request::new(gfp | QUIET, SINGLE)
            .on_node(NodeId(0))
            .among(among);
        assert!(frames.alloc(&task(), &request).is_err());
        let mut woken = frames.platform().woken.lock().unwrap().clone();
        woken.sort();
        woken.dedup();
        assert_eq!(
            woken,
            nodes.into_iter().map(NodeId).collect::<Vec<_>>(),
            "{gfp:?}"
        );
        drop(held);
        assert_sound(frames);
    }
}

#[test]
fn a_reclaimer_that_has_been_asked_and_has_not_begun_is_not_asked_again() {
    for asked in 0..4 {
        let frames = two_nodes(1);
        let held = [0, 1].map(|node| press(frames, zone(node, ZoneKind::Normal), 0));
        frames.platform().asked.store(asked, Ordering::Relaxed);
        let request = Request::new(Gfp::ATOMIC | QUIET, SINGLE).on_node(NodeId(0));
        assert!(frames.alloc(&task(), &request).is_err());
        let woken = frames.platform().woken.lock().unwrap().clone();
        let expected = NodeMask(3).without(NodeMask(asked));
        assert_eq!(woken, expected.iter().collect::<Vec<_>>());
        drop(held);
        assert_sound(frames);
    }
}

#[test]
fn nomemalloc_keeps_an_atomic_block_out_of_the_high_atomic_reserve() {
    use crate::zone::high_atomic::HighAtomic;
    let two = Order::new(1).unwrap();
    let of = HighAtomic::of;
    assert_eq!(of(Gfp::ATOMIC, two), HighAtomic::Usable);
    assert_eq!(of(Gfp::ATOMIC | Gfp::NOMEMALLOC, two), HighAtomic::Spared);
    assert_eq!(of(Gfp::ATOMIC, SINGLE), HighAtomic::Spared);
    assert_eq!(of(Gfp::KERNEL | Gfp::HIGH, two), HighAtomic::Spared);
    assert_eq!(of(Gfp::NOWAIT, two), HighAtomic::Spared);
}

/// Each round asks the reclaimers again, unless the request's flags forbid it.
#[test]
fn rounds_wake_reclaimers_only_for_who_says_so() {
    for (gfp, is_woken) in [
        (Gfp::KERNEL, true),
        (Gfp::KERNEL.without(Gfp::KSWAPD_RECLAIM), false),
    ] {
        let (frames, held) = pressed(|_| 0);
        let platform = frames.platform();
        platform.reclaimable.store(1 << 20, Ordering::Relaxed);
        let request = Request::new(gfp | QUIET, SINGLE);
        assert!(frames.alloc(&task(), &request).is_err());
        // The begin asks once, and so does each round after the first one.
        let expected = if is_woken { 17 } else { 0 };
        assert_eq!(platform.wakes.load(Ordering::Relaxed), expected);
        drop(held);
        assert_sound(frames);
    }
}
