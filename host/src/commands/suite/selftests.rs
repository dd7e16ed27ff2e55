//! Runs the self-tests on one machine.

use anyhow::Result;
use tidemark_wire::exit_value::{FAILED, PASSED};

use super::configurations::Configuration;
use crate::commands::cases::print_part;
use crate::guest::build::Built;
use crate::guest::options::{Mode, Options};
use crate::guest::record::{Ended, Record};
use crate::guest::run::{Spec, run};
use crate::judge::ktap::{Outcome, Parser, Results};
use crate::judge::report::crash_report;
use crate::judge::skips::Skips;
use crate::judge::symbols::Symbols;
use crate::judge::tally::Tally;
use crate::judge::verdict;
use crate::terminal::cli::{TestArgs, Verbosity};
use crate::terminal::console::{Console, say};

/// Runs the self-tests on one machine, prints their results, and counts them.
///
/// # Errors
/// QEMU cannot be started.
pub fn self_tests(
    configuration: &Configuration,
    args: &TestArgs,
    built: &Built,
    symbols: &Symbols,
    skips: &Skips,
    console: &mut Console,
) -> Result<Tally> {
    let mode = Mode::Test {
        pattern: args.pattern.clone(),
        storm: args.storm,
    };
    let options = Options {
        verbose: args.output.wants_details(),
        dump: args.output.dump.clone(),
        ..Options::new(mode, configuration.zonelist)
    };
    let spec = Spec::new(configuration.machine.clone(), options, built);
    let streams = args.output.verbosity() == Verbosity::All;
    if streams {
        say(format!("{}: {}", configuration.name, configuration.machine));
    }
    console.write_log(&format!(
        "# {}: {}",
        configuration.name, configuration.machine
    ));
    let mut parser = Parser::default();
    let record = run(&spec, |line| {
        parser.line(line);
        if streams {
            console.line(line);
        } else {
            console.hidden_line(line);
        }
    })?;
    console.unfold();
    let mut tally = count(configuration.name, parser.finish(), skips);
    tally
        .problems
        .extend(ending(configuration.name, &record, &tally));
    if !tally.problems.is_empty() {
        // A guest that dies between tests must fail the run even if every result so far is good.
        tally.not_ok = tally.not_ok.max(1);
    }
    print_part(
        configuration.name,
        &configuration.machine.to_string(),
        &tally,
        record.wall,
    );
    for line in crash_report(&record, symbols) {
        say(line);
    }
    Ok(tally)
}

/// Counts results. A skip that is not expected is a failure.
fn count(configuration: &str, results: Results, skips: &Skips) -> Tally {
    let mut tally = Tally::default();
    for test in results.tests {
        let problem = match test.outcome {
            Outcome::Ok | Outcome::ExpectedFailure => {
                tally.ok += 1;
                continue;
            }
            Outcome::Skipped(_) if skips.expects(configuration, &test.name) => {
                tally.skipped += 1;
                continue;
            }
            Outcome::Skipped(why) => format!("unexpected SKIP: {why}"),
            Outcome::NotOk if test.diagnostics.is_empty() => "failed".to_owned(),
            Outcome::NotOk => format!("failed: {}", test.diagnostics.join("; ")),
        };
        tally.not_ok += 1;
        tally
            .problems
            .push(format!("{configuration}: {}: {problem}", test.name));
    }
    for violation in results.violations {
        tally.not_ok += 1;
        tally
            .problems
            .push(format!("{configuration}: KTAP: {violation}"));
    }
    tally
}

/// Returns what the guest's end adds to the results that it printed.
fn ending(name: &str, record: &Record, tally: &Tally) -> Option<String> {
    if let Some(verdict) = verdict::of_ending(record) {
        return Some(format!("{name}: {}", verdict.reasons.join("; ")));
    }
    let failed = tally.problems.iter().any(|p| p.contains(": failed"));
    match record.ended {
        Ended::Exit(PASSED) if failed => Some(format!(
            "{name}: the guest exits as if every test had passed"
        )),
        Ended::Exit(FAILED) if !failed => Some(format!(
            "{name}: the guest exits with a failure that no test shows"
        )),
        _ => None,
    }
}

#[cfg(test)]
#[path = "selftests_tests.rs"]
mod tests;
