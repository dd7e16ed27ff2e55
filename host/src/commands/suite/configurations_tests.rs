//! Tests the list of machines, and what runs on each.

use super::*;
use crate::terminal::cli::{self, Command};

fn args(line: &str) -> TestArgs {
    let words = format!("tidemark test {line}");
    let line = cli::parse(words.split_whitespace().map(Into::into)).unwrap();
    let Some(Command::Test(args)) = line.command else {
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
    assert_eq!(names("--full").len(), 8 + Variant::ALL.len());
    // Every protocol is there, under its own name.
    for zonelist in Variant::ALL {
        let is_it = |c: &Configuration| {
            c.zonelist == zonelist && (zonelist == Variant::Seed || c.name == zonelist.name())
        };
        assert!(
            configurations(&args("--full")).iter().any(is_it),
            "{zonelist:?}"
        );
    }
    assert_eq!(
        configurations(&args("--zonelist none"))[0].zonelist,
        Variant::None
    );
    assert_eq!(names("--memory 8G"), ["custom"]);
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
