//! Runs planted faults. Each must turn its verdict red, with the expected exit code and reason.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tidemark_frames::Variant;
use tidemark_wire::{Plant, Pressure};

use crate::commands::cases::run_cases;
use crate::commands::suite::trial::Trial;
use crate::guest::build::Built;
use crate::guest::options::Mode;
use crate::guest::record::Record;
use crate::judge::ktap::{self, Parser, Results, Test};
use crate::judge::price;
use crate::judge::tally::Tally;
use crate::judge::verdict::{Outcome, Verdict, judge, of_ending};
use crate::terminal::cli::Accel;
use crate::terminal::console::Console;

/// One run that must fail.
struct Case {
    name: String,
    plant: Option<Plant>,
    /// The kind of run that has to find the fault.
    finder: Finder,
    /// Bytes that are booted instead of the kernel.
    image: Option<&'static [u8]>,
    /// Exit codes, each with words that a reason must contain. One of these pairs must be met.
    ends: &'static [(i32, &'static str)],
}

/// The kind of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finder {
    Demonstration,
    /// The self-tests whose name contains this.
    SelfTests(&'static str),
    Price,
}

/// Removals in a measurement of the price that is to break its promise.
const REMOVALS: u32 = 300;
/// Cycles in a run with a planted fault.
const CYCLES: u32 = 1;

fn cases() -> Vec<Case> {
    let plant = |plant: Plant, ends| Case {
        name: format!("plant/{}", plant.name()),
        plant: Some(plant),
        finder: Finder::Demonstration,
        image: None,
        ends,
    };
    let in_tests = |plant: Plant, pattern: &'static str, ends| Case {
        name: format!(
            "plant/{}-in-{}",
            plant.name(),
            pattern.trim_end_matches('/')
        ),
        plant: Some(plant),
        finder: Finder::SelfTests(pattern),
        image: None,
        ends,
    };
    let image = |name: &str, bytes| Case {
        name: format!("loader/{name}"),
        plant: None,
        finder: Finder::Demonstration,
        image: Some(bytes),
        ends: &[(2, "the loader refuses")],
    };
    vec![
        plant(Plant::LostFrame, &[(1, "frames lost")]),
        plant(Plant::CorruptPage, &[(1, "pages corrupted")]),
        plant(Plant::AtomicFailure, &[(1, "atomic failures")]),
        plant(
            Plant::OddFailures,
            &[(1, "handlers' requests failed although a fresh walk")],
        ),
        plant(
            Plant::NoCheck,
            &[(1, "held over a rebuild failed although a fresh walk")],
        ),
        plant(Plant::CorruptMigrated, &[(1, "1 pages corrupted")]),
        plant(Plant::MissedEject, &[(1, "confirmed by DEVICE_DELETED")]),
        // An interrupt that arrives under the writer's lock breaks the lock order. That happens
        // before the count of such rebuilds can fail the run.
        plant(
            Plant::IrqOn,
            &[(1, "found interrupts on"), (3, "lock order")],
        ),
        plant(Plant::Panic, &[(3, "planted")]),
        plant(Plant::Hang, &[(4, "heartbeat"), (4, "timer interrupt")]),
        plant(Plant::TripleFault, &[(3, "triple fault")]),
        in_tests(Plant::StrayWrite, "storm/", &[(1, "blocks were broken")]),
        in_tests(Plant::StrayWrite, "steps/", &[(1, "blocks were broken")]),
        in_tests(Plant::LostFrame, "storm/", &[(1, "given back")]),
        in_tests(
            Plant::DeafWatchdog,
            "watchdog/a_cpu_with_interrupts_off",
            &[(1, "was not found")],
        ),
        in_tests(
            Plant::DeafWatchdog,
            "watchdog/a_cpu_that_hangs",
            &[(1, "was not found")],
        ),
        in_tests(
            Plant::DeafWatchdog,
            "watchdog/a_cpu_in_an_nmis_handler",
            &[(1, "was not found")],
        ),
        Case {
            name: "plant/no-check-in-price".to_owned(),
            plant: Some(Plant::NoCheck),
            finder: Finder::Price,
            image: None,
            ends: &[(1, "requests of tasks failed, 0 at most")],
        },
        image("text-file", b"This is no kernel.\n"),
        image("empty-elf", b"\x7fELF\x02\x01\x01"),
    ]
}

/// Runs every planted fault whose name contains the pattern.
///
/// # Errors
/// QEMU cannot be started.
pub fn run_all(
    pattern: Option<&str>,
    accel: Accel,
    built: &Built,
    console: &mut Console,
) -> Result<Tally> {
    let folder = tempfile::tempdir().context("no folder for planted images")?;
    let image = folder.path().join("image");
    let cases = cases().into_iter().map(|case| (case.name.clone(), case));
    let part = ("planted faults", "each must fail its run");
    run_cases(part, pattern, cases, |name, case| {
        if let Some(bytes) = case.image {
            std::fs::write(&image, bytes)?;
        }
        let trial = trial(&case, case.image.map(|_| image.clone()));
        let (verdict, _) =
            trial.run(
                name,
                accel,
                built,
                console,
                |expected, record, log| match case.finder {
                    Finder::SelfTests(_) => judge_tests(record, results(log)),
                    Finder::Demonstration => judge(expected, record),
                    Finder::Price => {
                        price::judge(expected.zonelist.variant, REMOVALS, expected.cpus, record)
                    }
                },
            )?;
        Ok(check(&case, &verdict))
    })
}

fn trial(case: &Case, kernel_image: Option<PathBuf>) -> Trial {
    Trial {
        mode: match case.finder {
            Finder::SelfTests(pattern) => Mode::Test {
                pattern: Some(pattern.to_owned()),
                storm: None,
            },
            Finder::Price => Mode::Price { removals: REMOVALS },
            Finder::Demonstration => Mode::Demo {
                cycles: CYCLES,
                seed: 1,
                nmi_requests: true,
                pressure: Pressure::Even,
            },
        },
        zonelist: Variant::Seed,
        plant: case.plant,
        kernel_image,
    }
}

fn results(log: &[String]) -> Results {
    let mut parser = Parser::default();
    log.iter().for_each(|line| parser.line(line));
    parser.finish()
}

/// Returns the verdict of a run of self-tests: from the guest's end if that decides, otherwise from
/// its tests.
fn judge_tests(record: &Record, results: Results) -> Verdict {
    if let Some(verdict) = of_ending(record) {
        return verdict;
    }
    let failed = |test: &Test| test.outcome == ktap::Outcome::NotOk;
    let reasons = results.tests.iter().filter(|test| failed(test));
    let mut reasons: Vec<String> = reasons.map(|test| test.diagnostics.join("; ")).collect();
    reasons.extend(results.violations);
    let outcome = if reasons.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed
    };
    Verdict { outcome, reasons }
}

fn check(case: &Case, verdict: &Verdict) -> Result<(), String> {
    let code = verdict.outcome.exit_code();
    let says = |words: &str| verdict.reasons.iter().any(|reason| reason.contains(words));
    let met = |&(wanted, words): &(i32, &str)| code == wanted && says(words);
    if case.ends.iter().any(met) {
        return Ok(());
    }
    Err(format!(
        "expected {:?}, found exit code {code}: {:?}",
        case.ends, verdict.reasons
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plant_has_a_case() {
        for plant in Plant::ALL {
            assert!(cases().iter().any(|case| case.plant == Some(plant)));
        }
    }

    #[test]
    fn a_plant_that_passes_or_fails_otherwise_is_noticed() {
        let case = &cases()[0];
        let verdict = |outcome, reason: &str| Verdict {
            outcome,
            reasons: vec![reason.to_owned()],
        };
        assert!(check(case, &verdict(Outcome::Failed, "3 frames lost")).is_ok());
        assert!(check(case, &verdict(Outcome::Failed, "1 pages corrupted")).is_err());
        assert!(check(case, &verdict(Outcome::Passed, "3 frames lost")).is_err());
        assert!(check(case, &verdict(Outcome::Hung, "3 frames lost")).is_err());
    }
}
