//! `tidemark test`: the host's tests, the self-tests on several machines, the planted faults.

mod configurations;
mod hosttests;
mod names;
mod planted;
mod selftests;
mod stress;
mod trial;
mod variants;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::commands::cases::print_part;
use crate::commands::{lab, shell};
use crate::guest::accel::usable;
use crate::guest::build::{self, Built};
use crate::guest::qemu;
use crate::judge::json;
use crate::judge::points::{self, Traces};
use crate::judge::report::seconds;
use crate::judge::skips::Skips;
use crate::judge::symbols::Symbols;
use crate::judge::tally::Tally;
use crate::terminal::cli::TestArgs;
use crate::terminal::console::{BAD, Console, GOOD, say};
use crate::terminal::exit::{EXIT_INTERRUPTED, EXIT_USAGE};
use crate::terminal::interrupt;
use crate::terminal::release::Zonelist;
use configurations::{Configuration, configurations, is_custom, obstacle, pattern};
use hosttests::Depth;
use selftests::self_tests;

/// Returns whether the other machines need not be booted. All have equal tests, and this one had
/// none to run.
fn no_machine_has_any(configuration: &Configuration, tally: &Tally) -> bool {
    configuration.only.is_empty() && *tally == Tally::default()
}

/// Runs the tests and returns the program's exit code.
///
/// # Errors
/// A tool is missing, the kernel does not build, or a result cannot be written.
pub fn test(args: &TestArgs) -> Result<i32> {
    json::prepare(args.output.json.as_deref())?;
    if let Some(pattern) = &args.pattern
        && !names::may_contain(pattern).context("the sources cannot be read")?
    {
        return Ok(no_test(pattern));
    }
    qemu::require()?;
    let args = &TestArgs {
        accel: usable(args.accel),
        ..args.clone()
    };
    let started = Instant::now();
    let alias = args.zonelist.and_then(Zonelist::alias);
    alias.iter().for_each(say);
    let mut parts: Vec<(String, Tally)> = Vec::new();
    if !is_custom(args) {
        let depth = if args.full { Depth::Full } else { Depth::Short };
        let tally = hosttests::run(args.pattern.as_deref(), depth, &args.output)?;
        parts.push(("host".to_owned(), tally));
        let tally = stress::run_all(args.pattern.as_deref(), depth, &args.output)?;
        parts.push(("stress".to_owned(), tally));
    }
    let built = build::guest()?;
    let symbols = Symbols::of_files(&[&built.unstripped, &built.loader]);
    let mut console = Console::new(args.output.verbosity(), args.output.log.as_deref())?;
    let skips = Skips::read()?;
    for configuration in configurations(args) {
        if interrupt::requested() {
            break;
        }
        let Some(pattern) = pattern(&configuration, args) else {
            continue;
        };
        if let Some(why) = obstacle(&configuration.machine) {
            let tally = Tally {
                skipped: 1,
                ..Tally::default()
            };
            print_part(configuration.name, &why, &tally, Duration::ZERO);
            parts.push((configuration.name.to_owned(), tally));
            continue;
        }
        let args = &TestArgs {
            pattern: Some(pattern).filter(|pattern| !pattern.is_empty()),
            ..args.clone()
        };
        let tally = self_tests(&configuration, args, &built, &symbols, &skips, &mut console)?;
        let no_machine_has_any = no_machine_has_any(&configuration, &tally);
        parts.push((configuration.name.to_owned(), tally));
        if no_machine_has_any {
            break;
        }
    }
    if !is_custom(args) {
        let lab = lab::self_test(args.pattern.as_deref(), args.accel, &built)?;
        parts.push(("lab".to_owned(), lab));
        if args.full {
            let planted = lab::full_test(args.pattern.as_deref(), args.accel, &built)?;
            parts.push(("lab, planted".to_owned(), planted));
            parts.push((
                "points".to_owned(),
                no_points(args.pattern.as_deref(), &built)?,
            ));
            let demos =
                variants::run_all(args.pattern.as_deref(), args.accel, &built, &mut console)?;
            parts.push(("demonstration".to_owned(), demos));
        }
        let planted = planted::run_all(args.pattern.as_deref(), args.accel, &built, &mut console)?;
        parts.push(("planted faults".to_owned(), planted));
        let shell = shell::endtoend::run_all(args.pattern.as_deref(), &mut console)?;
        parts.push(("shell".to_owned(), shell));
    }
    let mut total = Tally::default();
    parts.iter().for_each(|(_, tally)| total.add(tally));
    let exit_code = exit_code(&total, args);
    if let Some(path) = &args.output.json {
        json::write(path, &json::tests(&total, exit_code, &parts))?;
    }
    print_total(&total, exit_code, started.elapsed());
    Ok(exit_code)
}

/// Checks that schedule points cost nothing in a kernel that is built to be measured.
fn no_points(pattern: Option<&str>, built: &Built) -> Result<Tally> {
    let name = "points/the_measured_kernel_has_none";
    if !pattern.is_none_or(|pattern| name.contains(pattern)) {
        return Ok(Tally::default());
    }
    let started = Instant::now();
    let measured = Traces::of(&build::guest_for_bench()?.unstripped)?;
    let tally = Tally::one(points::check(&measured, &Traces::of(&built.unstripped)?));
    let what = "no schedule point in the kernel that is measured";
    print_part("points", what, &tally, started.elapsed());
    Ok(tally)
}

fn exit_code(total: &Tally, args: &TestArgs) -> i32 {
    if interrupt::requested() {
        return EXIT_INTERRUPTED;
    }
    if let (0, 0, 0, Some(pattern)) = (total.ok, total.not_ok, total.skipped, &args.pattern) {
        return no_test(pattern);
    }
    i32::from(total.not_ok > 0 || total.ok == 0)
}

/// Prints that there is nothing to run; returns the exit code.
fn no_test(pattern: &str) -> i32 {
    eprintln!("tidemark: no test's name contains {pattern:?}");
    EXIT_USAGE
}

fn print_total(total: &Tally, exit_code: i32, wall: Duration) {
    for problem in &total.problems {
        say(format!("{BAD}problem{BAD:#}: {problem}"));
    }
    let (style, word) = if exit_code == 0 {
        (GOOD, "PASS")
    } else {
        (BAD, "FAIL")
    };
    say(format!("{style}{word}{style:#} in {}", seconds(wall)));
    // This line stands alone and is plain, for programs that read it.
    say(format!(
        "{} passed, {} failed, {} skipped",
        total.ok, total.not_ok, total.skipped
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::cli::{self, Command};

    #[test]
    fn a_machine_that_runs_everything_and_has_no_such_test_stands_for_all() {
        let line = cli::parse(["tidemark", "test", "nonsense"].map(Into::into)).unwrap();
        let Some(Command::Test(args)) = line.command else {
            panic!("not the test command");
        };
        let list = configurations(&args);
        let (whole, storm) = (&list[0], &list[3]);
        let none = Tally::default();
        assert!(no_machine_has_any(whole, &none));
        assert!(!no_machine_has_any(storm, &none));
        assert!(!no_machine_has_any(whole, &Tally::one(Ok(()))));
        assert!(!no_machine_has_any(whole, &Tally::one(Err(String::new()))));
    }
}
