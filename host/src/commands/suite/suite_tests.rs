use super::*;
use clap::ValueEnum;

fn results(text: &str) -> Results {
    let mut parser = Parser::default();
    text.lines().for_each(|line| parser.line(line));
    parser.finish()
}

fn args(line: &str) -> TestArgs {
    let words = format!("tidemark test {line}");
    let cli = crate::terminal::cli::parse(words.split_whitespace().map(Into::into)).unwrap();
    let Some(crate::terminal::cli::Command::Test(args)) = cli.command else {
        panic!("not the test command");
    };
    args
}

#[test]
fn the_matrix_is_the_documented_one() {
    let names = |line: &str| -> Vec<&'static str> {
        configurations(&args(line)).iter().map(|c| c.name).collect()
    };
    assert_eq!(
        names(""),
        ["1cpu-1node", "4cpu-2node", "2cpu-48m", "8cpu-storm", "16g"]
    );
    assert_eq!(names("--full").len(), 17);
    // Every protocol is there, under its own name.
    for &zonelist in Zonelist::value_variants() {
        let is_it = |c: &Configuration| {
            c.zonelist == zonelist
                && (zonelist == Zonelist::Seed || c.name == crate::terminal::cli::name_of(zonelist))
        };
        assert!(
            configurations(&args("--full")).iter().any(is_it),
            "{zonelist:?}"
        );
    }
    assert_eq!(
        configurations(&args("--zonelist none"))[0].zonelist,
        Zonelist::None
    );
    assert_eq!(names("--memory 8G"), ["custom"]);
}

#[test]
fn a_machine_that_runs_everything_and_has_no_such_test_stands_for_all() {
    let list = configurations(&args("nonsense"));
    let (whole, storm) = (&list[0], &list[3]);
    let none = Tally::default();
    assert!(no_machine_has_any(whole, &none));
    assert!(!no_machine_has_any(storm, &none));
    assert!(!no_machine_has_any(whole, &Tally::one(Ok(()))));
    assert!(!no_machine_has_any(whole, &Tally::one(Err(String::new()))));
}

#[test]
fn a_machine_for_one_group_runs_nothing_else() {
    let on_storm = |line: &str| {
        let args = args(line);
        let list = configurations(&args);
        pattern(&list[3], &args)
    };
    assert_eq!(on_storm("").as_deref(), Some("storm/"));
    assert_eq!(on_storm("sto").as_deref(), Some("storm/"));
    assert_eq!(on_storm("storm/blocks").as_deref(), Some("storm/blocks"));
    assert_eq!(on_storm("zone"), None);
    assert_eq!(on_storm("zone --full").as_deref(), Some("zone"));
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
    record.ended = crate::guest::record::Ended::Exit(tidemark_wire::exit_value::FAILED);
    assert!(ending("x", &record, &good).is_some());
    assert_eq!(ending("x", &record, &bad), None);
    record.ended = crate::guest::record::Ended::Reset;
    assert!(ending("x", &record, &good).is_some());
}
