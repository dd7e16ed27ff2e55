use crate::base::mutant::{self, Mutant};
use crate::{testing::*, *};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);
const SINGLE: Order = Order::ZERO;
/// Free frames with which an order 9 must be found, if everything allocated can be moved.
const ENOUGH: u64 = 1_024;

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn page(number: usize) -> Owner {
    Owner::new(OwnerKind::PageCache, number as u32)
}

/// Movable blocks by number. One that found no run of its size when it was moved lies in parts.
#[derive(Default)]
struct Pages(Mutex<Vec<Vec<TestBlock>>>);

impl Pages {
    /// Makes pages that the machine's platform can move.
    fn new(frames: &'static TestFrames) -> Arc<Self> {
        let this = Arc::new(Self::default());
        let pages = Arc::clone(&this);
        *frames.platform().migrate.lock().unwrap() = Some(Box::new(move |pfn, owner| {
            pages.migrate(frames, pfn, owner)
        }));
        this
    }

    fn migrate(
        &self,
        frames: &'static TestFrames,
        from: Pfn,
        owner: Owner,
    ) -> Result<(), MigrateError> {
        let mut pages = self.0.lock().unwrap();
        let parts = &mut pages[owner.number() as usize];
        let at = parts.iter().position(|part| part.pfn() == from);
        let at = at.ok_or(MigrateError::Busy)?;
        let size = parts[at].order();
        let request = |order| {
            let request = Request::movable(order).owned_by(owner);
            request.without(Gfp::DIRECT_RECLAIM).with(Gfp::NOWARN)
        };
        let new = match frames.alloc(&task(), &request(size)) {
            Ok(whole) => vec![whole],
            Err(_) => (0..size.frames())
                .map(|_| frames.alloc(&task(), &request(SINGLE)))
                .collect::<Result<_, _>>()
                .map_err(|_| MigrateError::Busy)?,
        };
        drop(parts.swap_remove(at));
        parts.extend(new);
        Ok(())
    }

    /// Allocates a movable block; returns its number, or `None` if that failed.
    fn add(&self, frames: &'static TestFrames, size: Order) -> Option<usize> {
        let request = Request::movable(size).with(Gfp::NOWARN);
        let block = frames.alloc(&task(), &request).ok()?;
        let mut pages = self.0.lock().unwrap();
        block.set_owner(page(pages.len()));
        pages.push(vec![block]);
        Some(pages.len() - 1)
    }

    fn free(&self, number: usize) {
        let parts = std::mem::take(&mut self.0.lock().unwrap()[number]);
        drop(parts);
    }

    fn clear(&self) {
        self.0.lock().unwrap().iter_mut().for_each(Vec::clear);
    }
}

/// Makes one zone of two memory sections.
fn one_zone(cpus: usize) -> &'static TestFrames {
    let frames = bare_machine(cpus, 1);
    frames.finish_boot();
    for block in [32, 33] {
        add_section(frames, block);
        frames
            .online_range(section_range(block), NORMAL, &task())
            .unwrap();
    }
    frames
}

fn events(frames: &TestFrames) -> ZoneEvents {
    frames.zone_events(NORMAL)
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((self.0 >> 33) as usize) % limit
    }
}

/// Requests orders 0 to 9, each half as often as the one before, all movable, in a zone that is 60
/// to 80 % full. Then requests orders 9 for as long as enough is free. Returns how many orders 9
/// failed, and how many there were.
fn mix(frames: &'static TestFrames, seed: u64) -> (usize, usize) {
    let pages = Pages::new(frames);
    let mut random = Random(seed);
    let mut live = Vec::new();
    let (mut failed, mut asked) = (0, 0);
    let mut ask = |live: &mut Vec<usize>, size: Order| {
        let free = frames.zone_info(NORMAL).free;
        let got = pages.add(frames, size);
        live.extend(got);
        if size == Order::HUGE && free >= ENOUGH {
            asked += 1;
            failed += usize::from(got.is_none());
        }
        got.is_some()
    };
    let total = frames.zone_info(NORMAL).managed;
    let mut grows = true;
    for _ in 0..12_000 {
        let used = total - frames.zone_info(NORMAL).free;
        grows = if grows {
            used < total * 80 / 100
        } else {
            used <= total * 60 / 100
        };
        if grows {
            let size = (random.below(1 << 9) | 1 << 9).trailing_zeros();
            ask(&mut live, order(size as u8));
        } else {
            let number = live.swap_remove(random.below(live.len()));
            pages.free(number);
        }
    }
    while frames.zone_info(NORMAL).free >= ENOUGH && ask(&mut live, Order::HUGE) {}
    assert_sound(frames);
    pages.clear();
    frames.drain_all(&task());
    let census = assert_sound(frames);
    assert_eq!(census.free, total);
    (failed, asked)
}

#[test]
fn no_order_9_fails_while_enough_is_free_and_everything_can_be_moved() {
    for seed in [1, 2, 3] {
        let frames = one_zone(1);
        let (failed, asked) = mix(frames, seed);
        let events = events(frames);
        assert_eq!(failed, 0, "of {asked} with seed {seed}; {events:?}");
        assert!(events.compacted > 0, "nothing had to be compacted");
        assert!(events.compact_migrated > 0);
    }
    let (failed, _) = mutant::with(Mutant::NoCompaction, || mix(one_zone(1), 1));
    assert!(failed > 0, "the mix needs no compaction: it proves nothing");
}

/// Fills the zone with single pages, and frees every second one of the first 128 of each pageblock:
/// no two free frames are neighbours.
fn scatter(frames: &'static TestFrames, pages: &Pages) {
    let mut all = pages.0.lock().unwrap();
    while let Some(block) = frames.alloc_in_zone(ContextKind::Task, NORMAL, SINGLE, page(all.len()))
    {
        all.push(vec![block]);
    }
    assert_eq!(frames.zone_info(NORMAL).free, 0);
    for page in all.iter_mut() {
        if page[0].pfn().0 % 2 == 0 && page[0].pfn().0 % 512 < 128 {
            page.clear();
        }
    }
    drop(all);
    frames.drain_all(&task());
}

fn ask(frames: &'static TestFrames, size: Order) -> Result<TestBlock, AllocError> {
    let request = Request::kernel(size).owned_by(test_owner(5));
    frames.alloc(&task(), &request.with(Gfp::NOWARN))
}

/// Demands that everything is free again.
fn assert_all_back(frames: &'static TestFrames, pages: &Pages) {
    pages.clear();
    frames.drain_all(&task());
    assert_eq!(assert_sound(frames).free, frames.zone_info(NORMAL).managed);
}

#[test]
fn every_larger_order_is_found_among_scattered_frames() {
    for size in (1..=10).map(order) {
        let frames = one_zone(1);
        let pages = Pages::new(frames);
        scatter(frames, &pages);
        let before = assert_sound(frames);
        let refused = frames.alloc(&hard_irq(), &Request::kernel(size));
        assert!(refused.is_err(), "order {size} is there already");
        let block = ask(frames, size).unwrap_or_else(|e| panic!("order {size}: {e:?}"));
        assert_eq!(block.pfn().0 % size.frames(), 0);
        assert_eq!(block.owner(), test_owner(5));
        frames.drain_all(&task());
        let during = assert_sound(frames);
        assert_eq!(during.owned(OwnerKind::Test), size.frames());
        let kept = before.owned(OwnerKind::PageCache);
        assert_eq!(during.owned(OwnerKind::PageCache), kept);
        assert_eq!(
            (events(frames).compactions, events(frames).compacted),
            (1, 1)
        );
        drop(block);
        assert_all_back(frames, &pages);
    }
}

#[test]
fn a_pageblock_with_an_unmovable_frame_is_passed_over() {
    let frames = one_zone(1);
    let pages = Pages::new(frames);
    scatter(frames, &pages);
    // All pageblocks but one hold a frame that stays.
    let good = section_range(33).start.0 + 17 * 512;
    let held: Vec<TestBlock> = (section_range(32).start.0..section_range(34).start.0)
        .step_by(512)
        .filter(|&start| start != good)
        .map(|start| {
            let mut pages = pages.0.lock().unwrap();
            let frame = start + 511;
            let page = pages
                .iter_mut()
                .find(|p| p.first().is_some_and(|b| b.pfn().0 == frame));
            let block = page.unwrap().pop().unwrap();
            block.set_owner(test_owner(9));
            block
        })
        .collect();
    let block = ask(frames, Order::HUGE).unwrap();
    assert_eq!(block.pfn(), Pfn(good));
    assert_eq!(events(frames).compact_migrated, 512 - 64);
    assert!(ask(frames, Order::HUGE).is_err());
    assert_eq!(events(frames).compact_migrated, 512 - 64);
    drop((block, held));
    assert_all_back(frames, &pages);
}

#[test]
fn blocks_in_the_caches_of_other_cpus_do_not_keep_a_pageblock() {
    let frames = one_zone(2);
    let pages = Pages::new(frames);
    scatter(frames, &pages);
    let good = section_range(32).start.0 + 40 * 512;
    let in_good = |pfn: Pfn| (good..good + 512).contains(&pfn.0);
    // All frames of one pageblock are freed, as blocks that CPU 1 may cache, but one page stays.
    on_cpu(1, || {
        for parts in pages.0.lock().unwrap().iter_mut() {
            if parts
                .first()
                .is_some_and(|b| in_good(b.pfn()) && b.pfn().0 != good + 9)
            {
                parts.clear();
            }
        }
        let order = |size| Order::new(size).unwrap();
        let take =
            |size| frames.alloc_in_zone(ContextKind::Task, NORMAL, order(size), page(1 << 20));
        let blocks: Vec<_> = (0..100).filter_map(|turn| take(1 + turn % 3)).collect();
        assert!(blocks.iter().any(|block| in_good(block.pfn())));
    });
    let states = (good..good + 512).map(|pfn| frames.frame_state(Pfn(pfn)));
    assert!(states.clone().any(|state| state == FrameState::Cached));
    let block = ask(frames, Order::HUGE).unwrap();
    assert_eq!(
        (block.pfn(), events(frames).compact_migrated),
        (Pfn(good), 1)
    );
    assert_sound(frames);
    drop(block);
    assert_all_back(frames, &pages);
}

#[test]
fn what_cannot_be_moved_now_ends_in_a_failure_that_undoes_everything() {
    let give_up = || {
        let frames = one_zone(1);
        let pages = Pages::new(frames);
        scatter(frames, &pages);
        let mut calls = 0;
        let hook = frames.platform().migrate.lock().unwrap().take();
        let mut moves = hook.unwrap();
        *frames.platform().migrate.lock().unwrap() = Some(Box::new(move |pfn, owner| {
            calls += 1;
            if calls > 100 {
                Err(MigrateError::Busy)
            } else {
                moves(pfn, owner)
            }
        }));
        let before = assert_sound(frames);
        assert!(ask(frames, Order::HUGE).is_err());
        frames.drain_all(&task());
        assert_eq!(assert_sound(frames), before);
        let events = events(frames);
        assert_eq!(
            (events.compacted, events.compactions_failed()),
            (0, events.compactions)
        );
        assert_eq!(events.compact_migrated, 100);
        assert_all_back(frames, &pages);
    };
    give_up();
    let wrong = || mutant::with(Mutant::CompactionStaysIsolated, give_up);
    assert!(catch_unwind(AssertUnwindSafe(wrong)).is_err(), "not caught");
}

#[test]
fn interrupts_at_every_step_of_a_compaction_find_and_leave_sound_books() {
    let frames = one_zone(2);
    let pages = Pages::new(frames);
    scatter(frames, &pages);
    let held = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&held);
    let freed = Arc::new(AtomicU32::new(0));
    let page = Arc::clone(&freed);
    let victims = Arc::clone(&pages);
    let hook = at_steps(move || {
        let mut held = theirs.lock().unwrap();
        let request = Request::atomic(SINGLE).with(Gfp::NOWARN);
        if held.len() < 40 {
            held.extend(frames.alloc(&nmi(), &request.owned_by(test_owner(7))));
        } else {
            held.clear();
        }
        // A page that may lie in the run is freed by its owner.
        if let Ok(mut pages) = victims.0.try_lock() {
            pages[page.fetch_add(1, Ordering::Relaxed) as usize].clear();
        }
    });
    let blocks: Vec<_> = [9, 4, 10, 7]
        .map(|size| ask(frames, order(size)).unwrap())
        .into();
    drop(hook);
    let freed = freed.load(Ordering::Relaxed);
    assert!(freed > 300, "{freed}");
    assert_sound(frames);
    drop(blocks);
    held.lock().unwrap().clear();
    assert_all_back(frames, &pages);
}

/// Runs `happens` while a page of the pageblock that a compaction has isolated is being moved.
fn while_moving(frames: &'static TestFrames, mut happens: impl FnMut(Pfn) + Send + 'static) {
    let mut moves = frames.platform().migrate.lock().unwrap().take().unwrap();
    let mut count = 0;
    *frames.platform().migrate.lock().unwrap() = Some(Box::new(move |pfn, owner| {
        count += 1;
        if count == 50 {
            happens(pfn);
        }
        moves(pfn, owner)
    }));
}

#[test]
fn an_offline_that_ends_during_a_compaction_leaves_its_isolation_alone() {
    let run = || {
        let frames = one_zone(1);
        let pages = Pages::new(frames);
        scatter(frames, &pages);
        while_moving(frames, move |pfn| {
            // This does what an offline that fails does: it isolates the pageblock, and undoes
            // that.
            let (pageblock, _) = frames.pageblock_of(pfn).unwrap();
            let free = frames.zone_info(NORMAL).free;
            assert_eq!(isolate(frames, pageblock), Some(0));
            assert_eq!(unisolate(frames, pageblock), Some(0));
            assert_eq!(frames.zone_info(NORMAL).free, free);
        });
        let block = ask(frames, Order::HUGE).unwrap();
        assert_sound(frames);
        drop(block);
        assert_all_back(frames, &pages);
    };
    run();
    let wrong = || mutant::with(Mutant::OneIsolationForAll, run);
    assert!(catch_unwind(AssertUnwindSafe(wrong)).is_err(), "not caught");
}

#[test]
fn tasks_compact_at_once_while_a_block_goes_and_comes() {
    let frames = one_zone(3);
    let pages = Pages::new(frames);
    scatter(frames, &pages);
    let stop = AtomicBool::new(false);
    let got = AtomicU32::new(0);
    let total = frames.zone_info(NORMAL).managed;
    let set_threaded =
        |cpu: usize, is| frames.platform().threaded[cpu].store(is, Ordering::Release);
    (0..3).for_each(|cpu| set_threaded(cpu, true));
    std::thread::scope(|scope| {
        for cpu in [1, 2] {
            let (stop, got) = (&stop, &got);
            scope.spawn(move || {
                on_cpu(cpu, || {
                    let mut held = Vec::new();
                    for round in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let size = order([9, 4, 9, 10][round % 4]);
                        if let Ok(block) = ask(frames, size) {
                            got.fetch_add(1, Ordering::Relaxed);
                            held.push(block);
                        }
                        if held.len() > 3 {
                            held.clear();
                        }
                    }
                });
                set_threaded(cpu, false);
            });
        }
        // This thread is CPU 0. When it is done, or has panicked, the others may run its handlers.
        let _ended = OnDrop(|| {
            set_threaded(0, false);
            stop.store(true, Ordering::Relaxed);
        });
        let mut left = 0;
        for _ in 0..12 {
            let range = PfnRange::new(
                section_range(33).start,
                Pfn(section_range(33).start.0 + 4096),
            );
            let deadline = frames.platform().now_ns() + 3_000_000;
            if frames.offline_range(range, deadline, &task()).is_ok() {
                left += 1;
                frames.online_range(range, NORMAL, &task()).unwrap();
            }
        }
        assert!(left > 0, "nothing left");
    });
    assert!(got.load(Ordering::Relaxed) > 10);
    assert_eq!(frames.zone_info(NORMAL).managed, total);
    assert_all_back(frames, &pages);
}

#[path = "compact_busy_tests.rs"]
mod busy;
