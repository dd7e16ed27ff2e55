//! The cost of a rebuild of the zonelists in each protocol, in guest instructions.

use anyhow::Result;
use serde_json::{Value, json};
use tidemark_frames::Variant;
use tidemark_wire::{BenchResult, BenchRow, exit_value};

use super::guest;
use crate::guest::options::Mode;
use crate::guest::record::Ended;
use crate::judge::json::write;
use crate::terminal::cli::OutputArgs;
use crate::terminal::console::{FAINT, say};
use crate::terminal::exit::EXIT_INTERRUPTED;
use crate::terminal::interrupt;
use crate::terminal::release::Zonelist;

/// The counts of a rebuild in one protocol.
#[derive(Clone, Debug)]
struct Counted {
    zonelist: Variant,
    rows: Vec<BenchResult>,
    complete: bool,
}

impl Counted {
    fn row(&self, row: BenchRow) -> Option<&BenchResult> {
        self.rows.iter().find(|result| result.row == row)
    }

    /// Returns the part with interrupts off; nothing if the writer leaves them on.
    fn irq_off(&self) -> Option<&BenchResult> {
        let row = self.row(BenchRow::RebuildIrqOff);
        row.filter(|result| result.median_milli > 0)
    }

    fn json(&self) -> Value {
        let milli = |result: &BenchResult| result.median_milli as f64 / 1000.0;
        json!({
            "zonelist": self.zonelist.name(),
            "rebuild": self.row(BenchRow::Rebuild).map(milli),
            "interrupts_off": self.irq_off().map(milli),
            "unit": "instructions",
        })
    }
}

/// Counts a rebuild in each of these protocols, in one guest for each, and returns the program's
/// exit code.
///
/// # Errors
/// A tool is missing, the kernel does not build, or a guest sent no row.
pub fn run(zonelists: &[Zonelist], output: &OutputArgs) -> Result<i32> {
    let built = guest::build()?;
    let mut all = Vec::new();
    let aliases = zonelists.iter().filter_map(|asked| asked.alias());
    aliases.for_each(say);
    for zonelist in zonelists.iter().map(|asked| asked.variant) {
        let record = guest::boot(&built, Mode::BenchRebuild, zonelist, output)?;
        if interrupt::requested() {
            return Ok(EXIT_INTERRUPTED);
        }
        let has = |row: &BenchRow| record.bench.iter().any(|result| result.row == *row);
        all.push(Counted {
            zonelist,
            complete: record.ended == Ended::Exit(exit_value::PASSED)
                && BenchRow::OF_REBUILD.iter().all(has),
            rows: record.bench,
        });
    }
    table(&all).iter().for_each(say);
    if let Some(path) = &output.json {
        let rows: Vec<Value> = all.iter().map(Counted::json).collect();
        let result = json!({ "schema": 1, "kind": "bench-rebuild", "rows": rows });
        write(path, &result)?;
    }
    Ok(i32::from(!all.iter().all(|counted| counted.complete)))
}

fn table(all: &[Counted]) -> Vec<String> {
    let mut lines = vec![
        "A rebuild of the zonelists, one CPU, 2 nodes with 4 zones, in guest instructions:"
            .to_owned(),
        format!(
            "{FAINT}{:<24}{:>12}{:>20}{FAINT:#}",
            "protocol", "rebuild", "interrupts off"
        ),
    ];
    for counted in all {
        let number = |result: Option<&BenchResult>, without: &str| {
            result.map_or(without.to_owned(), |result| {
                (result.median_milli / 1000).to_string()
            })
        };
        lines.push(format!(
            "{:<24}{:>12}{:>20}",
            counted.zonelist.name(),
            number(counted.row(BenchRow::Rebuild), "-"),
            number(counted.irq_off(), "stay on"),
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_that_stay_on_are_said_so() {
        let result = |row, median_milli| BenchResult {
            row,
            median_milli,
            min_milli: median_milli,
            max_milli: median_milli,
            repetitions: 1,
        };
        let counted = |zonelist, irq_off| Counted {
            zonelist,
            rows: vec![
                result(BenchRow::Rebuild, 900_000),
                result(BenchRow::RebuildIrqOff, irq_off),
            ],
            complete: true,
        };
        let all = [counted(Variant::None, 0), counted(Variant::Seed, 850_000)];
        let lines = table(&all);
        assert_eq!(
            lines[2],
            "none                             900             stay on"
        );
        assert_eq!(
            lines[3],
            "seed                             900                 850"
        );
        assert!(all[0].json()["interrupts_off"].is_null());
        assert_eq!(all[1].json()["interrupts_off"], 850.0);
    }
}
