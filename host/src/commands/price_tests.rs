//! Intervals, lines, and what a protocol is held to.

use super::*;

fn row(context: PriceContext, stalled: bool) -> PriceRow {
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

fn rows() -> Vec<PriceRow> {
    let halves = [false, true].into_iter();
    halves
        .flat_map(|stalled| PriceContext::ALL.map(|context| row(context, stalled)))
        .collect()
}

#[test]
fn intervals_are_wilsons() {
    let close = |(low, high): (f64, f64), wanted: (f64, f64)| {
        assert!((low - wanted.0).abs() < 5e-5, "{low} {wanted:?}");
        assert!((high - wanted.1).abs() < 5e-5, "{high} {wanted:?}");
    };
    // Computed by hand from the formula.
    close(wilson(0, 100), (0.0, 0.036_99));
    close(wilson(10, 100), (0.055_23, 0.174_37));
    close(wilson(100, 100), (0.963_01, 1.0));
    close(wilson(0, 0), (0.0, 1.0));
}

#[test]
fn a_line_has_the_share_and_its_interval() {
    let paid = PriceRow {
        failed: 40,
        ..row(PriceContext::Irq, true)
    };
    let words = line("seed", &paid);
    assert!(
        words.starts_with(
            "seed              irq        10000     400      40    10.00  7.43 to 13.33"
        ),
        "{words}"
    );
    let idle = PriceRow {
        overlapped: 0,
        left_out: 7,
        ..row(PriceContext::Nmi, true)
    };
    let words = line("", &idle);
    assert!(words.contains("  -  -  "), "{words}");
}

#[test]
fn a_protocol_that_breaks_its_promise_or_says_too_little_is_noticed() {
    let found = |zonelist, rows: &[PriceRow]| troubles(zonelist, 10, 4, rows);
    assert!(found(Zonelist::Snapshot, &rows()).is_empty());
    let mut paid = rows();
    paid[4].failed = 1;
    assert_eq!(found(Zonelist::Snapshot, &paid).len(), 1);
    assert!(found(Zonelist::Seed, &paid).is_empty());
    paid[4].failed = 81;
    assert_eq!(found(Zonelist::Seed, &paid).len(), 1);
    let mut task = rows();
    task[0].failed = 1;
    assert_eq!(found(Zonelist::Seed, &task).len(), 1);
    assert!(found(Zonelist::None, &task).is_empty());
    assert_eq!(found(Zonelist::Seed, &rows()[..5]).len(), 1);
    let mut idle = rows();
    idle[3].overlapped = 0;
    assert!(found(Zonelist::Seed, &idle)[0].contains("no request of tasks"));
}

#[test]
fn a_guest_that_fails_or_crashes_is_no_pass() {
    let judged = |ended| {
        let record = Record {
            ended,
            price: rows(),
            ..Record::new()
        };
        judge(Zonelist::Seed, 10, 4, &record).outcome
    };
    let exit = |value| judged(Ended::Exit(value));
    assert_eq!(exit(exit_value::PASSED), Outcome::Passed);
    assert_eq!(exit(exit_value::FAILED), Outcome::Failed);
    assert_eq!(exit(exit_value::CRASHED), Outcome::Crashed);
    assert_eq!(judged(Ended::Interrupted), Outcome::Interrupted);
}

#[test]
fn the_json_has_a_row_a_context_and_half() {
    let found = Found {
        zonelist: Zonelist::Seed,
        rows: rows(),
        troubles: Vec::new(),
        log: Vec::new(),
    };
    let rows = rows_as_json(&found);
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[1]["context"], "irq");
    assert_eq!(rows[1]["rate"], 0.0);
    assert!(rows[1]["rate_high"].as_f64().is_some_and(|high| high > 0.0));
}
