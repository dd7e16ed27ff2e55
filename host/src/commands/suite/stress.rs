//! Runs the allocator under stress with real signals: the example `stress` of `tidemark-frames`. It
//! runs in a process for each zonelist protocol and each planted fault.

use std::cell::OnceCell;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tidemark_frames::Variant;

use crate::commands::cases::run_cases;
use crate::commands::suite::hosttests::Depth;
use crate::guest::build;
use crate::judge::tally::Tally;
use crate::terminal::cli::{OutputArgs, Verbosity};
use crate::terminal::console::say;

/// Seconds for the one protocol that is always run.
const SHORT: u32 = 3;
/// Seconds for each protocol with `--full`: about a minute in all.
const EACH: u32 = 6;
/// Most seconds for a run that must fail. Most end as soon as the fault is found.
const PLANTED: u32 = 10;

/// Seconds after which a CPU that does not go on counts as hung, in runs that must fail.
const HANG: &str = "5";

/// One run of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Case {
    name: String,
    zonelist: Variant,
    seconds: u32,
    plant: Option<&'static Plant>,
}

/// A fault that the program makes on request.
#[derive(Debug, PartialEq, Eq)]
struct Plant {
    name: &'static str,
    zonelist: Variant,
    seconds: u32,
    /// Words of which one must be in the last line.
    says: &'static [&'static str],
}

/// The planted faults. For some of them, a race decides by which of its words it is found.
const PLANTS: [Plant; 5] = [
    Plant {
        // It is found at the end of the run.
        seconds: 2,
        ..plant("lost-frame", &["frames lost"])
    },
    plant("two-owners", &["two owners", "not its owner's"]),
    plant(
        "double-free",
        &["DoubleFree", "two owners", "not its owner's"],
    ),
    plant("hang", &["hang: cpu"]),
    Plant {
        zonelist: Variant::SeqlockIrqsave,
        ..plant(
            "irq-on",
            &["a wait given up (HardIrq), which seqlock-irqsave rules out"],
        )
    },
];

const fn plant(name: &'static str, says: &'static [&'static str]) -> Plant {
    Plant {
        name,
        zonelist: Variant::Seed,
        seconds: PLANTED,
        says,
    }
}

fn cases(depth: Depth) -> Vec<Case> {
    let of = |zonelist: Variant, seconds| Case {
        name: format!("stress/{}", zonelist.name()),
        zonelist,
        seconds,
        plant: None,
    };
    if depth == Depth::Short {
        return vec![of(Variant::Seed, SHORT)];
    }
    let protocols = Variant::ALL.iter();
    let planted = PLANTS.iter().map(|plant| Case {
        name: format!("stress/plant-{}", plant.name),
        plant: Some(plant),
        ..of(plant.zonelist, plant.seconds)
    });
    protocols
        .map(|&zonelist| of(zonelist, EACH))
        .chain(planted)
        .collect()
}

/// Runs the protocols, and with `--full` the planted faults. Only those whose name contains the
/// pattern run.
///
/// # Errors
/// The program does not build, or cannot be run.
pub fn run_all(pattern: Option<&str>, depth: Depth, output: &OutputArgs) -> Result<Tally> {
    let program = OnceCell::new();
    let what =
        "real signals as interrupts: cargo run --release -p tidemark-frames --example stress";
    let cases = cases(depth)
        .into_iter()
        .map(|case| (case.name.clone(), case));
    run_cases(("stress", what), pattern, cases, |_, case| {
        let program = match program.get() {
            Some(program) => program,
            None => {
                let built = build::stress()?;
                program.get_or_init(|| built)
            }
        };
        let (code, lines) = run(&case, program)?;
        let result = check(&case, code, lines.last().map_or("", String::as_str));
        if result.is_err() || output.verbosity() == Verbosity::All {
            lines.iter().for_each(say);
        }
        Ok(result)
    })
}

/// Runs a case. Returns the exit code, if it has one, and what it printed.
fn run(case: &Case, program: &Path) -> Result<(Option<i32>, Vec<String>)> {
    let mut command = Command::new(program);
    command
        .args(["--seconds", &case.seconds.to_string()])
        .args(["--zonelist", case.zonelist.name()])
        .stdin(Stdio::null());
    if let Some(plant) = case.plant {
        command.args(["--plant", plant.name, "--hang", HANG]);
    }
    let ran = command.output().context("the stress could not be run")?;
    let words = [ran.stderr, ran.stdout].map(|text| String::from_utf8_lossy(&text).into_owned());
    let lines = words.iter().flat_map(|text| text.lines());
    Ok((ran.status.code(), lines.map(str::to_owned).collect()))
}

fn check(case: &Case, code: Option<i32>, last: &str) -> Result<(), String> {
    let is_as_expected = match case.plant {
        None => code == Some(0) && last == "SOUND",
        Some(plant) => {
            let is_red = code == Some(1) && last.starts_with("WRONG: ");
            is_red && plant.says.iter().any(|words| last.contains(words))
        }
    };
    if is_as_expected {
        return Ok(());
    }
    let code = code.map_or("no exit code".to_owned(), |code| {
        format!("exit code {code}")
    });
    Err(match case.plant {
        None => format!("{code}: {last}"),
        Some(plant) => format!("expected one of {:?}, found {code}: {last}", plant.says),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str) -> Case {
        let named = cases(Depth::Full).into_iter();
        let mut named = named.filter(|case| case.name == name);
        named.next().unwrap()
    }

    #[test]
    fn every_protocol_and_every_planted_fault_is_run_with_full() {
        let names = |depth| {
            let cases = cases(depth).into_iter();
            cases.map(|case| case.name).collect::<Vec<_>>()
        };
        assert_eq!(names(Depth::Short), ["stress/seed"]);
        let full = names(Depth::Full);
        for zonelist in Variant::ALL {
            assert!(full.contains(&format!("stress/{}", zonelist.name())));
        }
        assert_eq!(full.len(), Variant::ALL.len() + PLANTS.len());
    }

    #[test]
    fn a_run_counts_only_if_it_says_so_and_a_planted_one_if_it_is_found() {
        let seed = case("stress/seed");
        assert_eq!(check(&seed, Some(0), "SOUND"), Ok(()));
        assert!(check(&seed, Some(0), "").is_err());
        assert!(check(&seed, Some(1), "SOUND").is_err());
        assert!(check(&seed, None, "SOUND").is_err());
        let lost = case("stress/plant-lost-frame");
        assert_eq!(check(&lost, Some(1), "WRONG: 1 frames lost; x"), Ok(()));
        assert!(check(&lost, Some(1), "WRONG: hang: cpu1").is_err());
        assert!(check(&lost, Some(0), "SOUND").is_err());
    }
}
