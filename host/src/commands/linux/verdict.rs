//! Turns the state of a play on Linux into a verdict, by the words of our own laboratory.
//!
//! `holds` needs the trace that shows the window reached: the request slept in its direct reclaim,
//! the list was another one when it went on, and it walked again. What else a hazard asks for is
//! said at its function.

use tidemark_wire::{Hazard, LabVerdict};

use super::state::{Entry, State};
use LabVerdict::{Fails, Holds, NotReached};

/// Rounds without a page, while a walk from the first entry would find one, after which a request
/// is said to go round for ever. It is the limit of our own laboratory as well.
pub const ENDLESS: i64 = 64;

/// The hazards that are played on Linux, in the order in which they are.
pub const HAZARDS: [Hazard; 3] = [Hazard::H10, Hazard::H8, Hazard::H1];

/// A verdict, with what happened in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub verdict: LabVerdict,
    pub how: String,
}

/// Judges a play by the last state that the module told.
pub fn judge(hazard: Hazard, state: &State) -> Judged {
    let (verdict, how) = match missing(state) {
        Some(why) => (NotReached, why),
        None => match hazard {
            Hazard::H10 => misplaced(state),
            Hazard::H8 => endless(state),
            _ => given_up(state),
        },
    };
    Judged { verdict, how }
}

/// Says what of the window, which is every hazard's, the trace does not show.
fn missing(state: &State) -> Option<String> {
    let request = &state.request;
    let why = if !request.asleep {
        "the request never slept in direct reclaim"
    } else if !request.go {
        "the request was not let go"
    } else if same(&state.before, &state.at_go) {
        "the list was the same when the request went on"
    } else if !state.walks.iter().any(|walk| walk.after) {
        "the request did not walk again"
    } else {
        return None;
    };
    Some(why.to_owned())
}

fn same(before: &[Entry], after: &[Entry]) -> bool {
    let places = |list: &[Entry]| -> Vec<(i64, i64)> {
        list.iter().map(|entry| (entry.index, entry.node)).collect()
    };
    places(before) == places(after)
}

/// H10: the request got a page of a zone that it may not use.
fn misplaced(state: &State) -> (LabVerdict, String) {
    let stale = state.walks.iter().find(|walk| walk.after);
    let start = stale.map(|walk| format!("its next walk starts at entry {}", walk.start));
    let start = start.unwrap_or_default();
    match &state.page {
        Some(page) if page.index > state.highest => (
            Fails,
            format!(
                "{start}, where {} is now, and takes a page of it; the request may use zones up to \
                 index {} and {} has {}",
                page.zone, state.highest, page.zone, page.index
            ),
        ),
        Some(page) => (
            Holds,
            format!("{start}, and it gets a page of {}", page.zone),
        ),
        None => (NotReached, "the request got no page".to_owned()),
    }
}

/// H8: reclaim reports progress, and the request goes round from a stale start for ever. `holds`
/// needs a walk from such a start.
fn endless(state: &State) -> (LabVerdict, String) {
    let (rounds, stale) = (state.request.rounds_after, state.request.stale);
    if stale > ENDLESS && rounds > ENDLESS {
        let line = format!(
            "{stale} walks in {rounds} rounds find nothing, where a walk from the first entry would; \
             it ends because reclaim stops reporting progress"
        );
        return (Fails, line);
    }
    match (&state.page, stale) {
        (Some(page), 1..) => match served_by_stale_walk(state) {
            Some(why) => (NotReached, why),
            None => (
                Holds,
                format!(
                    "{stale} stale walks find nothing, then a fresh one gets a page of {}",
                    page.zone
                ),
            ),
        },
        (Some(_), _) => (NotReached, "no walk started at a stale entry".to_owned()),
        (None, _) => (NotReached, "the request got no page".to_owned()),
    }
}

/// Says so if the walk that found the page started where the stale ones did: then the request ended
/// by the memory there, and not by starting anew.
fn served_by_stale_walk(state: &State) -> Option<String> {
    let stale = state
        .walks
        .iter()
        .find(|walk| walk.after && walk.fresh && walk.got.is_none())?;
    let last = state.walks.last()?;
    let is_last = last.n + 1 == state.request.walks;
    (!is_last || last.got.is_none() || last.start == stale.start).then(|| {
        format!(
            "a walk from entry {}, where the stale ones started, found the page",
            stale.start
        )
    })
}

/// H1: reclaim reports no progress, and the request gives up, or kills a process, although a fresh
/// walk would find a page. `holds` needs a walk from a stale start.
fn given_up(state: &State) -> (LabVerdict, String) {
    let request = &state.request;
    if request.oom_fresh > 0 {
        let line = format!(
            "the out-of-memory killer is called {} times although a walk from the first entry would find a page",
            request.oom_fresh
        );
        return (Fails, line);
    }
    if let (Some(_), 1.., Some(why)) = (&state.page, request.stale, served_by_stale_walk(state)) {
        return (NotReached, why);
    }
    match (&state.page, request.stale) {
        (Some(page), stale @ 1..) => (
            Holds,
            format!(
                "{stale} stale walks find nothing, {}, and the request gets a page of {}",
                match request.oom {
                    0 => "a check before the out-of-memory killer starts anew".to_owned(),
                    calls => format!("the out-of-memory killer is called {calls} times"),
                },
                page.zone
            ),
        ),
        (Some(_), _) => (NotReached, "no walk started at a stale entry".to_owned()),
        (None, 1..) if request.done => (
            Fails,
            "the request fails although a walk from the first entry would find a page".to_owned(),
        ),
        (None, _) => (NotReached, "the request got no page".to_owned()),
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
