//! Tests of the verdicts, on states that are made up. The recorded runs are judged in
//! record_tests.rs.

use super::super::state::{Page, Walk};
use super::*;

fn entry(zone: &str, index: i64) -> Entry {
    Entry {
        zone: zone.to_owned(),
        index,
        node: 0,
        free: 1000,
    }
}

/// A play whose window was reached, and whose request got a page of `zone`.
fn state(zone: &str, index: i64) -> State {
    let mut state = State {
        highest: 2,
        before: vec![entry("DMA32", 1)],
        at_go: vec![entry("Movable", 3), entry("DMA32", 1)],
        walks: vec![Walk {
            after: true,
            ..Walk::default()
        }],
        page: Some(Page {
            zone: zone.to_owned(),
            index,
            ..Page::default()
        }),
        ..State::default()
    };
    state.request.asleep = true;
    state.request.go = true;
    state.request.done = true;
    state
}

/// A stale walk from entry 1, and one from `start` that finds the page.
fn served_from(start: i64) -> Vec<Walk> {
    let stale = Walk {
        after: true,
        start: 1,
        fresh: true,
        ..Walk::default()
    };
    let served = Walk {
        n: 1,
        start,
        got: Some("DMA32".to_owned()),
        ..stale.clone()
    };
    vec![stale, served]
}

fn verdict(hazard: Hazard, state: &State) -> LabVerdict {
    judge(hazard, state).verdict
}

#[test]
fn a_page_above_the_highest_zone_fails() {
    assert_eq!(verdict(Hazard::H10, &state("Movable", 3)), Fails);
    assert_eq!(verdict(Hazard::H10, &state("DMA32", 1)), Holds);
    let mut none = state("DMA32", 1);
    none.page = None;
    assert_eq!(verdict(Hazard::H10, &none), NotReached);
}

#[test]
fn nothing_holds_or_fails_outside_the_window() {
    for hazard in HAZARDS {
        let changes: [fn(&mut State); 4] = [
            |state| state.request.asleep = false,
            |state| state.request.go = false,
            |state| state.at_go = state.before.clone(),
            |state| state.walks.clear(),
        ];
        for change in changes {
            let mut state = state("Movable", 3);
            state.request.stale = 1000;
            state.request.rounds_after = 1000;
            state.request.oom_fresh = 1;
            assert_eq!(verdict(hazard, &state), Fails, "{}", hazard.name());
            change(&mut state);
            assert_eq!(verdict(hazard, &state), NotReached, "{}", hazard.name());
        }
    }
}

#[test]
fn a_request_that_goes_round_fails_and_one_that_starts_anew_holds() {
    let mut play = state("DMA32", 1);
    assert_eq!(verdict(Hazard::H8, &play), NotReached);
    play.walks = served_from(0);
    (
        play.request.stale,
        play.request.walks,
        play.request.rounds_after,
    ) = (1, 2, 12);
    assert_eq!(verdict(Hazard::H8, &play), Holds);
    // The stale start itself had a page.
    play.walks = served_from(1);
    assert_eq!(verdict(Hazard::H8, &play), NotReached);
    assert_eq!(verdict(Hazard::H1, &play), NotReached);
    // The log does not have the last walk.
    play.walks = served_from(0);
    play.request.walks = 3;
    assert_eq!(verdict(Hazard::H8, &play), NotReached);
    (play.request.stale, play.request.rounds_after) = (ENDLESS + 1, ENDLESS + 1);
    assert_eq!(verdict(Hazard::H8, &play), Fails);
}

#[test]
fn a_kill_or_a_failure_with_memory_free_fails() {
    let mut play = state("DMA32", 1);
    assert_eq!(verdict(Hazard::H1, &play), NotReached);
    play.walks = served_from(0);
    (play.request.stale, play.request.walks) = (1, 2);
    assert_eq!(verdict(Hazard::H1, &play), Holds);
    play.request.oom = 1;
    play.request.oom_fresh = 1;
    assert_eq!(verdict(Hazard::H1, &play), Fails);
    play.request.oom_fresh = 0;
    play.page = None;
    assert_eq!(verdict(Hazard::H1, &play), Fails);
}
