//! `tidemark test`: the host's tests, the self-tests on several machines, the planted faults.

mod hosttests;
mod names;
mod planted;
mod stress;
mod trial;
mod variants;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::commands::cases::print_part;
use crate::commands::suite::hosttests::Depth;
use crate::guest::build::{self, Built};
use crate::guest::machine::Machine;
use crate::guest::options::{Mode, Options};
use crate::guest::qemu;
use crate::guest::record::Record;
use crate::guest::run::{Spec, run};
use crate::judge::json;
use crate::judge::ktap::{Outcome, Parser, Results};
use crate::judge::points::Traces;
use crate::judge::report::{crash_report, seconds};
use crate::judge::skips::Skips;
use crate::judge::symbols::Symbols;
use crate::judge::tally::Tally;
use crate::judge::verdict;
use crate::terminal::cli::{Part, TestArgs, Verbosity, Zonelist};
use crate::terminal::console::{BAD, Console, GOOD, say};
use crate::terminal::exit::{EXIT_INTERRUPTED, EXIT_USAGE};
use crate::terminal::interrupt;
use crate::terminal::size::Mib;

/// One machine that the self-tests run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    pub name: &'static str,
    pub machine: Machine,
    /// The protocol of its zonelists.
    pub zonelist: Zonelist,
    /// Only the self-tests whose name contains this run on it; empty means all.
    pub only: &'static str,
}

/// The protocols besides the one that the other machines have; their machines are called like them.
const OTHER_PROTOCOLS: [(&str, Zonelist); 8] = [
    ("none", Zonelist::None),
    ("seqlock", Zonelist::Seqlock),
    ("seqlock-irqoff", Zonelist::SeqlockIrqoff),
    ("seqlock-irqsave", Zonelist::SeqlockIrqsave),
    ("seqlock-annotated", Zonelist::SeqlockAnnotated),
    ("seqlock-recheck", Zonelist::SeqlockRecheck),
    ("gfp-seqlock", Zonelist::GfpSeqlock),
    ("snapshot", Zonelist::Snapshot),
];

/// The machines of `test`, or of `test --full`, or the one that the options describe.
pub fn configurations(args: &TestArgs) -> Vec<Configuration> {
    let configuration = |name, cpus, nodes, memory, without: &[Part]| Configuration {
        name,
        machine: Machine {
            cpus,
            nodes,
            memory: Mib(memory),
            accel: args.accel,
            without: without.to_vec(),
        },
        zonelist: Zonelist::Seed,
        only: "",
    };
    if is_custom(args) {
        return vec![Configuration {
            name: "custom",
            machine: Machine {
                cpus: args.cpus.unwrap_or(4),
                nodes: args.nodes.unwrap_or(2),
                memory: args.memory.unwrap_or(Mib(3072)),
                accel: args.accel,
                without: args.without.clone(),
            },
            zonelist: args.zonelist.unwrap_or(Zonelist::Seed),
            only: "",
        }];
    }
    let mut list = vec![
        configuration("1cpu-1node", 1, 1, 3072, &[]),
        configuration("4cpu-2node", 4, 2, 3072, &[]),
        configuration("2cpu-48m", 2, 1, 48, &[]),
    ];
    if args.full {
        list.extend([
            configuration("8cpu-4node", 8, 4, 3072, &[]),
            configuration("16cpu", 16, 2, 3072, &[]),
            configuration("no-srat", 4, 2, 3072, &[Part::Srat]),
            configuration("no-dimms", 4, 2, 3072, &[Part::Dimms]),
            configuration("8g", 4, 2, 8192, &[]),
        ]);
        list.extend(OTHER_PROTOCOLS.map(|(name, zonelist)| Configuration {
            zonelist,
            only: "zonelist/",
            ..configuration(name, 4, 2, 3072, &[])
        }));
    } else {
        list.push(Configuration {
            only: "storm/",
            ..configuration("8cpu-storm", 8, 2, 3072, &[])
        });
    }
    // QEMU takes memory as the guest touches it: booting touches little, whole piles much.
    list.push(Configuration {
        only: "boot/",
        ..configuration("16g", 4, 2, 16_384, &[])
    });
    list
}

/// What stops a machine's memory from being had here, if anything: a kernel that counts memory when
/// it is asked for, not when it is touched.
fn obstacle(machine: &Machine) -> Option<String> {
    let strict = std::fs::read_to_string("/proc/sys/vm/overcommit_memory")
        .is_ok_and(|mode| mode.trim() == "2");
    let left = || {
        let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
        let number = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(number("CommitLimit:")?.saturating_sub(number("Committed_AS:")?) / 1024)
    };
    let left = left().filter(|&left| strict && left < machine.memory.0)?;
    Some(format!(
        "{left} MiB may be promised here (vm.overcommit_memory is 2), {} are wanted",
        machine.memory.0
    ))
}

/// The pattern that a machine's self-tests get: what the user wants of those that the machine is
/// for. Nothing if it is for none of them.
fn pattern(configuration: &Configuration, args: &TestArgs) -> Option<String> {
    let (wanted, only) = (args.pattern.as_deref().unwrap_or(""), configuration.only);
    if only.contains(wanted) {
        return Some(only.to_owned());
    }
    wanted.starts_with(only).then(|| wanted.to_owned())
}

/// Whether the others need not be booted: all have the same tests, and this one had none to run.
fn no_machine_has_any(configuration: &Configuration, tally: &Tally) -> bool {
    configuration.only.is_empty() && *tally == Tally::default()
}

fn is_custom(args: &TestArgs) -> bool {
    args.cpus.is_some()
        || args.nodes.is_some()
        || args.memory.is_some()
        || args.zonelist.is_some()
        || !args.without.is_empty()
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
        accel: crate::guest::accel::usable(args.accel),
        ..args.clone()
    };
    let started = Instant::now();
    let mut parts: Vec<(String, Tally)> = Vec::new();
    if !is_custom(args) {
        let depth = if args.full { Depth::Full } else { Depth::Short };
        let tally =
            crate::commands::suite::hosttests::run(args.pattern.as_deref(), depth, &args.output)?;
        parts.push(("host".to_owned(), tally));
        let tally =
            crate::commands::suite::stress::run_all(args.pattern.as_deref(), depth, &args.output)?;
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
        let lab = crate::commands::lab::self_test(args.pattern.as_deref(), args.accel, &built)?;
        parts.push(("lab".to_owned(), lab));
        if args.full {
            let planted =
                crate::commands::lab::full_test(args.pattern.as_deref(), args.accel, &built)?;
            parts.push(("lab, planted".to_owned(), planted));
            parts.push((
                "points".to_owned(),
                points(args.pattern.as_deref(), &built)?,
            ));
            let demos = crate::commands::suite::variants::run_all(
                args.pattern.as_deref(),
                args.accel,
                &built,
                &mut console,
            )?;
            parts.push(("demonstration".to_owned(), demos));
        }
        let planted = planted::run_all(args.pattern.as_deref(), args.accel, &built, &mut console)?;
        parts.push(("planted faults".to_owned(), planted));
        let shell =
            crate::commands::shell::endtoend::run_all(args.pattern.as_deref(), &mut console)?;
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

/// What schedule points cost a kernel that is built to be measured: nothing.
fn points(pattern: Option<&str>, built: &Built) -> Result<Tally> {
    let name = "points/the_measured_kernel_has_none";
    if !pattern.is_none_or(|pattern| name.contains(pattern)) {
        return Ok(Tally::default());
    }
    let started = Instant::now();
    let measured = Traces::of(&build::guest_for_bench()?.unstripped)?;
    let tally = Tally::one(crate::judge::points::check(
        &measured,
        &Traces::of(&built.unstripped)?,
    ));
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

/// Says that there is nothing to run; returns the exit code.
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
    // Alone on its line and plain, for programs that read it.
    say(format!(
        "{} passed, {} failed, {} skipped",
        total.ok, total.not_ok, total.skipped
    ));
}

fn self_tests(
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

/// Counts results; a skip that is not expected is a failure.
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

/// What the guest's end adds to the results that it printed.
fn ending(name: &str, record: &Record, tally: &Tally) -> Option<String> {
    use crate::guest::record::Ended;
    use tidemark_wire::exit_value::{FAILED, PASSED};
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
#[path = "suite_tests.rs"]
mod tests;
