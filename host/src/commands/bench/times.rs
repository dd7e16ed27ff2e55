//! Measures nanoseconds an operation with criterion: runs the benchmark and reads what it wrote.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::figure::Figure;
#[derive(Clone, Debug, Deserialize)]
struct Id {
    group_id: String,
    function_id: Option<String>,
    throughput: Throughput,
}

/// Operations in an iteration.
#[derive(Clone, Debug, Deserialize)]
struct Throughput {
    #[serde(rename = "Elements")]
    operations: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Clone, Debug, Deserialize)]
struct Estimate {
    point_estimate: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Sample {
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// Runs the benchmark. Results that are no times are noted by "workload/allocator".
///
/// # Errors
/// The benchmark fails, or wrote nothing that can be read.
pub fn measure(benchmark: &Path) -> Result<(Vec<Figure>, BTreeMap<String, String>)> {
    let folder = tempfile::tempdir()?;
    let notes = folder.path().join("notes.json");
    let mut command = Command::new(benchmark);
    command
        .args(["--bench", "--quiet", "--noplot"])
        .env("CRITERION_HOME", folder.path())
        .env("TIDEMARK_BENCH_NOTES", &notes)
        // Criterion's own report repeats what the table says.
        .stdout(Stdio::null());
    if std::io::stderr().is_terminal() {
        // Criterion shows its progress there.
        command.stderr(Stdio::inherit());
    }
    let output = command
        .output()
        .context("the benchmark of the allocators could not be run")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it says no more");
        bail!("the benchmark of the allocators failed: {last}");
    }
    let notes = serde_json::from_str(&fs::read_to_string(&notes)?)?;
    let mut times = Vec::new();
    read_all(folder.path(), &mut times)?;
    Ok((times, notes))
}

/// Reads every result below a folder of criterion's.
fn read_all(folder: &Path, times: &mut Vec<Figure>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == "new") {
            times.push(read(&path).with_context(|| format!("{}", path.display()))?);
        } else if path.is_dir() {
            read_all(&path, times)?;
        }
    }
    Ok(())
}

fn read(folder: &Path) -> Result<Figure> {
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let id: Id = serde_json::from_str(&read("benchmark.json")?)?;
    let estimates: Estimates = serde_json::from_str(&read("estimates.json")?)?;
    let sample: Sample = serde_json::from_str(&read("sample.json")?)?;
    let operations = id.throughput.operations;
    let each = sample.times.iter().zip(&sample.iters);
    let each: Vec<f64> = each
        .map(|(time, iterations)| time / iterations / operations)
        .collect();
    Ok(Figure {
        workload: id.group_id,
        allocator: id.function_id.unwrap_or_default(),
        median: estimates.median.point_estimate / operations,
        min: each.iter().copied().fold(f64::INFINITY, f64::min),
        max: each.iter().copied().fold(0.0, f64::max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criterions_files_are_read_as_nanoseconds_an_operation() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("a").join("new");
        fs::create_dir_all(&new).unwrap();
        for (name, text) in [
            (
                "benchmark.json",
                r#"{"group_id":"a","function_id":"b","throughput":{"Elements":1024}}"#,
            ),
            ("estimates.json", r#"{"median":{"point_estimate":6144.0}}"#),
            (
                "sample.json",
                r#"{"iters":[1.0,2.0],"times":[5120.0,14336.0]}"#,
            ),
        ] {
            fs::write(new.join(name), text).unwrap();
        }
        let mut times = Vec::new();
        read_all(folder.path(), &mut times).unwrap();
        let figure = &times[0];
        assert_eq!(
            (figure.workload.as_str(), figure.allocator.as_str()),
            ("a", "b")
        );
        assert_eq!((figure.median, figure.min, figure.max), (6.0, 5.0, 7.0));
    }
}
