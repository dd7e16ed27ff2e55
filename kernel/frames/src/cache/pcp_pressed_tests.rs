//! An interrupt at every step of requests in a zone that is short of memory: compaction, the
//! reserve, steals, and frees that complete a pageblock.

use super::*;
use std::sync::{Arc, Mutex};

const QUARTER: u8 = 7;

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn page(number: u32) -> Owner {
    Owner::new(OwnerKind::PageCache, number)
}

/// Pages that the platform can move. The others stay in use.
type Pages = Arc<Mutex<Vec<TestBlock>>>;

/// A pageblock for movable blocks with a page in each quarter. The rest of the zone is taken.
struct Pageblock {
    pages: Pages,
    held: Vec<TestBlock>,
}

impl Drop for Pageblock {
    fn drop(&mut self) {
        self.pages.lock().unwrap().clear();
    }
}

/// The other pageblocks of the zone.
#[derive(Clone, Copy, PartialEq)]
enum Others {
    Held,
    /// In four of them every second run of order 6 is free, among unmovable blocks.
    Scattered,
}

/// Takes the zone but for one pageblock. In `movable` of its quarters the page can be moved; in the
/// others it cannot be moved now.
fn movable_pageblock(run: &Run, movable: usize, others: Others) -> Pageblock {
    let frames = run.frames;
    run.quiet.set(true);
    run.is_pressed.set(true);
    frames.drain_all(&task());
    let huge = |owner| frames.alloc_in_zone(ContextKind::Task, NORMAL, Order::HUGE, owner);
    let pageblock = huge(page(0)).unwrap();
    let scattered = (0..4).map(|_| huge(test_owner(5)).unwrap());
    let scattered = scattered.collect::<Vec<_>>();
    let mut held = Vec::new();
    // The loop goes down to order 3: a steal comes only if nothing of the own migrate type is left.
    for size in (3..=9).rev().map(order) {
        held.extend(std::iter::from_fn(|| try_take(frames, size)));
        frames.drain_all(&task());
    }
    for block in scattered {
        match others {
            Others::Held => held.push(block),
            Others::Scattered => {
                for quarter in parts(block, order(QUARTER)) {
                    held.push(quarter.split().unwrap().0);
                }
            }
        }
    }
    let pages = Pages::default();
    for (number, quarter) in parts(pageblock, order(QUARTER)).into_iter().enumerate() {
        let mut single = quarter;
        while single.order() > Order::ZERO {
            single = single.split().unwrap().0;
        }
        single.set_owner(page(number as u32));
        match number < movable {
            true => pages.lock().unwrap().push(single),
            false => held.push(single),
        }
    }
    let moved = Arc::clone(&pages);
    let migrate = move |pfn, owner| move_page(frames, &moved, pfn, owner);
    *frames.platform().migrate.lock().unwrap() = Some(Box::new(migrate));
    frames.drain_all(&task());
    run.quiet.set(false);
    Pageblock { pages, held }
}

fn parts(block: TestBlock, size: Order) -> Vec<TestBlock> {
    let mut parts = vec![block];
    while parts[0].order() > size {
        let halves = parts.into_iter().flat_map(|part| {
            let (lower, upper) = part.split().unwrap();
            [lower, upper]
        });
        parts = halves.collect();
    }
    parts
}

fn move_page(
    frames: &'static TestFrames,
    pages: &Mutex<Vec<TestBlock>>,
    from: Pfn,
    owner: Owner,
) -> Result<(), MigrateError> {
    let mut pages = pages.lock().unwrap();
    let at = pages.iter().position(|page| page.pfn() == from);
    let at = at.ok_or(MigrateError::Busy)?;
    let request = Request::movable(Order::ZERO).owned_by(owner);
    let request = request.without(Gfp::DIRECT_RECLAIM).with(Gfp::NOWARN);
    let new = frames.alloc(&task(), &request);
    pages[at] = new.map_err(|_| MigrateError::Busy)?;
    Ok(())
}

fn events(run: &Run) -> ZoneEvents {
    run.frames.zone_events(NORMAL)
}

/// Makes a request that may compact; returns its block, if it got one.
fn compact(run: &Run, size: Order) -> Option<TestBlock> {
    let request = Request::kernel(size).owned_by(test_owner(5));
    let request = request.with(Gfp::NORETRY | Gfp::NOWARN);
    run.frames.alloc(&task(), &request).ok()
}

/// Frees without an interrupt.
fn give_back(run: &Run, what: impl Sized) {
    run.quiet.set(true);
    drop(what);
    run.frames.drain_all(&task());
    *run.frames.platform().migrate.lock().unwrap() = None;
}

fn compacted(run: &Run, size: Order) {
    let pageblock = movable_pageblock(run, 4, Others::Scattered);
    let before = events(run).compacted;
    let block = compact(run, size);
    assert!(block.is_some(), "{:?}", events(run));
    assert!(events(run).compacted > before, "it was there already");
    give_back(run, (block, pageblock));
}

const WORK: [(&str, Work); 5] = [
    ("a compaction of a pageblock", |run| {
        compacted(run, Order::HUGE)
    }),
    ("a compaction of a quarter, which is stolen", |run| {
        compacted(run, order(QUARTER));
    }),
    ("a compaction that gives up", |run| {
        let pageblock = movable_pageblock(run, 2, Others::Scattered);
        let before = events(run).compactions_failed();
        let block = compact(run, Order::HUGE);
        assert!(block.is_none());
        assert!(events(run).compactions_failed() > before);
        give_back(run, pageblock);
    }),
    ("a steal", |run| {
        let pageblock = movable_pageblock(run, 4, Others::Held);
        let before = events(run).steals;
        let block = try_take(run.frames, Order::COSTLY);
        let more = try_take(run.frames, order(6));
        assert!(events(run).steals > before);
        give_back(run, (block, more, pageblock));
    }),
    (
        "frees that complete pageblocks, across the watermarks",
        |run| {
            let mut pageblock = movable_pageblock(run, 4, Others::Held);
            let largest = |block: &TestBlock| block.order() == Order::HUGE;
            let at = pageblock.held.iter().position(largest).unwrap();
            let (lower, upper) = pageblock.held.swap_remove(at).split().unwrap();
            let at = pageblock.held.iter().position(largest).unwrap();
            let whole = pageblock.held.swap_remove(at);
            drop((lower, upper, whole));
            give_back(run, pageblock);
        },
    ),
];

#[test]
fn any_interrupt_may_come_at_any_step_of_a_compaction_or_a_steal() {
    enumerate_one(&WORK);
}

/// Makes a zone of a hundred pageblocks, so that one may be in the reserve, and takes it down below
/// MIN. The blocks taken for that are not freed.
fn with_reserve() -> &'static TestFrames {
    let frames = bare_machine(1, 1);
    add_section(frames, 32);
    add_section(frames, 33);
    let start = section_range(32).start;
    let range = PfnRange::new(start, Pfn(start.0 + 51_200));
    frames.online_range(range, NORMAL, &task()).unwrap();
    let held = press(frames, NORMAL, frames.zone_info(NORMAL).min * 3 / 4);
    held.into_iter().for_each(|block| _ = block.leak());
    frames
}

fn kept(run: &Run) -> u64 {
    run.frames.zone_info(NORMAL).high_atomic
}

fn atomic(run: &Run) -> Option<TestBlock> {
    let request = Request::atomic(Order::COSTLY).with(Gfp::NOWARN);
    let request = request.owned_by(test_owner(2));
    run.frames.alloc(&hard_irq(), &request).ok()
}

/// Makes a request that fails, and makes the reserve give back a pageblock before.
fn give_reserve_back(run: &Run) {
    let request = Request::kernel(Order::ZERO).with(Gfp::RETRY_MAYFAIL | Gfp::NOWARN);
    let block = run.frames.alloc(&task(), &request);
    assert!(block.is_err());
    assert_eq!(kept(run), 0);
}

const RESERVE: [(&str, Work); 3] = [
    ("an atomic block whose pageblock joins the reserve", |run| {
        run.is_pressed.set(true);
        let block = atomic(run);
        assert!(block.is_some() && kept(run) == 512);
        run.quiet.set(true);
        drop(block);
        give_reserve_back(run);
    }),
    ("an atomic block out of the reserve, and back", |run| {
        run.quiet.set(true);
        run.is_pressed.set(true);
        drop(atomic(run));
        assert_eq!(kept(run), 512);
        run.quiet.set(false);
        let block = atomic(run);
        assert!(block.is_some());
        drop(block);
        run.quiet.set(true);
        give_reserve_back(run);
    }),
    ("a reserve that is given back", |run| {
        run.quiet.set(true);
        run.is_pressed.set(true);
        drop(atomic(run));
        assert_eq!(kept(run), 512);
        run.quiet.set(false);
        give_reserve_back(run);
    }),
];

#[test]
fn any_interrupt_may_come_at_any_step_of_the_reserve() {
    enumerate_on(with_reserve(), &RESERVE);
}
