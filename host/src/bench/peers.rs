//! The half that times the allocator on this machine, beside other crates: runs the criterion
//! benchmark `allocators` of this package and reads what it wrote.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::table::{Row, number};
use crate::build;

/// Our name in the benchmark.
const OURS: &str = "tidemark";
/// Names in the benchmark of what bounds a row from below, and is no allocator.
const FLOORS: [&str; 2] = ["harness alone", "bare LIFO"];

/// A workload, its row's name and aim. The rows about sizes are told from each other by their names.
const WORKLOADS: &[(&str, Option<f64>)] = &[
    ("order-0 hot pair", Some(6.0)),
    ("order-0 hot pair, 2 threads", Some(6.0)),
    ("half of memory, allocate", Some(10.0)),
    ("half of memory, free at random", Some(10.0)),
    ("half of memory, allocate, 2 threads", Some(10.0)),
    ("half of memory, free at random, 2 threads", Some(12.0)),
    ("order-9 hot pair", Some(10.0)),
    ("mix of orders 0-9, 60-80 % full", Some(14.0)),
    ("mix of orders 0-9, 60-80 % full, 2 threads", Some(20.0)),
    ("allocated on one thread, freed on another", Some(40.0)),
    ("churn of order 0, 50 % full", None),
    ("churn of order 0, 99 % full", None),
    ("size 256 MiB, order-0 hot pair", None),
    ("size 1 GiB, order-0 hot pair", None),
    ("size 16 GiB, order-0 hot pair", None),
    ("size 256 GiB, order-0 hot pair", None),
    ("size 1 TiB, order-0 hot pair", None),
    ("size 256 MiB, 32,768 frames, a frame", None),
    ("size 1 GiB, 32,768 frames, a frame", None),
    ("size 16 GiB, 32,768 frames, a frame", None),
    ("size 256 GiB, 32,768 frames, a frame", None),
    ("size 1 TiB, 32,768 frames, a frame", None),
];

#[derive(Clone, Debug, Deserialize)]
struct Id {
    group_id: String,
    function_id: Option<String>,
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

/// Nanoseconds an operation of one allocator under one workload.
#[derive(Clone, Debug, PartialEq)]
struct Time {
    workload: String,
    allocator: String,
    median: f64,
    min: f64,
    max: f64,
}

/// Runs the benchmark and makes rows of its results.
///
/// # Errors
/// It does not build, fails, or wrote nothing that can be read.
pub fn measure() -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let notes = folder.path().join("notes.json");
    let status = build::cargo()
        .args([
            "bench",
            "--locked",
            "--quiet",
            "-p",
            "tidemark",
            "--bench",
            "allocators",
        ])
        .args(["--", "--quiet", "--noplot"])
        .env("CRITERION_HOME", folder.path())
        .env("TIDEMARK_BENCH_NOTES", &notes)
        // Its own report repeats what the table says.
        .stdout(std::process::Stdio::null())
        .status()
        .context("cargo could not be run to time the allocators")?;
    if !status.success() {
        bail!("the benchmark of the allocators failed");
    }
    let notes: BTreeMap<String, String> = serde_json::from_str(&fs::read_to_string(&notes)?)?;
    let mut times = Vec::new();
    read_times(folder.path(), &mut times)?;
    Ok(rows(&times, &notes))
}

/// Reads every result below a folder of criterion's.
fn read_times(folder: &Path, times: &mut Vec<Time>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == "new") {
            times.push(read_time(&path).with_context(|| format!("{}", path.display()))?);
        } else if path.is_dir() {
            read_times(&path, times)?;
        }
    }
    Ok(())
}

fn read_time(folder: &Path) -> Result<Time> {
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let id: Id = serde_json::from_str(&read("benchmark.json")?)?;
    let estimates: Estimates = serde_json::from_str(&read("estimates.json")?)?;
    let sample: Sample = serde_json::from_str(&read("sample.json")?)?;
    let each = sample.times.iter().zip(&sample.iters);
    let each: Vec<f64> = each.map(|(time, iterations)| time / iterations).collect();
    Ok(Time {
        workload: id.group_id,
        allocator: id.function_id.unwrap_or_default(),
        median: estimates.median.point_estimate,
        min: each.iter().copied().fold(f64::INFINITY, f64::min),
        max: each.iter().copied().fold(0.0, f64::max),
    })
}

fn rows(times: &[Time], notes: &BTreeMap<String, String>) -> Vec<Row> {
    WORKLOADS
        .iter()
        .filter_map(|&(workload, aim)| row(workload, aim, times, notes))
        .collect()
}

fn row(
    workload: &str,
    aim: Option<f64>,
    times: &[Time],
    notes: &BTreeMap<String, String>,
) -> Option<Row> {
    let of_workload = || times.iter().filter(|time| time.workload == workload);
    let ours = of_workload().find(|time| time.allocator == OURS)?;
    let mut others: Vec<&Time> = of_workload()
        .filter(|time| time.allocator != OURS)
        .collect();
    others.sort_by(|a, b| a.median.total_cmp(&b.median));
    let is_peer = |time: &&&Time| !FLOORS.contains(&time.allocator.as_str());
    let noted = |name: &str| {
        let note = notes.get(&format!("{workload}/{name}"));
        note.map_or(String::new(), |note| format!(" ({note})"))
    };
    let mut words: Vec<String> = others
        .iter()
        .map(|other| {
            format!(
                "{} {} = {:.2} x{}",
                other.allocator,
                number(other.median),
                other.median / ours.median,
                noted(&other.allocator)
            )
        })
        .collect();
    if !noted(OURS).is_empty() {
        words.insert(0, format!("ours{}", noted(OURS)));
    }
    Some(Row {
        name: workload.to_owned(),
        value: ours.median,
        min: ours.min,
        max: ours.max,
        unit: "ns",
        anchor: others.iter().find(is_peer).map(|best| best.median),
        aim,
        note: words.join("; "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(allocator: &str, median: f64) -> Time {
        Time {
            workload: "order-9 hot pair".to_owned(),
            allocator: allocator.to_owned(),
            median,
            min: median,
            max: median,
        }
    }

    #[test]
    fn a_row_has_the_best_peer_and_all_ratios() {
        let times = [
            time("bare LIFO", 2.0),
            time("slow", 40.0),
            time("fast", 30.0),
            time(OURS, 20.0),
        ];
        let notes = BTreeMap::from([("order-9 hot pair/slow".to_owned(), "failed 3".to_owned())]);
        let rows = rows(&times, &notes);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].anchor, Some(30.0));
        assert!(rows[0].note.contains("fast 30 = 1.50 x"));
        assert!(rows[0].note.contains("slow 40 = 2.00 x (failed 3)"));
    }

    #[test]
    fn a_workload_that_was_not_run_has_no_row() {
        assert!(rows(&[time("fast", 30.0)], &BTreeMap::new()).is_empty());
    }
}
