//! The half of the benchmark that runs on this machine, beside other crates. The benchmark
//! `allocators` of this package measures it, in nanoseconds and in instructions.

use std::collections::BTreeMap;

use anyhow::Result;

use super::counts::{self, Counts};
use super::figure::Figure;
use super::table::{Row, number};
use super::times;
use crate::guest::build;
use crate::terminal::console::say;

/// Our allocator's name in the benchmark.
const OURS: &str = "tidemark";
/// Names in the benchmark that bound a row from below and are no allocators.
const FLOORS: [&str; 2] = ["harness alone", "bare LIFO"];

/// The value that a row should reach.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// The row has no aim.
    None,
    AtMost(f64),
    /// This many times the cost of another workload in the same run.
    Times(f64, &'static str),
}

/// The factor up to which two results are equal, because results vary from run to run.
const SAME: f64 = 1.1;

use Aim::{AtMost, Times};

/// The workloads, with the aims of their rows: for nanoseconds, and for instructions.
const WORKLOADS: &[(&str, Aim, Aim)] = &[
    ("order-0 hot pair", AtMost(6.0), AtMost(60.0)),
    (
        "order-0 hot pair, 2 threads",
        Times(SAME, "order-0 hot pair"),
        Aim::None,
    ),
    ("half of memory, allocate", AtMost(10.0), Aim::None),
    ("half of memory, free at random", AtMost(10.0), Aim::None),
    ("half of memory, a pair", Aim::None, AtMost(150.0)),
    (
        "half of memory, allocate, 2 threads",
        AtMost(10.0),
        Aim::None,
    ),
    (
        "half of memory, free at random, 2 threads",
        AtMost(12.0),
        Aim::None,
    ),
    ("order-9 hot pair", AtMost(10.0), AtMost(100.0)),
    (
        "mix of orders 0-9, 60-80 % full",
        AtMost(14.0),
        AtMost(140.0),
    ),
    (
        "mix of orders 0-9, 60-80 % full, 2 threads",
        AtMost(20.0),
        Aim::None,
    ),
    (
        "allocated on one thread, freed on another",
        AtMost(40.0),
        Aim::None,
    ),
    ("churn of order 0, 50 % full", Aim::None, Aim::None),
    (
        "churn of order 0, 99 % full",
        Times(3.0, "churn of order 0, 50 % full"),
        Times(3.0, "churn of order 0, 50 % full"),
    ),
    ("256 MiB managed, order-0 hot pair", Aim::None, Aim::None),
    ("1 GiB managed, order-0 hot pair", SAME_PAIR, SAME_PAIR),
    ("16 GiB managed, order-0 hot pair", SAME_PAIR, SAME_PAIR),
    ("256 GiB managed, order-0 hot pair", SAME_PAIR, SAME_PAIR),
    ("1 TiB managed, order-0 hot pair", SAME_PAIR, SAME_PAIR),
    ("256 MiB managed, 32,768 frames", Aim::None, Aim::None),
    ("1 GiB managed, 32,768 frames", SAME_FRAMES, SAME_FRAMES),
    ("16 GiB managed, 32,768 frames", SAME_FRAMES, SAME_FRAMES),
    ("256 GiB managed, 32,768 frames", SAME_FRAMES, SAME_FRAMES),
    ("1 TiB managed, 32,768 frames", SAME_FRAMES, SAME_FRAMES),
];

/// The cost must not depend on the amount of memory.
const SAME_PAIR: Aim = Times(SAME, "256 MiB managed, order-0 hot pair");
/// See [`SAME_PAIR`].
const SAME_FRAMES: Aim = Times(SAME, "256 MiB managed, 32,768 frames");

/// The results of this machine.
pub struct Measured {
    pub rows: Vec<Row>,
    /// The exit code, which is 0 if nothing went wrong.
    pub exit_code: i32,
}

/// Runs the benchmark and makes rows of its results. Without valgrind there are no counts.
///
/// # Errors
/// It does not build, fails, or wrote nothing that can be read.
pub fn measure() -> Result<Measured> {
    let benchmark = build::benchmark()?;
    // This goes to standard error, because the tables may go into a file.
    eprintln!("tidemark: times and counts on this machine take about three minutes");
    let (times, notes) = times::measure(&benchmark)?;
    let mut exit_code = 0;
    let counts = match counts::measure(&benchmark) {
        Ok(Counts::Of(counts)) => counts,
        Ok(Counts::NoValgrind) => {
            say(
                "no instructions are counted on this machine: valgrind is missing (apt install valgrind)",
            );
            Vec::new()
        }
        // The times were measured, so they are shown nevertheless.
        Err(error) => {
            say(format!(
                "no instructions are counted on this machine: {error:#}"
            ));
            exit_code = 1;
            Vec::new()
        }
    };
    let rows = rows(&times, &counts, &notes);
    Ok(Measured { rows, exit_code })
}

/// Returns the rows in the order of the workloads: for each first the time, then the instructions.
fn rows(times: &[Figure], counts: &[Figure], notes: &BTreeMap<String, String>) -> Vec<Row> {
    let none = BTreeMap::new();
    let rows_of = |&(workload, time, count): &(&str, Aim, Aim)| {
        [
            row(workload, "ns", time, times, notes),
            row(workload, "instructions", count, counts, &none),
        ]
    };
    WORKLOADS.iter().flat_map(rows_of).flatten().collect()
}

fn ours<'a>(workload: &str, figures: &'a [Figure]) -> Option<&'a Figure> {
    figures
        .iter()
        .find(|figure| figure.workload == workload && figure.allocator == OURS)
}

fn row(
    workload: &str,
    unit: &'static str,
    aim: Aim,
    figures: &[Figure],
    notes: &BTreeMap<String, String>,
) -> Option<Row> {
    let ours_here = ours(workload, figures)?;
    let mut others: Vec<&Figure> = figures
        .iter()
        .filter(|figure| figure.workload == workload && figure.allocator != OURS)
        .collect();
    others.sort_by(|a, b| a.median.total_cmp(&b.median));
    let is_peer = |figure: &&&Figure| !FLOORS.contains(&figure.allocator.as_str());
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
                other.median / ours_here.median,
                noted(&other.allocator)
            )
        })
        .collect();
    if !noted(OURS).is_empty() {
        words.insert(0, format!("ours{}", noted(OURS)));
    }
    Some(Row {
        name: match unit {
            "ns" => workload.to_owned(),
            _ => format!("{workload} ({unit})"),
        },
        value: ours_here.median,
        min: ours_here.min,
        max: ours_here.max,
        unit,
        anchor: others.iter().find(is_peer).map(|best| best.median),
        aim: match aim {
            Aim::None => None,
            AtMost(most) => Some(most),
            Times(factor, other) => ours(other, figures).map(|other| factor * other.median),
        },
        note: words.join("; "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(workload: &str, allocator: &str, median: f64) -> Figure {
        Figure {
            workload: workload.to_owned(),
            allocator: allocator.to_owned(),
            median,
            min: median,
            max: median,
        }
    }

    fn order_9(allocator: &str, median: f64) -> Figure {
        figure("order-9 hot pair", allocator, median)
    }

    #[test]
    fn a_row_has_the_best_peer_and_all_ratios() {
        let times = [
            order_9("bare LIFO", 2.0),
            order_9("slow", 40.0),
            order_9("fast", 30.0),
            order_9(OURS, 20.0),
        ];
        let notes = BTreeMap::from([("order-9 hot pair/slow".to_owned(), "failed 3".to_owned())]);
        let rows = rows(&times, &[], &notes);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].anchor, Some(30.0));
        assert!(rows[0].note.contains("fast 30 = 1.50 x"));
        assert!(rows[0].note.contains("slow 40 = 2.00 x (failed 3)"));
    }

    #[test]
    fn instructions_stand_beside_the_time_with_an_aim_of_their_own() {
        let rows = rows(
            &[order_9(OURS, 20.0)],
            &[order_9(OURS, 340.0), order_9("fast", 270.0)],
            &BTreeMap::new(),
        );
        let [time, count] = &rows[..] else {
            panic!("{rows:?}");
        };
        assert_eq!((time.unit, time.aim), ("ns", Some(10.0)));
        assert_eq!(count.name, "order-9 hot pair (instructions)");
        assert_eq!((count.unit, count.aim), ("instructions", Some(100.0)));
        assert_eq!(count.anchor, Some(270.0));
    }

    #[test]
    fn some_aims_are_multiples_of_another_row() {
        let times = [50, 99].map(|percent| {
            let workload = format!("churn of order 0, {percent} % full");
            figure(&workload, OURS, f64::from(percent))
        });
        let rows = rows(&times, &[], &BTreeMap::new());
        assert_eq!(rows[0].aim, None);
        assert_eq!(rows[1].aim, Some(150.0));
        // An aim that names a workload that does not exist would never give a number.
        for (_, time, count) in WORKLOADS {
            for aim in [time, count] {
                if let Times(_, other) = aim {
                    assert!(WORKLOADS.iter().any(|(name, ..)| name == other), "{other}");
                }
            }
        }
    }

    #[test]
    fn a_workload_that_was_not_run_has_no_row() {
        assert!(rows(&[order_9("fast", 30.0)], &[], &BTreeMap::new()).is_empty());
    }
}
