//! Tests which results count as failures.

use super::*;

fn results(text: &str) -> Results {
    let mut parser = Parser::default();
    text.lines().for_each(|line| parser.line(line));
    parser.finish()
}

#[test]
fn only_expected_skips_pass() {
    let skips = Skips::parse("1cpu-1node ipi/*\n").unwrap();
    let text = "KTAP version 1\n1..2\nok 1 ipi/stop # SKIP one CPU\nok 2 b";
    let tally = count("1cpu-1node", results(text), &skips);
    assert_eq!((tally.ok, tally.not_ok, tally.skipped), (1, 0, 1));
    let tally = count("4cpu-2node", results(text), &skips);
    assert_eq!((tally.ok, tally.not_ok, tally.skipped), (1, 1, 0));
    assert!(tally.problems[0].contains("unexpected SKIP"));
}

#[test]
fn a_log_that_stops_short_fails() {
    let skips = Skips::default();
    let tally = count("x", results("KTAP version 1\n1..2\nok 1 a"), &skips);
    assert_eq!((tally.ok, tally.not_ok), (1, 1));
}

#[test]
fn the_exit_value_must_agree_with_the_results() {
    let mut record = crate::judge::verdict::tests::good();
    let good = Tally::one(Ok(()));
    let bad = Tally::one(Err("x: a: failed".to_owned()));
    assert_eq!(ending("x", &record, &good), None);
    assert!(ending("x", &record, &bad).is_some());
    record.ended = Ended::Exit(FAILED);
    assert!(ending("x", &record, &good).is_some());
    assert_eq!(ending("x", &record, &bad), None);
    record.ended = Ended::Reset;
    assert!(ending("x", &record, &good).is_some());
}
