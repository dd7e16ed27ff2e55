//! Small runs that are not had.

use super::*;

#[test]
fn a_small_run_that_does_not_come_free_leaves_its_area_as_it_was() {
    let mut areas = Areas::new(1, 2);
    areas.pages(3, (0..512).step_by(4));
    areas.migrate_by(|_| Err(MigrateError::Busy));
    assert!(areas.ask(Order::COSTLY).is_err());
    assert!(areas.events().compactions > 0);
    areas.assert_sound();
}

/// An offline isolates the area of a small run while a page of that is being moved.
#[test]
fn a_small_run_of_which_an_offline_has_isolated_the_area_is_not_taken() {
    let mut areas = Areas::new(1, 2);
    areas.pages(3, (0..512).step_by(4));
    let (frames, pages) = (areas.frames, Arc::clone(&areas.pages));
    let area = areas.area(3);
    areas.migrate_by(move |pfn| {
        if let Some(counted) = area.core().isolate(Isolation::Offline) {
            assert_eq!(counted, 0, "the compaction has taken it off the counter");
        }
        move_page(frames, &pages, pfn)
    });
    assert!(areas.ask(Order::COSTLY).is_err());
    let counted = area.core().unisolate(Isolation::Offline).unwrap();
    frames.gain(NORMAL, counted);
    areas.assert_sound();
}
