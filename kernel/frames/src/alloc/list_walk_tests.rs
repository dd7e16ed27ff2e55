//! The zone that a walk takes from, and what it leaves there.

use crate::{testing::*, *};

const NORMAL: ZoneId = zone(0, ZoneKind::Normal);
const DMA32: ZoneId = zone(0, ZoneKind::Dma32);

/// Scatters the free frames of a zone, so that no two of them make a block.
fn scatter(frames: &'static TestFrames, id: ZoneId) -> Vec<TestBlock> {
    let take = || frames.alloc_in_zone(ContextKind::Task, id, Order::ZERO, test_owner(1));
    let all = std::iter::from_fn(take).collect::<Vec<_>>();
    let (freed, kept) = all
        .into_iter()
        .partition::<Vec<_>, _>(|block| block.pfn().0 % 2 == 0);
    drop(freed);
    frames.drain_all(&task());
    kept
}

#[test]
fn a_zone_that_gives_nothing_is_passed_over() {
    let frames = small_machine(1);
    let kept = scatter(frames, NORMAL);
    let request = Request::nowait(Order::COSTLY);
    // On the fast path NORMAL is above LOW, and has no such block.
    let mut info = WalkInfo::default();
    let block = frames.alloc_traced(&task(), &request, &mut info).unwrap();
    assert_eq!(
        (frames.zone_of(block.pfn()), info.slow),
        (Some(DMA32), false)
    );
    drop(block);
    // On the slow path, the zone that has such a block is below LOW.
    let info = frames.zone_info(DMA32);
    let low = info.low + info.reserve[ZoneKind::Normal as usize];
    let of_dma = press(frames, zone(0, ZoneKind::Dma), 0);
    let held = press(frames, DMA32, low + 4);
    let mut info = WalkInfo::default();
    let block = frames.alloc_traced(&task(), &request, &mut info);
    assert!(info.slow);
    let found = block.as_ref().map(|block| frames.zone_of(block.pfn()));
    assert_eq!(found, Ok(Some(DMA32)));
    drop((block, held, of_dma, kept));
    frames.drain_all(&task());
    assert_sound(frames);
}

#[test]
fn a_larger_order_leaves_the_watermark_as_well() {
    for (more, comes) in [(7, false), (8, true)] {
        let frames = small_machine(1);
        let others = [ZoneKind::Dma, ZoneKind::Dma32];
        let others = others.map(|kind| press(frames, zone(0, kind), 0));
        let min = frames.zone_info(NORMAL).min;
        let all = press(frames, NORMAL, 0);
        // One run of eight frames is freed, and other frames alone.
        let (mut runs, rest): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|block| block.order() == Order::MAX);
        let mut parts = vec![runs.pop().unwrap()];
        while let Some(at) = parts.iter().position(|part| part.order() > Order::COSTLY) {
            let (lower, upper) = parts.swap_remove(at).split().unwrap();
            parts.extend([lower, upper]);
        }
        let mut left = min + more;
        while left >= 8 {
            drop(parts.pop());
            left -= 8;
        }
        let mut singles = vec![parts.pop().unwrap()];
        while let Some(at) = singles.iter().position(|part| part.order() > Order::ZERO) {
            let (lower, upper) = singles.swap_remove(at).split().unwrap();
            singles.extend([lower, upper]);
        }
        singles.truncate(8 - left as usize);
        frames.drain_all(&task());
        assert_eq!(frames.zone_info(NORMAL).free, min + more);
        let block = frames.alloc(&task(), &Request::nowait(Order::COSTLY));
        assert_eq!(block.is_ok(), comes, "{more} above MIN");
        drop((block, singles, parts, runs, rest, others));
        frames.drain_all(&task());
        assert_sound(frames);
    }
}

/// The list goes by nodes, so a MOVABLE zone comes after the zone that a request begins with.
#[test]
fn a_zone_higher_than_the_request_may_use_is_passed_over_on_the_slow_path() {
    let frames = two_nodes(1);
    add_section(frames, 36);
    let movable = zone(1, ZoneKind::Movable);
    frames
        .online_range(section_range(36), movable, &task())
        .unwrap();
    let held = [0, 1].map(|node| press(frames, zone(node, ZoneKind::Normal), 0));
    let mut info = WalkInfo::default();
    let request = Request::nowait(Order::ZERO).on_node(NodeId(0));
    let got = frames.alloc_traced(&task(), &request, &mut info);
    let found = got.as_ref().map(|block| frames.zone_of(block.pfn()));
    assert!(info.slow && found.is_err(), "{found:?}");
    drop((got, held));
    frames.drain_all(&task());
    assert_sound(frames);
}

#[test]
fn what_no_cache_is_for_comes_from_its_own_pageblocks_and_is_no_steal() {
    let frames = small_machine(1);
    for order in (1..=10).filter_map(Order::new) {
        drop(frames.alloc(&task(), &Request::nowait(order)).unwrap());
    }
    assert_eq!(frames.zone_events(NORMAL).steals, 0);
    assert_sound(frames);
}

#[test]
fn what_is_to_be_zero_is_zeroed_and_nothing_else() {
    let frames = small_machine(1);
    let zeroed = || std::mem::take(&mut *frames.platform().zeroed.lock().unwrap());
    for order in [Order::ZERO, Order::COSTLY, Order::HUGE] {
        for request in [Request::kernel(order), Request::movable(order)] {
            // The first request walks; the second one might get its block without a walk.
            for _ in 0..2 {
                let block = frames.alloc(&task(), &request.with(Gfp::ZERO)).unwrap();
                assert_eq!(zeroed(), [(block.pfn(), order)]);
                drop(block);
                drop(frames.alloc(&task(), &request).unwrap());
                assert_eq!(zeroed(), []);
            }
        }
    }
    let mut blocks = [const { None }; 5];
    let request = Request::kernel(Order::ZERO).with(Gfp::ZERO);
    assert_eq!(frames.alloc_bulk(&task(), &request, &mut blocks), Ok(5));
    let zeroed = zeroed();
    let came = blocks
        .iter()
        .flatten()
        .map(|block| (block.pfn(), Order::ZERO));
    assert!(came.eq(zeroed), "not each of a bulk's");
    drop(blocks);
    assert_sound(frames);
}
