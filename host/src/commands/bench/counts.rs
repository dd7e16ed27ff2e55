//! Counts the exact instructions of an operation. valgrind runs the workloads of one thread one by
//! one, and counts what is executed in the stretch that is otherwise timed. It needs no counters of
//! the processor.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};

use super::figure::Figure;
use crate::terminal::interrupt;

const VALGRIND: &str = "valgrind";
/// The benchmark's function that is the stretch, with any type parameters.
const STRETCH: &str = "*measured_stretch*";

/// The result of the counting.
pub enum Counts {
    /// The instructions for each workload and allocator.
    Of(Vec<Figure>),
    /// No counts, because there is no valgrind.
    NoValgrind,
}

/// Counts every workload of the benchmark that can be counted.
///
/// # Errors
/// The benchmark fails under valgrind, or valgrind wrote nothing that can be read.
pub fn measure(benchmark: &Path) -> Result<Counts> {
    if !is_there(VALGRIND)? {
        return Ok(Counts::NoValgrind);
    }
    let list = output(Command::new(benchmark).arg("--count"))?;
    let wanted = list.lines().map(|line| {
        let (workload, allocator) = line.split_once('\t')?;
        Some((workload.to_owned(), allocator.to_owned()))
    });
    let wanted: Option<Vec<_>> = wanted.collect();
    let left = Mutex::new(wanted.context("the benchmark's list has a line of another kind")?);
    let counted = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        while !interrupt::requested() {
            let next = left.lock().map(|mut left| left.pop());
            let Ok(Some((workload, allocator))) = next else {
                break;
            };
            let figure = count(benchmark, &workload, &allocator)
                .with_context(|| format!("{workload}, {allocator}"))?;
            if let Ok(mut counted) = counted.lock() {
                counted.push(figure);
            }
        }
        Ok(())
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            let result = worker.join();
            result.unwrap_or_else(|_| bail!("a thread that counts has panicked"))
        })
    })?;
    Ok(Counts::Of(counted.into_inner().unwrap_or_default()))
}

fn is_there(program: &str) -> Result<bool> {
    let version = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    match version {
        Ok(status) => Ok(status.success()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{program} could not be run")),
    }
}

fn count(benchmark: &Path, workload: &str, allocator: &str) -> Result<Figure> {
    let profile = tempfile::NamedTempFile::new()?;
    let mut out_file = std::ffi::OsString::from("--callgrind-out-file=");
    out_file.push(profile.path());
    let mut command = Command::new(VALGRIND);
    command
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--toggle-collect={STRETCH}"))
        .arg(out_file)
        .arg(benchmark)
        .args(["--count", workload, allocator]);
    let operations = output(&mut command)?;
    let operations: f64 = operations
        .trim()
        .parse()
        .context("no number of operations")?;
    let total = total(&std::fs::read_to_string(profile.path())?)
        .context("valgrind's file has no total, or it is 0")?;
    let each = total as f64 / operations;
    // Instructions that are executed once in a stretch are no part of an operation.
    let each = (each * 10.0).round() / 10.0;
    Ok(Figure {
        workload: workload.to_owned(),
        allocator: allocator.to_owned(),
        median: each,
        min: each,
        max: each,
    })
}

/// Returns what a program prints, if it succeeds.
fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} could not be run", command.get_program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default();
        bail!("the benchmark failed where it is counted: {said}");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the instructions in a profile of callgrind's. If there are none at all, the stretch was
/// not found.
fn total(profile: &str) -> Option<u64> {
    let line = profile
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok().filter(|&total| total > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_profile_is_read() {
        let profile =
            "version: 1\nevents: Ir\nsummary: 2000\n\nfn=(1) a\n1 2000\n\ntotals: 1350022\n";
        assert_eq!(total(profile), Some(1_350_022));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn a_program_that_is_missing_is_no_error() {
        assert!(!is_there("no-such-valgrind").unwrap());
        assert!(is_there("cargo").unwrap());
    }

    #[test]
    fn a_stretch_that_was_not_met_is_no_count() {
        assert_eq!(total("totals: 0\n"), None);
    }
}
