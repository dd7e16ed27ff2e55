use crate::testing::*;
use crate::*;

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);

fn places(count: usize) -> Vec<Option<TestBlock>> {
    std::iter::repeat_with(|| None).take(count).collect()
}

fn sorted(blocks: &[Option<TestBlock>]) -> Vec<u64> {
    let mut frames = blocks
        .iter()
        .flatten()
        .flat_map(|block| block.pfn().0..block.pfn().0 + block.order().frames())
        .collect::<Vec<_>>();
    frames.sort_unstable();
    frames
}

#[test]
fn a_bulk_fills_the_empty_places_and_leaves_the_others() {
    let frames = small_machine(1);
    let request = Request::atomic(Order::ZERO).owned_by(test_owner(3));
    let mut blocks = places(200);
    let own = frames
        .alloc_in_zone(ContextKind::Task, NORMAL, Order::ZERO, test_owner(1))
        .unwrap();
    let pfn = own.pfn();
    blocks[77] = Some(own);
    assert_eq!(frames.alloc_bulk(&nmi(), &request, &mut blocks), Ok(199));
    assert_eq!(blocks[77].as_ref().unwrap().pfn(), pfn);
    let mut taken = sorted(&blocks);
    taken.dedup();
    assert_eq!(taken.len(), 200);
    let owned_by = |owner| {
        blocks
            .iter()
            .flatten()
            .filter(|b| b.owner() == owner)
            .count()
    };
    assert_eq!(owned_by(test_owner(3)), 199);
    assert_eq!(assert_sound(frames).allocated, 200);
    assert_eq!(frames.alloc_bulk(&nmi(), &request, &mut blocks), Ok(0));
    assert_eq!(frames.free_bulk(&mut blocks), 200);
    assert!(blocks.iter().all(Option::is_none));
    assert_eq!(frames.free_bulk(&mut blocks), 0);
    assert_eq!(assert_sound(frames).allocated, 0);
}

#[test]
fn a_bulk_takes_of_a_cache_what_it_has_places_for() {
    let frames = small_machine(1);
    let single = frames.alloc_in_zone(ContextKind::Task, NORMAL, Order::ZERO, test_owner(1));
    // The refill brought more.
    drop(single);
    let cached = frames.zone_info(NORMAL).cached;
    let request = Request::nowait(Order::ZERO).owned_by(test_owner(3));
    let mut blocks = places(3);
    assert!(cached > 3);
    assert_eq!(frames.alloc_bulk(&task(), &request, &mut blocks), Ok(3));
    assert_eq!(frames.zone_info(NORMAL).cached, cached - 3);
    assert_eq!(assert_sound(frames).allocated, 3);
    drop(blocks);
    assert_sound(frames);
}

#[test]
fn larger_blocks_come_and_go_in_bulk() {
    let frames = small_machine(1);
    let before = assert_sound(frames).free;
    for order in (1..=10).filter_map(Order::new) {
        let mut blocks = places(5);
        let request = Request::kernel(order).owned_by(test_owner(1));
        assert_eq!(frames.alloc_bulk(&task(), &request, &mut blocks), Ok(5));
        let mut taken = sorted(&blocks);
        taken.dedup();
        assert_eq!(taken.len() as u64, 5 * order.frames());
        assert_sound(frames);
        assert_eq!(frames.free_bulk(&mut blocks), 5);
        frames.drain_all(&task());
        assert_eq!(assert_sound(frames).free, before);
    }
}

#[test]
fn a_bulk_stops_at_the_low_watermark_and_says_how_many_came() {
    let frames = small_machine(1);
    let request = Request::atomic(Order::ZERO).with(Gfp::THISNODE);
    let above = |info: &ZoneInfo| info.free - info.low - info.reserve[2];
    let expected: u64 = frames.zones().map(|info| above(&info)).sum();
    let mut blocks = places(expected as usize + 1_000);
    let came = frames.alloc_bulk(&hard_irq(), &request, &mut blocks);
    assert_eq!(came, Ok(expected as usize));
    assert!(blocks[came.unwrap()..].iter().all(Option::is_none));
    // Nothing above LOW is left, so one block comes by the slow path.
    let mut more = places(8);
    assert_eq!(frames.alloc_bulk(&hard_irq(), &request, &mut more), Ok(1));
    let nobody = Request::new(Gfp::NOWAIT | Gfp::DMA, Order::MAX);
    let refused = frames.alloc_bulk(&hard_irq(), &nobody, &mut places(2));
    let order = Order::MAX;
    assert_eq!(refused, Err(AllocError::NoMemory { order }));
    frames.free_bulk(&mut more);
    frames.free_bulk(&mut blocks);
    assert_sound(frames);
}

#[test]
fn frames_of_one_word_go_back_past_the_cache_in_any_order_and_strays_into_it() {
    let frames = small_machine(1);
    frames.drain_all(&task());
    let word = frames
        .alloc_in_zone(
            ContextKind::Task,
            NORMAL,
            Order::new(6).unwrap(),
            test_owner(1),
        )
        .unwrap();
    let mut parts = vec![word];
    while let Some(at) = parts.iter().position(|part| part.order() > Order::ZERO) {
        let (lower, upper) = parts.swap_remove(at).split().unwrap();
        parts.extend([lower, upper]);
    }
    parts.sort_by_key(|part| part.pfn().0 * 29 % 64);
    let mut blocks = parts.into_iter().map(Some).collect::<Vec<_>>();
    let stray = frames
        .alloc_in_zone(ContextKind::Task, NORMAL, Order::MAX, test_owner(1))
        .unwrap();
    blocks.insert(20, Some(stray));
    blocks[3] = None;
    assert_eq!(frames.free_bulk(&mut blocks), 64);
    // Only the frame that was dropped alone, and the large block, are cached.
    assert_eq!(frames.zone_info(NORMAL).cached, 1 + 1_024);
    assert_sound(frames);
}

#[test]
fn a_block_freed_behind_a_bulks_back_is_reported_and_the_others_are_freed() {
    let frames = small_machine(1);
    let mut blocks = places(8);
    let request = Request::kernel(Order::ZERO);
    frames.drain_all(&task());
    assert_eq!(frames.alloc_bulk(&task(), &request, &mut blocks), Ok(8));
    let twice = blocks[4].as_ref().unwrap().pfn();
    frames.free_single(twice, frames.books_of(twice).unwrap());
    assert_eq!(frames.free_bulk(&mut blocks), 8);
    let faults = std::mem::take(&mut *frames.platform().faults.lock().unwrap());
    let faults = faults.iter().map(|fault| (fault.fault, fault.pfn));
    assert_eq!(
        faults.collect::<Vec<_>>(),
        [(FreeFault::DoubleFreeCached, twice)]
    );
    assert_eq!(assert_sound(frames).allocated, 0);
}

#[test]
fn a_bulk_freed_into_an_isolated_pageblock_stays_there() {
    let frames = small_machine(1);
    let mut blocks = places(64);
    let request = Request::kernel(Order::ZERO).owned_by(test_owner(1));
    frames.alloc_bulk(&task(), &request, &mut blocks).unwrap();
    let range = section_range(32);
    let mut blocks = Some(blocks);
    let _hook = at_points(move |point| {
        if point == Point::OfflineScanned {
            frames.free_bulk(&mut blocks.take().into_iter().flatten().collect::<Vec<_>>());
            assert_eq!(frames.zone_info(NORMAL).free, 0);
        }
    });
    frames.offline_range(range, u64::MAX, &task()).unwrap();
    assert_sound(frames);
}
