//! What `test` runs case by case: cases are chosen by their names, and most are a run on one machine
//! whose outcome is judged.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::commands::suite::{Tally, print_part};
use crate::guest::build::Built;
use crate::guest::conductor::Watch;
use crate::guest::machine::Machine;
use crate::guest::options::{Mode, Options};
use crate::guest::record::Record;
use crate::guest::run::{Spec, run};
use crate::judge::verdict::{Expectation, Verdict};
use crate::terminal::cli::{Accel, Plant, Pressure, Zonelist};
use crate::terminal::console::Console;
use crate::terminal::interrupt;
use crate::terminal::size::Mib;

/// Runs the cases whose name contains the pattern, and prints a line about them if there were any.
/// `run` says what is wrong with a case.
///
/// # Errors
/// Those of `run`.
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

/// One run on the machine that cases share.
pub struct Trial {
    pub mode: Mode,
    pub zonelist: Zonelist,
    pub plant: Option<Plant>,
    /// Booted in the kernel's stead.
    pub kernel_image: Option<PathBuf>,
}

impl Trial {
    /// Runs it and has it judged, by what was expected, what was recorded, and the guest's log. Log and
    /// verdict go to `--log`, below the case's name.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn run(
        self,
        name: &str,
        accel: Accel,
        built: &Built,
        console: &mut Console,
        judge: impl FnOnce(&Expectation, &Record, &[String]) -> Verdict,
    ) -> Result<(Verdict, Vec<String>)> {
        let machine = Machine {
            cpus: 4,
            nodes: 2,
            memory: Mib(3072),
            accel,
            without: Vec::new(),
        };
        let expected = Expectation {
            cycles: match self.mode {
                Mode::Demo { cycles, .. } => cycles,
                _ => 0,
            },
            dimms: machine.dimms(),
            cpus: machine.cpus,
            zonelist: self.zonelist,
            pressure: match self.mode {
                Mode::Demo { pressure, .. } => pressure,
                _ => Pressure::Even,
            },
        };
        let spec = Spec {
            machine,
            options: Options {
                mode: self.mode,
                zonelist: self.zonelist,
                plant: self.plant,
                verbose: false,
                dump: Vec::new(),
            },
            built: built.clone(),
            kernel_image: self.kernel_image,
            extra: Vec::new(),
            watch: Watch::On,
        };
        console.write_log(&format!("# {name}"));
        let mut log = Vec::new();
        let record = run(&spec, |line| {
            console.write_log(line);
            log.push(line.to_owned());
        })?;
        let verdict = judge(&expected, &record, &log);
        let took = Duration::from_millis(record.wall.as_millis() as u64);
        console.write_log(&format!("# {name}: {verdict:?} after {took:?}"));
        Ok((verdict, log))
    }
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
