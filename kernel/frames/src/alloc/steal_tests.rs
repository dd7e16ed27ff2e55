use crate::base::mutant::{self, Mutant};
use crate::pageblock::migrate_type::{MigrateType, Size};
use crate::testing::*;
use crate::*;

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);
const PAGE: Owner = Owner::new(OwnerKind::PageCache, 1);

/// Makes one CPU, and Normal of four pageblocks.
fn four_pageblocks() -> &'static TestFrames {
    let frames = bare_machine(1, 1);
    add_section(frames, 32);
    let start = section_range(32).start;
    let range = PfnRange::new(start, Pfn(start.0 + 2048));
    frames.online_range(range, NORMAL, &task()).unwrap();
    frames
}

fn take(frames: &'static TestFrames, order: u8, owner: Owner) -> TestBlock {
    let order = Order::new(order).unwrap();
    frames
        .alloc_in_zone(ContextKind::Task, NORMAL, order, owner)
        .unwrap()
}

fn pageblock_of(block: &TestBlock) -> u64 {
    block.pfn().0 / 512
}

fn steals(frames: &TestFrames) -> u64 {
    frames.zone_events(NORMAL).steals
}

#[test]
fn movable_and_unmovable_blocks_keep_to_their_own_pageblocks() {
    let frames = small_machine(2);
    let mut pageblocks = [const { Vec::new() }; 2];
    let mut held = Vec::new();
    for turn in 0..3_000_u64 {
        let is_movable = turn % 3 == 0;
        let order = [0, 0, 3, 0, 1, 6][turn as usize % 6];
        let base = if is_movable {
            Request::movable(Order::new(order).unwrap())
        } else {
            Request::kernel(Order::new(order).unwrap())
        };
        let block = on_cpu(turn as usize / 7 % 2, || {
            frames.alloc(&task(), &base).unwrap()
        });
        pageblocks[usize::from(is_movable)].push(pageblock_of(&block));
        held.push(block);
        if turn % 4 == 0 {
            drop(held.swap_remove(turn as usize * 31 % held.len()));
        }
    }
    assert!(
        pageblocks[0]
            .iter()
            .all(|pageblock| !pageblocks[1].contains(pageblock))
    );
    for kind in ZoneKind::ALL {
        assert_eq!(frames.zone_events(zone(0, kind)).steals, 0);
    }
    drop(held);
    assert_sound(frames);
}

#[test]
fn a_block_is_stolen_only_when_nothing_else_is_left_and_that_is_counted() {
    let frames = four_pageblocks();
    // Three pageblocks are full of unmovable words, the fourth has a movable frame.
    let page = take(frames, 0, PAGE);
    frames.drain_all(&task());
    let words = (0..24).map(|_| take(frames, 6, test_owner(1)));
    let words = words.collect::<Vec<_>>();
    assert!(
        words
            .iter()
            .all(|word| pageblock_of(word) != pageblock_of(&page))
    );
    assert_eq!(steals(frames), 0);
    let stolen = take(frames, 3, test_owner(1));
    assert_eq!(pageblock_of(&stolen), pageblock_of(&page));
    assert_eq!(steals(frames), 1);
    // More than half of the pageblock was free. So it is unmovable now, and movable requests must
    // steal.
    let next = take(frames, 3, test_owner(1));
    assert_eq!(
        (pageblock_of(&next), steals(frames)),
        (pageblock_of(&page), 1)
    );
    let other = take(frames, 0, PAGE);
    assert_eq!(
        (pageblock_of(&other), steals(frames)),
        (pageblock_of(&page), 2)
    );
    drop((page, words, stolen, next, other));
    assert_sound(frames);
}

#[test]
fn every_single_frame_can_be_had_by_either_kind() {
    for owner in [PAGE, test_owner(1)] {
        let frames = four_pageblocks();
        // This CPU's caches hold frames of both migrate types.
        for owner in [PAGE, test_owner(1)] {
            drop(take(frames, 0, owner));
        }
        assert!(frames.zone_info(NORMAL).cached >= 2);
        let take = || frames.alloc_in_zone(ContextKind::Task, NORMAL, Order::ZERO, owner);
        let all = std::iter::from_fn(take).collect::<Vec<_>>();
        assert_eq!(all.len(), 2048);
        let stolen = steals(frames);
        assert!(stolen > 0 && stolen < 512, "{stolen}");
        drop(all);
        assert_sound(frames);
    }
}

#[test]
fn a_pageblock_that_has_become_wholly_free_is_for_whoever_comes_first() {
    let frames = four_pageblocks();
    for owner in [PAGE, test_owner(1), PAGE] {
        let blocks = (0..8).map(|_| take(frames, 8, owner)).collect::<Vec<_>>();
        assert_eq!(frames.zone_info(NORMAL).free, 0);
        drop(blocks);
    }
    assert_eq!(steals(frames), 0);
    let (lower, upper) = take(frames, 9, PAGE).split().unwrap();
    drop(lower);
    // An order 9 that is split leaves a pageblock for small blocks.
    let page = take(frames, 3, PAGE);
    assert_eq!(pageblock_of(&page), pageblock_of(&upper));
    drop((page, upper));
    assert_sound(frames);
}

#[test]
fn a_movable_zone_knows_one_kind() {
    let frames = small_machine(1);
    add_section(frames, 33);
    let movable = zone(0, ZoneKind::Movable);
    frames
        .online_range(section_range(33), movable, &task())
        .unwrap();
    let take = |owner| {
        frames
            .alloc_in_zone(ContextKind::Task, movable, Order::ZERO, owner)
            .unwrap()
    };
    let (balloon, page) = (take(test_owner(1)), take(PAGE));
    assert_eq!(pageblock_of(&balloon), pageblock_of(&page));
    drop((balloon, page));
    assert_eq!(frames.zone_events(movable).steals, 0);
    assert_sound(frames);
}

/// Lets two CPUs request orders 0 to 9 in turn, each order half as often as the one before. Each
/// frees at random, between 60 and 80 % of its half, and nothing can be moved. Returns how many
/// requests failed, of order 9 and in all, and how many orders 9 there were.
fn mix(turns: u32) -> (usize, usize, usize) {
    let frames = bare_machine(2, 1);
    for block in 32..36 {
        add_section(frames, block);
        frames
            .online_range(section_range(block), NORMAL, &task())
            .unwrap();
    }
    let half = frames.zone_info(NORMAL).managed / 2;
    let mut random = 1_u64;
    let mut below = |limit: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(random) * limit as u128) >> 64) as usize
    };
    let mut cpus = [0, 1].map(|cpu| (cpu, Vec::new(), 0, true));
    let (mut failed, mut huge_failed, mut huge) = (0, 0, 0);
    for _ in 0..turns {
        for (cpu, held, used, grows) in &mut cpus {
            if *grows {
                let order = Order::new((below(512) | 512).trailing_zeros() as u8).unwrap();
                let request = Request::atomic(order).owned_by(test_owner(1));
                let block = on_cpu(*cpu, || frames.alloc(&hard_irq(), &request));
                huge += usize::from(order == Order::HUGE);
                huge_failed += usize::from(order == Order::HUGE && block.is_err());
                failed += usize::from(block.is_err());
                held.extend(block.inspect(|_| *used += order.frames()));
                *grows = *used < half * 80 / 100;
            } else {
                let block: TestBlock = held.swap_remove(below(held.len()));
                *used -= block.order().frames();
                on_cpu(*cpu, || drop(block));
                *grows = *used <= half * 60 / 100;
            }
        }
    }
    assert_sound(frames);
    drop(cpus);
    frames.drain_all(&task());
    assert_eq!(assert_sound(frames).free, 2 * half);
    (huge_failed, failed, huge)
}

#[test]
fn pageblocks_of_like_sizes_keep_enough_of_them_whole_however_long_a_mix_goes_on() {
    let (huge_failed, failed, huge) = mix(400_000);
    assert_eq!((huge_failed, failed), (0, 0), "of {huge} of order 9");
    assert!(huge > 500);
    let (failed, _, huge) = mutant::with(Mutant::SizesMix, || mix(400_000));
    assert!(
        failed > huge / 4,
        "only {failed} of {huge}: it proves nothing"
    );
}

#[test]
fn orders_have_their_sizes_and_zones_their_kinds() {
    for (order, size) in [
        (0, Size::Small),
        (3, Size::Small),
        (4, Size::Medium),
        (6, Size::Medium),
        (7, Size::Large),
        (8, Size::Large),
        (9, Size::Small),
        (10, Size::Small),
    ] {
        assert_eq!(Size::of(Order::new(order).unwrap()), size, "order {order}");
    }
    assert_eq!(MigrateType::of_owner(PAGE), MigrateType::Movable);
    assert_eq!(MigrateType::of_owner(test_owner(1)), MigrateType::Unmovable);
    let movable = zone(0, ZoneKind::Movable);
    assert_eq!(MigrateType::Unmovable.within(movable), MigrateType::Movable);
    assert_eq!(
        MigrateType::Unmovable.within(NORMAL),
        MigrateType::Unmovable
    );
}

#[test]
fn a_larger_block_is_not_made_of_a_single_frame_that_is_left_in_a_cache() {
    let frames = four_pageblocks();
    drop(take(frames, 0, PAGE));
    assert!(frames.zone_info(NORMAL).cached > 0);
    let order = Order::new(1).unwrap();
    let take = || frames.alloc_in_zone(ContextKind::Task, NORMAL, order, test_owner(1));
    let all = std::iter::from_fn(take).collect::<Vec<_>>();
    assert!(all.iter().all(|block| block.pfn().0 % 2 == 0));
    drop(all);
    frames.drain_all(&task());
    assert_sound(frames);
}

#[test]
fn a_pageblock_of_which_less_than_half_is_free_keeps_its_side() {
    let frames = four_pageblocks();
    let pages = (0..300).map(|_| take(frames, 0, PAGE)).collect::<Vec<_>>();
    frames.drain_all(&task());
    let pageblock = pageblock_of(&pages[0]);
    let words = std::iter::from_fn(|| {
        (frames.zone_info(NORMAL).free >= 276).then(|| take(frames, 6, test_owner(1)))
    });
    let words = words.collect::<Vec<_>>();
    let stolen = take(frames, 3, test_owner(1));
    assert_eq!((pageblock_of(&stolen), steals(frames)), (pageblock, 1));
    let next = take(frames, 0, PAGE);
    assert_eq!((pageblock_of(&next), steals(frames)), (pageblock, 1));
    drop((pages, words, stolen, next));
    frames.drain_all(&task());
    assert_sound(frames);
}

/// The only pageblock with free frames is for movable blocks. At any step of an unmovable request a
/// handler makes one of its own, which steals from that pageblock and converts it. There are frames
/// for both.
#[test]
fn a_request_finds_what_a_handler_has_turned_to_its_migrate_type_meanwhile() {
    for at in 0.. {
        let frames = normal_machine(1, 1);
        let page = Owner::new(OwnerKind::PageCache, 1);
        let take =
            move |order, owner| frames.alloc_in_zone(ContextKind::Task, NORMAL, order, owner);
        let movable = take(Order::ZERO, page).unwrap();
        let rest = std::iter::from_fn(|| take(Order::HUGE, test_owner(1)));
        let rest = rest.collect::<Vec<_>>();
        frames.drain_all(&task());
        let step = std::rc::Rc::new(std::cell::Cell::new(0));
        let theirs = std::rc::Rc::new(std::cell::RefCell::new(None));
        let (steps, held) = (std::rc::Rc::clone(&step), std::rc::Rc::clone(&theirs));
        let hook = at_steps(move || {
            if steps.replace(steps.get() + 1) == at {
                held.replace(take(Order::TWO, test_owner(2)));
            }
        });
        let ours = take(Order::COSTLY, test_owner(3));
        drop(hook);
        assert!(ours.is_some(), "at step {at}, with 500 frames free");
        assert!(
            step.get() <= at || theirs.borrow().is_some(),
            "at step {at}"
        );
        drop((ours, theirs.take(), movable, rest));
        frames.drain_all(&task());
        assert_sound(frames);
        if step.get() <= at {
            return;
        }
    }
}
