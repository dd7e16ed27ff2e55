//! Prints what came of the kernels.

use std::time::Duration;

use tidemark_frames::Variant;
use tidemark_wire::Hazard;

use super::packages::upstream;
use super::plays::{Pinned, Play};
use super::protocol::Steps;
use super::ready::Facts;
use super::state::{Entry, State};
use super::verdict::{Judged, judge};
use crate::judge::report::seconds;
use crate::judge::words::words;
use crate::terminal::console::{BAD, FAINT, GOOD, say};
use crate::terminal::release::{Release, release};

/// Says which kernel runs, and which protocol it has.
pub fn kernel(facts: &Facts, steps: &Steps, boot: Duration) {
    say(format!(
        "Debian's {} ({}), up after {}",
        facts.release,
        facts.version,
        seconds(boot)
    ));
    say(format!("  protocol: {}", steps.line()));
    let differs = release(upstream(&facts.version)).and_then(Release::differs);
    let differs = differs
        .map(|clause| format!(", {clause}"))
        .unwrap_or_default();
    let ours = match steps.variant().map(Variant::name) {
        Some(name) => format!("our variant {name}{differs}"),
        None => "no variant of ours".to_owned(),
    };
    say(format!("  which is {ours}"));
}

/// Returns a sign for a verdict that is expected, one for another, and none where nothing is.
fn mark(is_expected: Option<bool>) -> String {
    match is_expected {
        Some(true) => format!(" {GOOD}✓{GOOD:#}"),
        Some(false) => format!(" {BAD}✗{BAD:#}"),
        None => String::new(),
    }
}

/// Prints the verdicts of the plays of one hazard: once if they are alike.
pub fn plays(hazard: Hazard, plays: &[&Play], steps: &Steps) {
    let judged: Vec<Judged> = plays
        .iter()
        .map(|play| judge(hazard, &play.state))
        .collect();
    let Some(first) = judged.first() else {
        return;
    };
    let alike = judged
        .iter()
        .filter(|one| one.verdict == first.verdict)
        .count();
    let times = match (alike, judged.len()) {
        (_, 1) => String::new(),
        (alike, all) => format!(" {alike} of {all}"),
    };
    let is_expected = judged
        .iter()
        .filter_map(|one| steps.expects(hazard, one.verdict))
        .reduce(|all, one| all && one);
    let word = words(first.verdict);
    say(format!(
        "  {:<4}{word}{times}{}: {}",
        hazard.name(),
        mark(is_expected),
        first.how
    ));
    let others = judged.iter().filter(|one| one.verdict != first.verdict);
    for other in others {
        say(format!("      {}: {}", words(other.verdict), other.how));
    }
    if let Some(pinned) = plays.iter().find_map(|play| play.pinned) {
        say(format!("      {}", pinned_line(pinned)));
    }
}

fn pinned_line(pinned: Pinned) -> String {
    let Pinned {
        while_held,
        seconds,
        after_ms,
    } = pinned;
    match (while_held, after_ms) {
        (false, Some(ms)) => format!(
            "while that page lives its memory block does not go offline (tried for {seconds} s); \
             once the page is free it takes {ms} ms"
        ),
        (false, None) => {
            "its memory block does not go offline, not even once the page is free".to_owned()
        }
        (true, _) => "its memory block goes offline all the same".to_owned(),
    }
}

/// Prints what the kernel logged in a play: lists, walks, page.
pub fn show(play: &Play) {
    let State {
        before,
        at_go,
        walks,
        page,
        request,
        ..
    } = &play.state;
    say(format!(
        "      the list when the request fell asleep: {}",
        list(before)
    ));
    say(format!(
        "      the list when it went on:              {}",
        list(at_go)
    ));
    let (mut was_after, mut next) = (false, 0);
    for walk in walks {
        if walk.n > next {
            say(format!("      ... {} walks more", walk.n - next));
        }
        next = walk.n + 1;
        if walk.after && !was_after {
            say(format!(
                "      {FAINT}(the request sleeps in its direct reclaim; the list is rewritten){FAINT:#}"
            ));
            was_after = true;
        }
        let got = match &walk.got {
            Some(zone) => format!("a page of {zone}"),
            None if walk.fresh => "nothing; from the first entry it would find a page".to_owned(),
            None => "nothing".to_owned(),
        };
        say(format!(
            "      walks from entry {} ({}): {got}",
            walk.start, walk.zone
        ));
    }
    match page {
        Some(page) => say(format!(
            "      = page {:#x} of {}, node {}, {} µs after it went on",
            page.pfn, page.zone, page.node, request.us
        )),
        None => say("      = nothing"),
    }
}

fn list(entries: &[Entry]) -> String {
    let one = |entry: &Entry| format!("{} ({} free)", entry.zone, entry.free);
    entries.iter().map(one).collect::<Vec<_>>().join(", ")
}
