//! `tidemark mutants`: makes deliberate mistakes in the sources of the allocator and of the locks,
//! one at a time, and demands that a test fails for each. `docs/testing.md` documents the list.

mod list;
mod text;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::guest::build;
use crate::judge::json;
use crate::terminal::cli::{MutantsArgs, Shard};
use crate::terminal::console::{BAD, FAINT, GOOD, say};
use crate::terminal::exit::{EXIT_INTERRUPTED, EXIT_USAGE};
use crate::terminal::interrupt;
use list::{Kind, Mutant, Suite};
use tree::{Ran, Tree};

/// Time within which a whole suite must end.
const WHOLE_SUITE: Duration = Duration::from_secs(900);

/// The result of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Caught,
    /// A test did not end, as the entry demands.
    CaughtByDeadline,
    Equivalent,
    OutOfReach,
    Survived,
    /// The mistake does not compile, so the entry is wrong.
    DoesNotCompile,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Caught => "caught",
            Outcome::CaughtByDeadline => "caught (deadline)",
            Outcome::Equivalent => "equivalent",
            Outcome::OutOfReach => "out of reach",
            Outcome::Survived => "SURVIVED",
            Outcome::DoesNotCompile => "DOES NOT COMPILE",
        }
    }

    fn is_bad(self) -> bool {
        matches!(self, Outcome::Survived | Outcome::DoesNotCompile)
    }
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    name: &'a str,
    file: &'a str,
    outcome: Outcome,
    /// The test that failed, the compiler's error, or the reason.
    by: String,
    seconds: f64,
}

/// Runs the list or a part of it, and returns the program's exit code.
///
/// # Errors
/// The list is wrong, or cargo cannot be run.
pub fn run(args: &MutantsArgs) -> Result<i32> {
    json::prepare(args.json.as_deref())?;
    let workspace = build::workspace();
    let list = list::read(&workspace)?;
    for mutant in &list {
        if let Err(error) = mutant.check(&workspace) {
            bail!("{}: {error:#}", mutant.name);
        }
    }
    let wanted = args.pattern.as_deref().unwrap_or("");
    let has = |mutant: &&Mutant| mutant.name.contains(wanted) || mutant.file.contains(wanted);
    let chosen: Vec<&Mutant> = list.iter().filter(has).collect();
    if chosen.is_empty() {
        eprintln!("tidemark: no mutant's name or file contains {wanted:?}");
        return Ok(EXIT_USAGE);
    }
    if args.equivalent {
        print_reasons(&chosen);
        return Ok(0);
    }
    let shard = args.shard.unwrap_or(Shard { index: 1, of: 1 });
    let mine = chosen.iter().enumerate();
    let mine = mine.filter(|(at, _)| at % shard.of == shard.index - 1);
    let chosen: Vec<&Mutant> = mine.map(|(_, mutant)| *mutant).collect();
    let tree = match shard.of {
        1 => Tree::new("tree")?,
        _ => Tree::new(&format!("tree-{}", shard.index))?,
    };
    require_the_tests(&tree, &chosen)?;
    let mut lines = Vec::new();
    for mutant in chosen {
        if interrupt::requested() {
            return Ok(EXIT_INTERRUPTED);
        }
        let line = one(&tree, mutant, args.all_tests)?;
        if interrupt::requested() {
            // The tests of the entry were ended before their time.
            return Ok(EXIT_INTERRUPTED);
        }
        print_line(&line);
        lines.push(line);
    }
    let code = i32::from(lines.iter().any(|line| line.outcome.is_bad()));
    let summary = summary(&lines);
    if let Some(path) = &args.json {
        let document = serde_json::json!({ "summary": summary, "mutants": lines });
        json::write(path, &document)?;
    }
    say(summary);
    Ok(code)
}

/// Checks that the named tests exist and pass without a mistake.
fn require_the_tests(tree: &Tree, mutants: &[&Mutant]) -> Result<()> {
    let mut suites: BTreeMap<Suite, BTreeSet<&str>> = BTreeMap::new();
    for mutant in mutants {
        for (suite, filter) in mutant.tests()? {
            suites.entry(suite).or_default().insert(filter);
        }
    }
    for (suite, filters) in suites {
        let started = Instant::now();
        let binary = match tree.build(suite)? {
            Ok(binary) => binary,
            Err(error) => bail!("{suite} does not build without a mistake: {error}"),
        };
        let names = tree.names(&binary)?;
        for filter in &filters {
            if !names.iter().any(|name| name.contains(filter)) {
                bail!("no test of {suite} has a name that contains {filter:?}");
            }
        }
        let filters: Vec<&str> = filters.into_iter().collect();
        match tree.run(&binary, &filters, WHOLE_SUITE)? {
            Ran::Passed => say(format!(
                "{GOOD}ok{GOOD:#}  the named tests of {suite} pass without a mistake {FAINT}{:.0} s{FAINT:#}",
                started.elapsed().as_secs_f64()
            )),
            Ran::Failed(name) => bail!("{name} of {suite} fails without a mistake"),
            Ran::TooLong => bail!("the named tests of {suite} do not end without a mistake"),
        }
    }
    Ok(())
}

/// Makes one mistake, runs its tests, and undoes the mistake.
fn one<'a>(tree: &Tree, mutant: &'a Mutant, all_tests: bool) -> Result<Line<'a>> {
    let started = Instant::now();
    let source = tree.source(&mutant.file)?;
    tree.write(&mutant.file, &mutant.applied(&source)?)?;
    let judged = judge(tree, mutant, all_tests);
    tree.write(&mutant.file, &source)?;
    let (outcome, by) = judged?;
    Ok(Line {
        name: &mutant.name,
        file: &mutant.file,
        outcome,
        by,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn judge(tree: &Tree, mutant: &Mutant, all_tests: bool) -> Result<(Outcome, String)> {
    let excused = match mutant.kind()? {
        Kind::Caught => return judge_by_tests(tree, mutant),
        Kind::Equivalent => Outcome::Equivalent,
        Kind::OutOfReach => Outcome::OutOfReach,
    };
    let package = mutant.package()?;
    let suite = Suite {
        package,
        loom: false,
    };
    let binary = match tree.build(suite)? {
        Ok(binary) => binary,
        Err(error) => return Ok((Outcome::DoesNotCompile, error)),
    };
    if all_tests && let Ran::Failed(name) = tree.run(&binary, &[], WHOLE_SUITE)? {
        return Ok((
            Outcome::Caught,
            format!("{name}, though it says {excused:?}"),
        ));
    }
    Ok((excused, mutant.reason().to_owned()))
}

fn judge_by_tests(tree: &Tree, mutant: &Mutant) -> Result<(Outcome, String)> {
    let tests = mutant.tests()?;
    let suites: BTreeSet<Suite> = tests.iter().map(|&(suite, _)| suite).collect();
    let deadline = Duration::from_secs(mutant.deadline_s());
    let mut survived = "no named test fails";
    for suite in suites {
        let of_it = tests.iter().filter(|&&(of, _)| of == suite);
        let filters: Vec<&str> = of_it.map(|&(_, filter)| filter).collect();
        let binary = match tree.build(suite)? {
            Ok(binary) => binary,
            Err(error) => return Ok((Outcome::DoesNotCompile, error)),
        };
        match tree.run(&binary, &filters, deadline)? {
            Ran::Failed(name) => return Ok((Outcome::Caught, name)),
            Ran::TooLong if mutant.hangs() => {
                return Ok((Outcome::CaughtByDeadline, filters.join(", ")));
            }
            Ran::TooLong => survived = "no verdict before the deadline",
            Ran::Passed => {}
        }
    }
    Ok((Outcome::Survived, survived.to_owned()))
}

fn print_line(line: &Line<'_>) {
    let style = if line.outcome.is_bad() { BAD } else { GOOD };
    say(format!(
        "{style}{:<12}{style:#} {} {FAINT}{}, {:.1} s{FAINT:#}",
        line.outcome.word(),
        line.name,
        line.by.lines().next().unwrap_or_default(),
        line.seconds
    ));
}

fn summary(lines: &[Line<'_>]) -> String {
    let count = |of: &[Outcome]| lines.iter().filter(|l| of.contains(&l.outcome)).count();
    let wrong = match count(&[Outcome::DoesNotCompile]) {
        0 => String::new(),
        n => format!(", {n} do not compile"),
    };
    format!(
        "{} mutants: {} caught, {} equivalent, {} out of reach, {} survived{wrong}",
        lines.len(),
        count(&[Outcome::Caught, Outcome::CaughtByDeadline]),
        count(&[Outcome::Equivalent]),
        count(&[Outcome::OutOfReach]),
        count(&[Outcome::Survived]),
    )
}

/// Prints the mistakes that no test finds, with the reasons.
fn print_reasons(mutants: &[&Mutant]) {
    for (title, wanted) in [
        ("Equivalent: nothing can go wrong", "equivalent"),
        (
            "Out of reach: no test of the host can show it",
            "out of reach",
        ),
    ] {
        say(title);
        for mutant in mutants {
            let of = mutant.equivalent.as_ref().map(|_| "equivalent");
            let of = of.or(mutant.out_of_reach.as_ref().map(|_| "out of reach"));
            if of == Some(wanted) {
                let reason: Vec<&str> = mutant.reason().split_whitespace().collect();
                say(format!("  {} ({})", mutant.name, mutant.file));
                say(format!("      {FAINT}{}{FAINT:#}", reason.join(" ")));
            }
        }
    }
}
