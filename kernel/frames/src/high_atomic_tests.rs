use crate::testing::*;
use crate::*;

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);
const ORDER: Order = Order::COSTLY;

/// One CPU and Normal of 256 MiB, of which two areas may be kept; taken down to `free` of its marks.
fn pressed(free: impl Fn(&ZoneInfo) -> u64) -> (&'static TestFrames, Vec<TestBlock>) {
    let frames = bare_machine(1, 1);
    for block in [32, 33] {
        add_block(frames, block);
        frames
            .online_range(block_range(block), NORMAL, &task())
            .unwrap();
    }
    let mut held = Vec::new();
    let left = free(&frames.zone_info(NORMAL));
    for order in [Order::HUGE, ORDER, Order::ZERO] {
        while frames.zone_info(NORMAL).free >= left + order.frames() {
            held.extend(frames.alloc_in_zone(ContextKind::Task, NORMAL, order, test_owner(1)));
            frames.drain_all(&task());
        }
    }
    (frames, held)
}

fn atomic(frames: &'static TestFrames) -> Result<TestBlock, AllocError> {
    let request = Request::atomic(ORDER)
        .with(Gfp::NOWARN)
        .owned_by(test_owner(2));
    frames.alloc(&hard_irq(), &request)
}

fn kept(frames: &TestFrames) -> u64 {
    frames.zone_info(NORMAL).high_atomic
}

#[test]
fn an_atomic_block_on_the_slow_path_puts_its_area_into_the_reserve_up_to_a_hundredth() {
    let (frames, held) = pressed(|zone| zone.low);
    let single = frames
        .alloc(&hard_irq(), &Request::atomic(Order::ZERO))
        .unwrap();
    let waits = Request::kernel(ORDER).with(Gfp::HIGH | Gfp::NORETRY);
    let waits = frames.alloc(&task(), &waits).unwrap();
    assert_eq!(kept(frames), 0);
    let blocks = std::iter::from_fn(|| atomic(frames).ok()).collect::<Vec<_>>();
    assert!(blocks.len() > 30);
    assert_eq!(kept(frames), 1024);
    assert_sound(frames);
    drop((held, single, waits, blocks));
    assert_sound(frames);
}

#[test]
fn what_is_kept_is_not_free_for_others_and_comes_first_for_those_it_is_kept_for() {
    let (frames, held) = pressed(|zone| zone.low);
    let first = atomic(frames).unwrap();
    let area = first.pfn().0 / 512;
    assert_eq!(kept(frames), 512);
    let in_area = |block: &TestBlock| block.pfn().0 / 512 == area;
    // Below the mark without the kept frames, above it with them.
    let nowait = Request::nowait(Order::ZERO);
    let others = std::iter::from_fn(|| frames.alloc(&task(), &nowait).ok());
    let others = others.collect::<Vec<_>>();
    assert!(!others.iter().any(in_area));
    let info = frames.zone_info(NORMAL);
    let unusable = u64::from(frames.area(area).unwrap().core().state().free());
    assert_eq!(info.free - unusable, info.min);
    let second = atomic(frames).unwrap();
    assert!(in_area(&second));
    drop((held, first, others, second));
    assert_sound(frames);
}

#[test]
fn single_frames_of_the_reserve_are_not_cached() {
    let (frames, held) = pressed(|zone| zone.low);
    let block = atomic(frames).unwrap();
    drop(held);
    frames.drain_all(&task());
    let mut parts = vec![block];
    while let Some(at) = parts.iter().position(|part| part.order() > Order::ZERO) {
        let (lower, upper) = parts.swap_remove(at).split().unwrap();
        parts.extend([lower, upper]);
    }
    drop(parts);
    assert_eq!(frames.zone_info(NORMAL).cached, 0);
    assert_sound(frames);
}

#[test]
fn whole_areas_of_the_reserve_are_not_taken_as_huge_blocks() {
    let (frames, held) = pressed(|zone| zone.low);
    let block = atomic(frames).unwrap();
    let area = block.pfn().0 / 512;
    drop((block, held));
    frames.drain_all(&task());
    assert_eq!(kept(frames), 512);
    for order in [Order::MAX, Order::HUGE] {
        let request = Request::nowait(order);
        let all = std::iter::from_fn(|| frames.alloc(&task(), &request).ok());
        let all = all.collect::<Vec<_>>();
        let hits = |block: &TestBlock| {
            let start = block.pfn().0 / 512;
            (start..start + order.frames() / 512).contains(&area)
        };
        assert!(all.len() > 50 && !all.iter().any(hits));
    }
    assert_sound(frames);
}

#[test]
fn the_reserve_is_given_back_before_anybody_is_killed() {
    let (frames, held) = pressed(|zone| zone.low);
    let blocks = std::iter::from_fn(|| atomic(frames).ok()).collect::<Vec<_>>();
    drop(blocks);
    assert_eq!(kept(frames), 1024);
    *frames.platform().oom.lock().unwrap() = Some(Box::new(|_| panic!("killed")));
    let kernel = Request::kernel(Order::ZERO).owned_by(test_owner(3));
    let mut others = Vec::new();
    while kept(frames) > 0 {
        others.push(frames.alloc(&task(), &kernel).unwrap());
        assert!(others.len() < 4_000);
    }
    assert!(frames.zone_info(NORMAL).free >= frames.zone_info(NORMAL).min);
    drop((held, others));
    assert_sound(frames);
}

#[test]
fn an_area_that_leaves_leaves_the_reserve() {
    let (frames, held) = pressed(|zone| zone.low);
    let blocks = std::iter::from_fn(|| atomic(frames).ok()).collect::<Vec<_>>();
    drop((held, blocks));
    assert_eq!(kept(frames), 1024);
    for block in [32, 33] {
        frames
            .offline_range(block_range(block), 0, &task())
            .unwrap();
        assert_sound(frames);
    }
    assert_eq!(kept(frames), 0);
}
