//! Describes protocols, hazards and mistakes, in a line each.

use clap::ValueEnum;
use tidemark_wire::Hazard;

use crate::terminal::cli::{Mistake, Zonelist, name_of};
use crate::terminal::console::say;

/// Returns the source of a protocol: the commit or the mail that it stands for.
pub fn origin(variant: Zonelist) -> &'static str {
    match variant {
        Zonelist::None => "Linux before August 2022",
        Zonelist::Seqlock => "Linux commit 3d36424b3b58",
        Zonelist::SeqlockIrqoff => "Linux commit 1007843a9190",
        Zonelist::SeqlockIrqsave => "Linux commit a2ebb5157582",
        Zonelist::SeqlockAnnotated => "Linux commit 41b43b6c6e30",
        Zonelist::SeqlockRecheck => "Linux commit e05741fb10c3",
        Zonelist::GfpSeqlock => "Tetsuo Handa's proposal of April 2023",
        Zonelist::Seed => "Tetsuo Handa's mail of 29 July 2023",
        Zonelist::Snapshot => "this project's own",
    }
}

/// Returns what a protocol does.
pub fn protocol(variant: Zonelist) -> &'static str {
    match variant {
        Zonelist::None => "a spinlock for writers; readers take no notice",
        Zonelist::Seqlock => "readers wait while the counter is odd; interrupts stay on",
        Zonelist::SeqlockIrqoff => "the same with interrupts off, then the console deferred",
        Zonelist::SeqlockIrqsave => "the counter first, then the console deferred",
        Zonelist::SeqlockAnnotated => {
            "the validator is told of the begin before the counter is odd"
        }
        Zonelist::SeqlockRecheck => "readers look at retry, too",
        Zonelist::GfpSeqlock => "only requests that may reclaim wait and look",
        Zonelist::Seed => "nobody waits; only requests that may reclaim look again",
        Zonelist::Snapshot => "new lists beside the old ones, put in force by one store",
    }
}

/// Returns what a hazard is.
pub fn hazard(hazard: Hazard) -> &'static str {
    match hazard {
        Hazard::H1 => "spurious OOM: a stale start, or half a list, misses memory that is free",
        Hazard::H2 => "livelock: an interrupt's reader waits for the writer that it interrupted",
        Hazard::H2Nmi => "the same by an NMI, which nothing keeps out",
        Hazard::H3 => "ABBA: the reader holds the port, the writer prints",
        Hazard::H5Begin => "H3 by a print of the lock validator, told of the writer's begin",
        Hazard::H5End => "H3 by a print of the lock validator, told of the writer's end",
        Hazard::H7 => "torn entry: new zone, old index, and an unmovable request in Movable memory",
        Hazard::H7Hot => "the hot path remembers a torn entry, and serves requests by it",
        Hazard::H8 => "endless retry from a stale start, with reclaim that makes progress",
    }
}

/// Returns what a mistake is.
pub fn mistake(mistake: Mistake) -> &'static str {
    match mistake {
        Mistake::EverybodyLooks => "requests that may not reclaim begin and look as the others do",
        Mistake::NoCheckBeforeOom => "no check before OOM",
        Mistake::NoCheckAtNopage => "no check at nopage; in snapshot no second look there",
        Mistake::NoCheckAtRetry => "no check at retry",
        Mistake::ChangedWithoutOdd => "\"changed\" without \"or odd\"",
        Mistake::BeginWaits => "the begin waits for an even counter",
        Mistake::CheckWaits => "the check waits for an even counter",
        Mistake::InterruptsOn => "the writer leaves interrupts on",
        Mistake::NotDeferred => "the console is not deferred",
        Mistake::DeferredLate => "the console is deferred inside the annotations",
        Mistake::AnnotatedInside => "the begin is annotated when the counter is odd",
        Mistake::CountStands => "the counter never moves",
        Mistake::NoGrace => "lists are written again without a grace period",
        Mistake::PublishedEarly => "lists are put in force before they are written",
        Mistake::StartRemembered => "the start is remembered across walks",
        Mistake::TornRemembered => "the hot path remembers a zone by its entry's index alone",
    }
}

/// Prints all descriptions.
pub fn print() {
    say("protocols (--variant), each with what it stands for");
    for &variant in Zonelist::value_variants() {
        let (name, what) = (name_of(variant), protocol(variant));
        say(format!("  {name:<18}{what} ({})", origin(variant)));
    }
    say("hazards (--hazard)");
    for known in Hazard::ALL {
        say(format!("  {:<18}{}", known.name(), hazard(known)));
    }
    say("mistakes (--mistake), which --planted runs");
    for &known in Mistake::value_variants() {
        say(format!("  {:<20}{}", name_of(known), mistake(known)));
    }
}
