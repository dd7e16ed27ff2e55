//! Tests the demands on a protocol, and on a guest.

use super::*;

pub(crate) fn row(context: PriceContext, stalled: bool) -> PriceRow {
    PriceRow {
        context,
        stalled,
        rebuilds: 2000,
        requests: 10_000,
        overlapped: 400,
        failed: 0,
        short: 0,
        retries: 0,
        left_out: 0,
    }
}

pub(crate) fn rows() -> Vec<PriceRow> {
    let halves = [false, true].into_iter();
    halves
        .flat_map(|stalled| PriceContext::ALL.map(|context| row(context, stalled)))
        .collect()
}

#[test]
fn a_protocol_that_breaks_its_promise_or_says_too_little_is_noticed() {
    let found = |zonelist, rows: &[PriceRow]| troubles(zonelist, 10, 4, rows);
    assert!(found(Variant::Snapshot, &rows()).is_empty());
    let mut paid = rows();
    paid[4].failed = 1;
    assert_eq!(found(Variant::Snapshot, &paid).len(), 1);
    assert!(found(Variant::Seed, &paid).is_empty());
    paid[4].failed = 81;
    assert_eq!(found(Variant::Seed, &paid).len(), 1);
    let mut task = rows();
    task[0].failed = 1;
    assert_eq!(found(Variant::Seed, &task).len(), 1);
    assert!(found(Variant::None, &task).is_empty());
    assert_eq!(found(Variant::Seed, &rows()[..5]).len(), 1);
    let mut idle = rows();
    idle[3].overlapped = 0;
    assert!(found(Variant::Seed, &idle)[0].contains("no request of tasks"));
}

#[test]
fn a_guest_that_fails_or_crashes_is_no_pass() {
    let judged = |ended| {
        let record = Record {
            ended,
            price: rows(),
            ..Record::new()
        };
        judge(Variant::Seed, 10, 4, &record).outcome
    };
    let exit = |value| judged(Ended::Exit(value));
    assert_eq!(exit(exit_value::PASSED), Outcome::Passed);
    assert_eq!(exit(exit_value::FAILED), Outcome::Failed);
    assert_eq!(exit(exit_value::CRASHED), Outcome::Crashed);
    assert_eq!(judged(Ended::Interrupted), Outcome::Interrupted);
}
