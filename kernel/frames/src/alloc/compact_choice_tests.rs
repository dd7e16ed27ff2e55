//! The pageblock that a compaction empties, how long it tries, and what other code does to it
//! meanwhile.

use super::tests_hook::isolate_and_give_up;
use crate::pageblock::{bits::Isolation, migrate_type::MigrateType};
use crate::{testing::*, *};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::{Arc, Mutex, atomic::Ordering},
};

const NORMAL: ZoneId = zone(0, ZoneKind::Normal);
const MOVABLE: ZoneId = zone(0, ZoneKind::Movable);
const FIRST: usize = 16;
/// Pageblocks that give the zone free frames, but no run for a larger block.
const SLACK: std::ops::Range<usize> = 40..50;

type Pages = Arc<Mutex<BTreeMap<u64, TestBlock>>>;

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn page(number: u32) -> Owner {
    Owner::new(OwnerKind::PageCache, number)
}

/// Makes NORMAL of `sections` memory sections. Its protocol tests every entry of a walk (H10), so
/// that only the compaction can bring a frame of another zone.
fn machine(cpus: usize, sections: usize) -> &'static TestFrames {
    let frames = bare_machine_of(cpus, 1, Variant::Snapshot);
    for section in FIRST..FIRST + sections {
        add_section(frames, section);
        frames
            .online_range(section_range(section), NORMAL, &task())
            .unwrap();
    }
    frames
}

/// A zone in which each pageblock is one block of order 9, but for those that are broken up.
struct Pageblocks {
    frames: &'static TestFrames,
    whole: Vec<Option<TestBlock>>,
    pages: Pages,
    fixed: Vec<TestBlock>,
}

impl Pageblocks {
    fn of_zone(frames: &'static TestFrames, zone: ZoneId) -> Self {
        let take = || frames.alloc_in_zone(ContextKind::Task, zone, Order::HUGE, page(0));
        let mut whole = std::iter::from_fn(take).collect::<Vec<_>>();
        whole.sort_by_key(TestBlock::pfn);
        Self {
            frames,
            whole: whole.into_iter().map(Some).collect(),
            pages: Pages::default(),
            fixed: Vec::new(),
        }
    }

    /// Makes NORMAL of `blocks` memory sections. In [`SLACK`] a frame in eight stays in use.
    fn new(cpus: usize, blocks: usize) -> Self {
        let mut this = Self::of_zone(machine(cpus, blocks), NORMAL);
        for pageblock in SLACK {
            this.keep(pageblock, (0..512).step_by(8), test_owner(1));
        }
        this.moves();
        this
    }

    /// Breaks a pageblock up; these frames stay in use.
    fn keep(&mut self, pageblock: usize, frames: impl IntoIterator<Item = u64>, owner: Owner) {
        let mut parts = vec![self.whole[pageblock].take().unwrap()];
        let start = parts[0].pfn().0;
        let kept = frames.into_iter().collect::<BTreeSet<_>>();
        while let Some(part) = parts.pop() {
            let first = part.pfn().0 - start;
            if !kept
                .iter()
                .any(|f| (first..first + part.order().frames()).contains(f))
            {
                drop(part);
            } else if part.order() > Order::ZERO {
                let (lower, upper) = part.split().unwrap();
                parts.extend([lower, upper]);
            } else {
                part.set_owner(owner);
                if owner.kind().is_movable() {
                    self.pages.lock().unwrap().insert(part.pfn().0, part);
                } else {
                    self.fixed.push(part);
                }
            }
        }
        self.frames.drain_all(&task());
    }

    /// Breaks a pageblock up; these frames are pages.
    fn pages(&mut self, pageblock: usize, frames: impl IntoIterator<Item = u64>) {
        self.keep(pageblock, frames, page(1));
    }

    /// Lets pages be moved from now on.
    fn moves(&self) {
        let (frames, pages) = (self.frames, Arc::clone(&self.pages));
        self.migrate_by(move |pfn| move_page(frames, &pages, pfn));
    }

    fn migrate_by(
        &self,
        mut migrate: impl FnMut(Pfn) -> Result<(), MigrateError> + Send + 'static,
    ) {
        let hook = Box::new(move |pfn, _: Owner| migrate(pfn));
        *self.frames.platform().migrate.lock().unwrap() = Some(hook);
    }

    fn pageblock(&self, pageblock: usize) -> crate::pageblock::section_meta::PageblockRef<'static> {
        let start = section_range(FIRST).start.0 + pageblock as u64 * 512;
        self.frames.pageblock_of(Pfn(start)).unwrap().0
    }

    fn ask(&self, size: Order) -> Result<TestBlock, AllocError> {
        let request = Request::kernel(size).with(Gfp::NOWARN | Gfp::NORETRY);
        self.frames.alloc(&task(), &request.owned_by(test_owner(5)))
    }

    /// Demands that a request empties this pageblock by moving `moved` frames.
    fn expect(self, size: Order, pageblock: usize, moved: u64) -> Self {
        let block = self.ask(size).unwrap();
        assert_eq!(block.pfn(), self.pageblock(pageblock).start());
        assert_eq!(self.events().compact_migrated, moved);
        drop(block);
        self.assert_sound();
        self
    }

    fn events(&self) -> ZoneEvents {
        self.frames.zone_events(NORMAL)
    }

    fn assert_sound(&self) {
        self.frames.drain_all(&task());
        assert_sound(self.frames);
    }
}

fn move_page(frames: &'static TestFrames, pages: &Pages, pfn: Pfn) -> Result<(), MigrateError> {
    let request = Request::movable(Order::ZERO).owned_by(page(1));
    let request = request.without(Gfp::DIRECT_RECLAIM).with(Gfp::NOWARN);
    let mut pages = pages.lock().unwrap();
    let old = pages.remove(&pfn.0).ok_or(MigrateError::Busy)?;
    let new = frames.alloc(&task(), &request).unwrap();
    drop(old);
    pages.insert(new.pfn().0, new);
    Ok(())
}

#[test]
fn the_emptiest_pageblock_is_emptied_whatever_the_order_in_which_they_lie() {
    let counts = [20, 10, 30];
    for turn in 0..3 {
        let mut pageblocks = Pageblocks::new(1, 2);
        let places = [3, 5, 7];
        for (at, &place) in places.iter().enumerate() {
            pageblocks.pages(place, 0..counts[(at + turn) % 3]);
        }
        let best = places[(4 - turn) % 3];
        pageblocks.expect(Order::HUGE, best, 10);
    }
}

#[test]
fn a_pageblock_that_a_better_one_displaced_is_still_a_candidate() {
    let mut pageblocks = Pageblocks::new(1, 2);
    pageblocks.pages(3, 0..20);
    pageblocks.pages(5, 0..9);
    let stays = pageblocks
        .pages
        .lock()
        .unwrap()
        .remove(&pageblocks.pageblock(5).start().0);
    stays.as_ref().unwrap().set_owner(test_owner(1));
    pageblocks.fixed.extend(stays);
    pageblocks.expect(Order::HUGE, 3, 20);
}

#[test]
fn a_pair_is_judged_by_both_of_its_pageblocks_and_begins_with_the_lower_one() {
    let mut pageblocks = Pageblocks::new(1, 2);
    for (pageblock, pages) in [(2, 1), (3, 100), (6, 10), (7, 10), (8, 100), (9, 2)] {
        pageblocks.pages(pageblock, 0..pages);
    }
    // These are upper halves of pairs with a lower half that is taken.
    for pageblock in [11, 13, 15, 17, 19] {
        pageblocks.pages(pageblock, [0]);
    }
    pageblocks.expect(Order::MAX, 6, 20);
}

#[test]
fn pageblocks_for_unmovable_blocks_come_last() {
    for turned in [2, 3] {
        let mut pageblocks = Pageblocks::new(1, 2);
        for pageblock in [2, 3] {
            pageblocks.pages(pageblock, 0..5);
        }
        for pageblock in [6, 7] {
            pageblocks.pages(pageblock, 0..10);
        }
        let pageblock = pageblocks.pageblock(turned);
        pageblock.turn_to(pageblock.kind().turned_to(MigrateType::Unmovable));
        let pageblocks = pageblocks.expect(Order::MAX, 6, 20);
        drop(pageblocks);
    }
}

#[test]
fn pageblocks_of_the_reserve_and_of_an_offline_are_no_candidates() {
    let mut pageblocks = Pageblocks::new(1, 2);
    pageblocks.pages(3, 0..5);
    pageblocks.pages(9, 0..10);
    let kind = pageblocks.pageblock(3).kind();
    assert!(pageblocks.frames.zone(NORMAL).grow_high_atomic());
    assert!(
        pageblocks
            .pageblock(3)
            .change_kind(kind, kind.turned_to(MigrateType::HighAtomic))
    );
    // Pageblocks that are not for movable blocks come last. This one does, too, but it is no
    // better.
    let other = pageblocks.pageblock(9);
    other.turn_to(other.kind().turned_to(MigrateType::Unmovable));
    pageblocks.expect(Order::HUGE, 9, 10);

    let mut pageblocks = Pageblocks::new(1, 2);
    pageblocks.pages(9, 0..10);
    for pageblock in 3..8 {
        pageblocks.pages(pageblock, [0]);
        isolate(pageblocks.frames, pageblocks.pageblock(pageblock)).unwrap();
    }
    let block = pageblocks.ask(Order::HUGE).unwrap();
    assert_eq!(block.pfn(), pageblocks.pageblock(9).start());
    for pageblock in 3..8 {
        unisolate(pageblocks.frames, pageblocks.pageblock(pageblock)).unwrap();
    }
    pageblocks.assert_sound();
    drop(block);
}

/// Compacts while each move fails; returns how often each page was to be moved, too.
fn in_vain(error: MigrateError) -> (Pageblocks, BTreeMap<u64, u32>) {
    let mut pageblocks = Pageblocks::new(1, 2);
    for pageblock in 3..9 {
        pageblocks.pages(pageblock, 0..5);
    }
    let calls = Arc::new(Mutex::new(BTreeMap::new()));
    let counts = Arc::clone(&calls);
    pageblocks.migrate_by(move |pfn| {
        *counts.lock().unwrap().entry(pfn.0).or_insert(0) += 1;
        Err(error)
    });
    assert!(pageblocks.ask(Order::HUGE).is_err());
    pageblocks.assert_sound();
    let calls = calls.lock().unwrap().clone();
    (pageblocks, calls)
}

#[test]
fn a_compaction_gives_up_after_a_few_pageblocks_and_a_few_rounds_of_each() {
    let (pageblocks, calls) = in_vain(MigrateError::Busy);
    let of = calls.keys().map(|pfn| pfn / 512).collect::<BTreeSet<_>>();
    assert_eq!(of.len() as u32, super::TRIED);
    assert_eq!(calls.len() as u32, 5 * super::TRIED);
    // The request compacts before it reclaims and after.
    let compactions = pageblocks.events().compactions as u32;
    let rounds = compactions * super::ROUNDS;
    assert!(calls.values().all(|&calls| calls == rounds));
    let relaxes = pageblocks.frames.platform().relaxes.load(Ordering::Relaxed);
    assert!(relaxes as u32 >= super::TRIED * rounds);
}

#[test]
fn a_page_that_turns_out_to_stay_ends_the_work_on_its_pageblock_at_once() {
    let (pageblocks, calls) = in_vain(MigrateError::Unmovable);
    let compactions = pageblocks.events().compactions as u32;
    assert_eq!(calls.values().sum::<u32>(), compactions * super::TRIED);
    let relaxes = pageblocks.frames.platform().relaxes.load(Ordering::Relaxed);
    assert_eq!(relaxes, 0, "a round more is spent on it");
}

#[test]
fn rounds_that_move_something_are_not_counted() {
    let mut pageblocks = Pageblocks::new(1, 2);
    pageblocks.pages(3, 0..64);
    let (frames, pages) = (pageblocks.frames, Arc::clone(&pageblocks.pages));
    let mut calls = 0;
    pageblocks.migrate_by(move |pfn| {
        calls += 1;
        match calls % 2 {
            0 => move_page(frames, &pages, pfn),
            _ => Err(MigrateError::Busy),
        }
    });
    let pageblocks = pageblocks.expect(Order::HUGE, 3, 64);
    assert_eq!(pageblocks.events().compactions, 1);
}

/// Runs `act` once between the look at a pageblock and its isolation.
fn before_isolation(frames: &'static TestFrames, mut act: impl FnMut() + 'static) -> HookGuard {
    let mut is_over = false;
    at_steps(move || {
        if frames.compacting().load(Ordering::Relaxed) > 0 && !std::mem::replace(&mut is_over, true)
        {
            act();
        }
    })
}

#[test]
fn a_page_that_comes_free_into_a_cache_before_the_isolation_is_drained() {
    let mut pageblocks = Pageblocks::new(2, 2);
    pageblocks.pages(3, 0..5);
    let (frames, pages) = (pageblocks.frames, Arc::clone(&pageblocks.pages));
    let at = pageblocks.pageblock(3).start();
    let hook = before_isolation(frames, move || {
        on_cpu(1, || drop(pages.lock().unwrap().remove(&at.0)));
        assert_eq!(frames.frame_state(at), FrameState::Cached);
    });
    let pageblocks = pageblocks.expect(Order::HUGE, 3, 4);
    assert_eq!(pageblocks.events().compacted, 1, "had by a later drain");
    drop((hook, pageblocks));
}

#[test]
fn what_comes_free_in_a_pageblock_that_is_being_emptied_is_not_cached() {
    let mut pageblocks = Pageblocks::new(1, 2);
    pageblocks.pages(3, 0..5);
    let (frames, pages) = (pageblocks.frames, Arc::clone(&pageblocks.pages));
    let at = pageblocks.pageblock(3).start();
    pageblocks.migrate_by(move |pfn| {
        drop(pages.lock().unwrap().remove(&(at.0 + 4)));
        assert_eq!(frames.frame_state(Pfn(at.0 + 4)), FrameState::Free);
        move_page(frames, &pages, pfn)
    });
    pageblocks.expect(Order::HUGE, 3, 4);
}

#[test]
fn a_pageblock_that_has_changed_zones_before_its_isolation_is_not_taken() {
    for size in [order(4), Order::HUGE, Order::MAX] {
        let mut pageblocks = Pageblocks::new(2, 3);
        // The first candidates lie in the memory section that leaves.
        for (pageblock, distance) in [(2, 16), (3, 16), (130, 8), (131, 8)] {
            pageblocks.pages(pageblock, (0..512).step_by(distance));
        }
        let frames = pageblocks.frames;
        let pageblocks = Rc::new(RefCell::new(pageblocks));
        let theirs = Rc::clone(&pageblocks);
        let hook = before_isolation(frames, move || {
            let range = section_range(FIRST);
            let mut pageblocks = theirs.borrow_mut();
            pageblocks.whole[..64].fill_with(|| None);
            pageblocks.fixed.clear();
            let mut pages = pageblocks.pages.lock().unwrap();
            pages.retain(|&pfn, _| !range.contains(Pfn(pfn)));
            drop(pages);
            frames.offline_range(range, u64::MAX, &task()).unwrap();
            frames.online_range(range, MOVABLE, &task()).unwrap();
        });
        let request = Request::kernel(size).with(Gfp::NOWARN | Gfp::NORETRY);
        let got = frames.alloc(&task(), &request.owned_by(test_owner(5)));
        drop(hook);
        assert_eq!(frames.zone_info(MOVABLE).managed, SECTION_FRAMES as u64);
        if let Ok(block) = &got {
            assert_eq!(frames.zone_of(block.pfn()), Some(NORMAL));
        }
        pageblocks.borrow().assert_sound();
        drop(got);
    }
}

#[test]
fn pageblocks_that_a_compaction_leaves_wholly_free_are_seen_by_searches() {
    let frames = machine(1, 1);
    let free_huge = || format!("{:?}", frames.zone(NORMAL).free_huge);
    let before = free_huge();
    isolate_and_give_up(frames, FIRST, Order::HUGE);
    assert_ne!(free_huge(), before, "a search would miss it");
    assert_sound(frames);
}

#[test]
fn the_end_of_a_compaction_leaves_the_next_one_of_the_pageblock_alone() {
    let frames = machine(1, 1);
    let (pageblock, _) = frames.pageblock_of(section_range(FIRST).start).unwrap();
    let (was_isolated, is_next) = (Cell::new(false), Rc::new(Cell::new(false)));
    let next = Rc::clone(&is_next);
    let hook = at_steps(move || {
        let is_isolated = pageblock.core().state().is_isolated();
        if was_isolated.replace(is_isolated) && !is_isolated && !next.replace(true) {
            pageblock.core().isolate(Isolation::Compaction).unwrap();
            pageblock.keep_out_of_caches(true);
        }
    });
    isolate_and_give_up(frames, FIRST, Order::HUGE);
    drop(hook);
    assert!(is_next.get() && pageblock.flags().is_kept_out());
    pageblock.keep_out_of_caches(false);
    pageblock.core().unisolate(Isolation::Compaction).unwrap();
    assert_sound(frames);
}

#[test]
fn a_compaction_goes_on_behind_the_pageblocks_that_the_last_one_looked_at() {
    // One compaction goes through four windows. It ends before the last pageblock of 17 sections.
    for (blocks, pageblock, compactions) in [(5, 300, 1), (17, 1_087, 2)] {
        let mut pageblocks = Pageblocks::new(1, blocks);
        pageblocks.pages(pageblock, 0..10);
        let pageblocks = pageblocks.expect(Order::HUGE, pageblock, 10);
        let events = pageblocks.events();
        assert_eq!((events.compactions, events.compacted), (compactions, 1));
    }
}

#[test]
fn zones_below_their_watermark_are_passed_over_and_that_is_counted() {
    let frames = machine(1, 2);
    add_section(frames, 36);
    frames
        .online_range(section_range(36), MOVABLE, &task())
        .unwrap();
    let movable = Pageblocks::of_zone(frames, MOVABLE);
    let mut pageblocks = Pageblocks::of_zone(frames, NORMAL);
    for pageblock in SLACK {
        pageblocks.keep(pageblock, (0..512).step_by(8), test_owner(1));
    }
    pageblocks.pages(3, 0..5);
    pageblocks.moves();
    let request = Request::movable(Order::HUGE).with(Gfp::NOWARN | Gfp::NORETRY);
    let block = frames.alloc(&task(), &request.owned_by(page(2))).unwrap();
    assert_eq!(block.pfn(), pageblocks.pageblock(3).start());
    // These are the block, and the pages that were moved for it.
    assert_eq!(pageblocks.events().fallbacks[0], 1 + 5);
    assert_eq!(frames.zone_events(MOVABLE).compactions, 0);
    drop((block, movable));
    pageblocks.assert_sound();
}

/// Requests an order 3 among pages in every `every`th frame; one run has only a single page.
fn small_run(every: usize, request: Request) -> (Pageblocks, TestBlock) {
    let mut pageblocks = Pageblocks::new(1, 2);
    let run = 160..168;
    let pages = (0..512).step_by(every).filter(|page| !run.contains(page));
    pageblocks.pages(3, pages.chain([163]));
    let request = request.with(Gfp::NOWARN | Gfp::NORETRY);
    let block = pageblocks.frames.alloc(&task(), &request).unwrap();
    assert_eq!(block.pfn().0, pageblocks.pageblock(3).start().0 + 160);
    assert_eq!(pageblocks.events().compact_migrated, 1);
    pageblocks.assert_sound();
    (pageblocks, block)
}

#[test]
fn the_cheapest_run_is_emptied_and_the_pageblock_changes_sides_if_half_of_it_is_free() {
    let kernel = Request::kernel(Order::COSTLY).owned_by(test_owner(5));
    let (pageblocks, block) = small_run(4, kernel);
    assert_eq!(
        pageblocks.pageblock(3).migrate_type(),
        MigrateType::Unmovable
    );
    assert_eq!(pageblocks.events().steals, 1);
    drop(block);
    let (pageblocks, block) = small_run(2, kernel);
    assert_eq!(pageblocks.pageblock(3).migrate_type(), MigrateType::Movable);
    assert_eq!(pageblocks.events().steals, 1);
    drop(block);
    let movable = Request::movable(Order::COSTLY).owned_by(page(2));
    let (pageblocks, block) = small_run(4, movable);
    assert_eq!(pageblocks.pageblock(3).migrate_type(), MigrateType::Movable);
    assert_eq!(pageblocks.events().steals, 0);
    drop(block);
}

#[path = "compact_small_tests.rs"]
mod small;

#[path = "compact_caches_tests.rs"]
mod caches;
