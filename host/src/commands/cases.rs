//! Runs a part of the test suite case by case: cases are chosen by their names, and counted.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::judge::report::seconds;
use crate::judge::tally::Tally;
use crate::terminal::console::{BAD, FAINT, GOOD, say};
use crate::terminal::interrupt;

/// Runs the cases whose name contains the pattern, and prints a line about them if there were any.
/// `run` returns what is wrong with a case.
///
/// # Errors
/// Fails where `run` does.
pub fn run_cases<C>(
    (part, what): (&str, &str),
    pattern: Option<&str>,
    cases: impl IntoIterator<Item = (String, C)>,
    run: impl FnMut(&str, C) -> Result<Result<(), String>>,
) -> Result<Tally> {
    let started = Instant::now();
    let total = counted(pattern, cases, run)?;
    if total != Tally::default() {
        print_part(part, what, &total, started.elapsed());
    }
    Ok(total)
}

fn counted<C>(
    pattern: Option<&str>,
    cases: impl IntoIterator<Item = (String, C)>,
    mut run: impl FnMut(&str, C) -> Result<Result<(), String>>,
) -> Result<Tally> {
    let mut total = Tally::default();
    for (name, case) in cases {
        if interrupt::requested() {
            break;
        }
        if pattern.is_none_or(|pattern| name.contains(pattern)) {
            let result = run(&name, case)?;
            total.add(&Tally::one(
                result.map_err(|problem| format!("{name}: {problem}")),
            ));
        }
    }
    Ok(total)
}

/// Prints one line about a part of the run.
pub fn print_part(name: &str, what: &str, tally: &Tally, wall: Duration) {
    let (style, word) = if tally.not_ok == 0 {
        (GOOD, "ok  ")
    } else {
        (BAD, "FAIL")
    };
    let skipped = match tally.skipped {
        0 => String::new(),
        n => format!(", {n} skipped"),
    };
    say(format!(
        "{style}{word}{style:#} {name:<17} {:>4} passed, {} failed{skipped} in {} {FAINT}{what}{FAINT:#}",
        tally.ok,
        tally.not_ok,
        seconds(wall)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases() -> [(String, Result<(), String>); 3] {
        let failed = Err("it is red".to_owned());
        [("a/one", Ok(())), ("a/two", failed), ("b/one", Ok(()))]
            .map(|(name, result)| (name.to_owned(), result))
    }

    #[test]
    fn cases_are_chosen_by_name_and_a_failure_carries_it() {
        let ran = |pattern| counted(pattern, cases(), |_, case| Ok(case)).unwrap();
        let all = ran(None);
        assert_eq!((all.ok, all.not_ok), (2, 1));
        assert_eq!(all.problems, ["a/two: it is red"]);
        assert_eq!(ran(Some("one")).ok, 2);
        assert_eq!(ran(Some("c/")), Tally::default());
    }
}
