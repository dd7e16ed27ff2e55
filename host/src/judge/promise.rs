//! The promise of a zonelist protocol to requests that race a rebuild. It is a bound on those that
//! fail although a fresh walk would have served them.
//!
//! Under even pressure every zone has memory. A rebuild moves each zone by one place, so a walk
//! that races it misses zones but still comes to another one. No request fails, whatever the
//! protocol.
//!
//! Under uneven pressure one zone has memory, and a walk that misses it fails. A removal moves that
//! zone one place to the front, by one store in each list. A request misses the zone only if it
//! chose its start, or read up to that place, before the store, and reads on after it. So it is
//! under way at the store. At any time a CPU has at most one interrupt's and one NMI's request
//! under way. So where such requests do not look again, a removal costs at most one failure for
//! each CPU and kind of handler.
//!
//! An arrival moves the zone back by two stores, between which it stands in no entry. A walk of
//! that moment fails as well. Only the shortness of that stretch bounds the number of these
//! failures, so they have to fit into the allowance of the removals.
//!
//! A request that may reclaim looks again before it fails, in every protocol but `none`.

use tidemark_frames::{Readers, Variant, Writes};
use tidemark_wire::{Pressure, Source, Totals};

use crate::guest::record::Record;

/// Kinds of handlers that can interrupt one another on a CPU: an interrupt's and an NMI's.
const KINDS_OF_HANDLERS: u64 = 2;

/// A bound on failures, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    AtMost(u64),
    None,
}

impl Bound {
    /// Returns whether this number of failures is more than it permits.
    pub fn is_broken_by(self, failures: u64) -> bool {
        matches!(self, Bound::AtMost(most) if failures > most)
    }

    /// Returns the number, if there is one.
    pub fn number(self) -> Option<u64> {
        match self {
            Bound::AtMost(most) => Some(most),
            Bound::None => None,
        }
    }
}

/// The promises of a protocol in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Failures of tasks' requests that are not held.
    pub tasks: Bound,
    /// Failures of handlers' requests.
    pub handlers: Bound,
    /// Failures of the requests that may reclaim and are held over a rebuild.
    pub held: Bound,
}

/// The failures of a run that the promise is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paid {
    pub tasks: u64,
    pub handlers: u64,
    /// Number of handlers' requests that overlapped a rebuild.
    pub handlers_racing: u64,
}

/// What a protocol promises when memory was taken away so often on so many CPUs.
pub fn promise(zonelist: Variant, pressure: Pressure, removals: u64, cpus: u64) -> Promise {
    let looks = zonelist.rules().looks;
    let for_tasks = match looks {
        Readers::Nobody => Bound::None,
        Readers::Reclaiming | Readers::Everybody => Bound::AtMost(0),
    };
    let under_way = Bound::AtMost(removals * cpus * KINDS_OF_HANDLERS);
    match pressure {
        Pressure::Even => Promise {
            tasks: Bound::AtMost(0),
            handlers: Bound::AtMost(0),
            held: for_tasks,
        },
        Pressure::Uneven => Promise {
            tasks: for_tasks,
            handlers: match looks {
                // They are never told that the lists changed.
                Readers::Nobody | Readers::Reclaiming => under_way,
                Readers::Everybody => Bound::AtMost(0),
            },
            held: for_tasks,
        },
    }
}

/// Adds up the failures of a run's requests.
pub fn paid(record: &Record) -> Paid {
    let mut paid = Paid::default();
    for source in Source::ALL {
        let Some(counts) = record.counts_of(source) else {
            continue;
        };
        if source == Source::Task {
            paid.tasks += counts.failures_fresh_walk_serves;
        } else {
            paid.handlers += counts.failures_fresh_walk_serves;
            paid.handlers_racing += counts.overlapped;
        }
    }
    paid
}

/// Why a run that passes says nothing about its protocol; nothing if it does.
pub fn says_nothing(zonelist: Variant, totals: &Totals) -> Option<&'static str> {
    if zonelist == Variant::None {
        return Some("none promises nothing");
    }
    if totals.probes_held == 0 {
        return Some("no request that may reclaim was held over a rebuild");
    }
    // Where lists are written beside those in force, a start is not kept across walks, so nothing
    // has to begin again.
    if zonelist.rules().writes == Writes::InPlace && totals.probes_retries == 0 {
        return Some("no request that was held over a rebuild had to look again");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_even_pressure_nobody_fails_and_only_none_may_miss_what_moved() {
        for zonelist in Variant::ALL {
            let promise = promise(zonelist, Pressure::Even, 20, 4);
            assert_eq!(promise.tasks, Bound::AtMost(0));
            assert_eq!(promise.handlers, Bound::AtMost(0));
            let expected = match zonelist {
                Variant::None => Bound::None,
                _ => Bound::AtMost(0),
            };
            assert_eq!(promise.held, expected, "{zonelist:?}");
        }
    }

    #[test]
    fn under_uneven_pressure_who_does_not_look_pays_once_a_removal_cpu_and_handler() {
        let of = |zonelist| promise(zonelist, Pressure::Uneven, 20, 4);
        for zonelist in [Variant::None, Variant::GfpSeqlock, Variant::Seed] {
            assert_eq!(of(zonelist).handlers, Bound::AtMost(160), "{zonelist:?}");
        }
        for zonelist in [Variant::Seqlock, Variant::SeqlockRecheck, Variant::Snapshot] {
            assert_eq!(of(zonelist).handlers, Bound::AtMost(0), "{zonelist:?}");
        }
        assert_eq!(of(Variant::None).tasks, Bound::None);
        assert_eq!(of(Variant::Seed).tasks, Bound::AtMost(0));
    }

    #[test]
    fn a_bound_is_broken_by_one_more() {
        assert!(!Bound::AtMost(3).is_broken_by(3));
        assert!(Bound::AtMost(3).is_broken_by(4));
        assert!(!Bound::None.is_broken_by(u64::MAX));
    }

    #[test]
    fn a_run_says_nothing_if_nothing_is_promised_or_nobody_was_held() {
        let held = Totals {
            probes_held: 1,
            probes_retries: 1,
            ..Totals::default()
        };
        assert_eq!(says_nothing(Variant::Seed, &held), None);
        assert!(says_nothing(Variant::None, &held).is_some());
        assert!(says_nothing(Variant::Seed, &Totals::default()).is_some());
        let unneeded = Totals {
            probes_retries: 0,
            ..held
        };
        assert!(says_nothing(Variant::Seed, &unneeded).is_some());
        assert_eq!(says_nothing(Variant::Snapshot, &unneeded), None);
    }
}
