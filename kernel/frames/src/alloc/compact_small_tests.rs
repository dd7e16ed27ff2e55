//! Small runs that a compaction cannot take, and whole pageblocks that it takes instead.

use super::*;

#[test]
fn a_small_run_that_does_not_come_free_leaves_its_pageblock_as_it_was() {
    let mut pageblocks = Pageblocks::new(1, 2);
    pageblocks.pages(3, (0..512).step_by(4));
    pageblocks.migrate_by(|_| Err(MigrateError::Busy));
    assert!(pageblocks.ask(Order::COSTLY).is_err());
    assert!(pageblocks.events().compactions > 0);
    pageblocks.assert_sound();
}

/// An offline isolates the pageblock of a small run while a page of it is being moved.
#[test]
fn a_small_run_of_which_an_offline_has_isolated_the_pageblock_is_not_taken() {
    let mut pageblocks = Pageblocks::new(1, 2);
    pageblocks.pages(3, (0..512).step_by(4));
    let (frames, pages) = (pageblocks.frames, Arc::clone(&pageblocks.pages));
    let pageblock = pageblocks.pageblock(3);
    pageblocks.migrate_by(move |pfn| {
        if let Some(counted) = isolate(frames, pageblock) {
            assert_eq!(counted, 0, "the compaction has taken it off the counter");
        }
        move_page(frames, &pages, pfn)
    });
    assert!(pageblocks.ask(Order::COSTLY).is_err());
    unisolate(frames, pageblock).unwrap();
    pageblocks.assert_sound();
}

#[test]
fn a_whole_pageblock_is_for_blocks_of_the_request_that_it_was_emptied_for() {
    for size in [Order::HUGE, Order::MAX] {
        let mut pageblocks = Pageblocks::new(1, 2);
        for pageblock in [2, 3] {
            pageblocks.pages(pageblock, 0..5);
        }
        let block = pageblocks.ask(size).unwrap();
        let (first, _) = pageblocks.frames.pageblock_of(block.pfn()).unwrap();
        assert_eq!(first.migrate_type(), MigrateType::Unmovable);
        if size == Order::MAX {
            assert_eq!(first.upper().migrate_type(), MigrateType::Unmovable);
        }
        pageblocks.assert_sound();
    }
}
