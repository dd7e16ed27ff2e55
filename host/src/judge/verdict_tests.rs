//! Tests that each rule can turn the verdict red.

use super::*;
use crate::guest::record::HostCounts;
use crate::guest::watchdog::Hang;
use std::time::Duration;
use tidemark_frames::Variant;

pub(crate) const EXPECTED: Expectation = Expectation {
    cycles: 10,
    dimms: 2,
    cpus: 4,
    zonelist: Zonelist::of(Variant::Seed),
    pressure: Pressure::Even,
};

/// Returns a record that passes.
pub(crate) fn good() -> Record {
    let counts = SourceCounts {
        requests: 5000,
        slow_path: 1000,
        overlapped: 1,
        ..SourceCounts::default()
    };
    Record {
        ended: Ended::Exit(exit_value::PASSED),
        protocol: Some(PROTOCOL_VERSION),
        counts: [Some(counts); Source::ALL.len()],
        totals: Some(Totals {
            cycles: 10,
            rebuilds: 20,
            pulls: 20,
            pulls_confirmed: 20,
            plugs: 20,
            probes: 10,
            probes_held: 10,
            probes_retries: 10,
            validate_ok: true,
            passed: true,
            ..Totals::default()
        }),
        host: HostCounts {
            pulls: 20,
            plugs: 20,
            device_deleted: 20,
            ost_inserted: 20,
            ost_ejecting: 20,
            guest_exits: 1,
            ..HostCounts::default()
        },
        wall: Duration::from_secs(30),
        ..Record::new()
    }
}

fn judged(change: impl FnOnce(&mut Record, &mut Totals)) -> Verdict {
    let mut record = good();
    let mut totals = record.totals.unwrap();
    change(&mut record, &mut totals);
    record.totals = Some(totals);
    judge(&EXPECTED, &record)
}

/// Adds failures that a fresh walk would have served.
fn paid(counts: &mut SourceCounts, failures: u64) {
    counts.failures += failures;
    counts.failures_overlapping_rebuild += failures;
    counts.failures_fresh_walk_serves += failures;
}

fn source(record: &mut Record, source: Source) -> &mut SourceCounts {
    let index = Source::ALL.iter().position(|s| *s == source).unwrap();
    record.counts[index].as_mut().unwrap()
}

#[test]
fn a_good_run_passes() {
    let verdict = judged(|_, _| {});
    assert_eq!(verdict.outcome, Outcome::Passed, "{verdict:?}");
    assert_eq!(verdict.outcome.exit_code(), 0);
}

#[test]
fn every_rule_can_fail_a_run() {
    type Change = fn(&mut Record, &mut Totals);
    let cases: &[(&str, Change)] = &[
        ("frames lost", |_, t| t.frames_lost = 1),
        ("pages corrupted", |_, t| t.pages_corrupted = 1),
        ("interrupts on", |_, t| t.rebuilds_with_interrupts_on = 1),
        ("1 failed requests of tasks", |r, _| {
            source(r, Source::Task).failures = 1;
        }),
        ("validate()", |_, t| t.validate_ok = false),
        ("19 rebuilds, not 20", |_, t| t.rebuilds = 19),
        ("9 cycles, not 10", |_, t| t.cycles = 9),
        ("confirmed", |_, t| t.pulls_confirmed = 19),
        ("disagree on pulls", |_, t| t.pulls = 21),
        ("disagree on DEVICE_DELETED", |r, _| {
            r.host.device_deleted = 19
        }),
        ("disagree on plugs", |r, _| r.host.plugs = 19),
        ("inserted", |r, _| r.host.ost_inserted = 19),
        ("ejected", |r, _| r.host.ost_ejecting = 21),
        ("exits", |r, _| r.host.guest_exits = 0),
        ("contradicts", |_, t| t.passed = false),
        ("contradicts", |r, _| {
            r.ended = Ended::Exit(exit_value::FAILED)
        }),
        ("own verdict", |r, t| {
            r.ended = Ended::Exit(exit_value::FAILED);
            t.passed = false;
        }),
        ("protocol", |r, _| r.protocol = Some(999)),
        ("protocol", |r, _| r.protocol = None),
        ("damaged", |r, _| r.damaged_messages = 1),
        ("no counts for sci", |r, _| r.counts[4] = None),
        ("timer entered the slow path 999", |r, _| {
            source(r, Source::Timer).slow_path = 999;
        }),
        ("call-function entered the slow path 0", |r, _| {
            source(r, Source::CallFunction).slow_path = 0;
        }),
        ("1 atomic failures in nmi", |r, _| {
            let counts = source(r, Source::Nmi);
            counts.failures = 6;
            counts.failures_overlapping_rebuild = 3;
            counts.failures_under_announced_pressure = 2;
        }),
        ("1 requests in nmi failed over a rebuild, and so", |r, _| {
            let counts = source(r, Source::Nmi);
            (counts.failures, counts.failures_overlapping_rebuild) = (1, 1);
        }),
        ("51 requests in task failed under announced", |r, _| {
            let counts = source(r, Source::Task);
            counts.failures = 51;
            counts.failures_under_announced_pressure = 51;
        }),
        ("1 handlers' requests failed although", |r, _| {
            paid(source(r, Source::Timer), 1);
        }),
        ("1 tasks' requests failed although", |r, _| {
            paid(source(r, Source::Task), 1);
        }),
        ("1 requests held over a rebuild failed although", |_, t| {
            t.probes_failed = 1;
        }),
    ];
    for (words, change) in cases {
        let verdict = judged(*change);
        assert_eq!(verdict.outcome, Outcome::Failed, "{words}");
        assert_eq!(verdict.outcome.exit_code(), 1);
        assert!(
            verdict.reasons.iter().any(|reason| reason.contains(words)),
            "{words}: {verdict:?}"
        );
    }
}

#[test]
fn missing_totals_fail() {
    let mut record = good();
    record.totals = None;
    assert_eq!(judge(&EXPECTED, &record).outcome, Outcome::Failed);
}

#[test]
fn announced_failures_pass() {
    let verdict = judged(|record, _| {
        let tasks = source(record, Source::Task);
        tasks.failures = 7;
        tasks.failures_under_announced_pressure = 7;
    });
    assert_eq!(verdict.outcome, Outcome::Passed, "{verdict:?}");
}

#[test]
fn a_protocol_is_held_to_what_it_promises_and_to_no_more() {
    let outcome = |zonelist, pressure, handlers, held| {
        let mut record = good();
        paid(source(&mut record, Source::CallFunction), handlers);
        if let Some(totals) = &mut record.totals {
            totals.probes_failed = held;
        }
        let expected = Expectation {
            zonelist: Zonelist::of(zonelist),
            pressure,
            ..EXPECTED
        };
        judge(&expected, &record).outcome
    };
    let (passed, failed) = (Outcome::Passed, Outcome::Failed);
    for (zonelist, pressure, handlers, held, wanted) in [
        (Variant::Seed, Pressure::Even, 0, 0, passed),
        (Variant::Seed, Pressure::Even, 1, 0, failed),
        (Variant::None, Pressure::Even, 1, 0, failed),
        (Variant::None, Pressure::Even, 0, 10, passed),
        (Variant::GfpSeqlock, Pressure::Even, 0, 1, failed),
        (Variant::Seed, Pressure::Uneven, 160, 0, passed),
        (Variant::Seed, Pressure::Uneven, 161, 0, failed),
        (Variant::Seed, Pressure::Uneven, 0, 1, failed),
        (Variant::Snapshot, Pressure::Uneven, 1, 0, failed),
        (Variant::SeqlockRecheck, Pressure::Uneven, 1, 0, failed),
    ] {
        let found = outcome(zonelist, pressure, handlers, held);
        assert_eq!(found, wanted, "{zonelist:?} {pressure:?} {handlers} {held}");
    }
}

#[test]
fn a_run_without_an_overlap_is_not_exercised() {
    let verdict = judged(|record, _| {
        for counts in record.counts.iter_mut().flatten() {
            counts.overlapped = 0;
        }
    });
    assert_eq!(verdict.outcome, Outcome::NotExercised);
    assert_eq!(verdict.outcome.exit_code(), 1);
}

#[test]
fn a_machine_without_dimms_is_not_exercised() {
    let mut record = good();
    let totals = record.totals.as_mut().unwrap();
    (totals.pulls, totals.pulls_confirmed, totals.plugs) = (0, 0, 0);
    totals.rebuilds = 0;
    for counts in record.counts.iter_mut().flatten() {
        (counts.slow_path, counts.overlapped) = (0, 0);
    }
    record.host = HostCounts {
        guest_exits: 1,
        ..HostCounts::default()
    };
    let bare = Expectation {
        dimms: 0,
        ..EXPECTED
    };
    let verdict = judge(&bare, &record);
    assert_eq!(verdict.outcome, Outcome::NotExercised, "{verdict:?}");
    assert!(verdict.reasons[0].contains("no DIMM"));
}

#[test]
fn endings_out_of_order_have_their_own_codes() {
    let hang = Hang::Heartbeat {
        waited: Duration::from_secs(5),
    };
    let qemu = Ended::Qemu {
        how: "status 1".to_owned(),
        words: String::new(),
    };
    for (ended, code) in [
        (Ended::Exit(exit_value::CRASHED), 3),
        (Ended::Exit(exit_value::REFUSED), 2),
        (Ended::Exit(exit_value::LOADER_REFUSED), 2),
        (Ended::Exit(0x42), 3),
        (Ended::Reset, 3),
        (Ended::Hung(hang), 4),
        (qemu, 2),
        (Ended::Interrupted, EXIT_INTERRUPTED),
    ] {
        let verdict = judged(|record, _| record.ended = ended.clone());
        assert_eq!(verdict.outcome.exit_code(), code, "{ended:?}");
        assert_eq!(verdict.reasons.len(), 1);
    }
}

#[test]
fn a_refusal_repeats_the_guests_words() {
    let verdict = judged(|record, _| {
        record.ended = Ended::Exit(exit_value::REFUSED);
        let line = "[    0.100000] cpu0: 16 MiB is too little".to_owned();
        record.tail.push_back(line);
    });
    assert!(verdict.reasons[0].ends_with("configuration: 16 MiB is too little"));
}

#[test]
fn expectations_scale_with_the_run() {
    let few = Expectation {
        cycles: 2,
        ..EXPECTED
    };
    assert_eq!((few.slow_path(), few.rebuilds(), few.pulls()), (200, 4, 4));
    let many = Expectation {
        cycles: 50,
        ..EXPECTED
    };
    assert_eq!((many.slow_path(), many.rebuilds()), (1000, 100));
    let bare = Expectation {
        dimms: 0,
        ..EXPECTED
    };
    assert_eq!((bare.slow_path(), bare.rebuilds(), bare.pulls()), (0, 0, 0));
}
