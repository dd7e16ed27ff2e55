//! The table of instruction counts that is checked in.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::guest::Measured;
use super::table::number;
use crate::guest::build;

/// The check fails if a row's count rises by more than this part of the table's count.
const TOLERANCE: f64 = 0.05;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Baseline {
    rustc: String,
    qemu: String,
    rows: Vec<Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    name: String,
    value: f64,
}

/// The result of the comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Compared {
    /// The comparison was not made, for this reason.
    Not(String),
    /// The rows that rose too much. A row that is not in the table or not measured counts as well.
    With(Vec<String>),
}

impl Compared {
    /// Returns whether a row costs more than it may.
    pub fn has_risen(&self) -> bool {
        matches!(self, Compared::With(risen) if !risen.is_empty())
    }

    /// Returns the lines for the user.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Compared::Not(why) => vec![format!("not compared with the table: {why}")],
            Compared::With(risen) if risen.is_empty() => {
                vec!["no row is more than 5 % above the table".to_owned()]
            }
            Compared::With(risen) => risen.clone(),
        }
    }
}

fn path() -> PathBuf {
    build::workspace().join("host/bench-baseline.json")
}

/// Writes the rows as the table.
///
/// # Errors
/// The file cannot be written.
pub fn write(measured: &Measured) -> Result<()> {
    let baseline = Baseline {
        rustc: measured.rustc.clone(),
        qemu: measured.qemu.clone(),
        rows: measured
            .rows
            .iter()
            .map(|row| Entry {
                name: row.name.clone(),
                value: row.value,
            })
            .collect(),
    };
    let text = serde_json::to_string_pretty(&baseline)? + "\n";
    std::fs::write(path(), text).with_context(|| format!("{} cannot be written", path().display()))
}

/// Compares with the table.
///
/// # Errors
/// The table is there but cannot be read.
pub fn compare(measured: &Measured) -> Result<Compared> {
    let text = match std::fs::read_to_string(path()) {
        Ok(text) => text,
        Err(error) => return Ok(Compared::Not(format!("{}: {error}", path().display()))),
    };
    let baseline = serde_json::from_str(&text)
        .with_context(|| format!("{} cannot be read", path().display()))?;
    Ok(against(&baseline, measured))
}

fn against(baseline: &Baseline, measured: &Measured) -> Compared {
    for (what, theirs, ours) in [
        ("rustc", &baseline.rustc, &measured.rustc),
        ("QEMU", &baseline.qemu, &measured.qemu),
    ] {
        if theirs != ours {
            return Compared::Not(format!("its {what} is {theirs:?}, this one is {ours:?}"));
        }
    }
    let risen = baseline.rows.iter().filter_map(|entry| {
        let name = &entry.name;
        let Some(row) = measured.rows.iter().find(|row| row.name == *name) else {
            return Some(format!("{name}: in the table, but not measured"));
        };
        (row.value > entry.value * (1.0 + TOLERANCE)).then(|| {
            format!(
                "{name}: {} is more than 5 % above the table's {}",
                number(row.value),
                number(entry.value)
            )
        })
    });
    let unknown = measured
        .rows
        .iter()
        .filter(|row| !baseline.rows.iter().any(|entry| entry.name == row.name))
        .map(|row| format!("{}: measured, but not in the table", row.name));
    Compared::With(risen.chain(unknown).collect())
}

#[cfg(test)]
mod tests {
    use super::super::table::Row;
    use super::*;

    fn measured(rustc: &str, value: f64) -> Measured {
        Measured {
            rows: vec![Row {
                name: "pair".to_owned(),
                value,
                min: value,
                max: value,
                unit: "instructions",
                anchor: None,
                aim: None,
                note: String::new(),
            }],
            rustc: rustc.to_owned(),
            qemu: "7.2".to_owned(),
            exit_code: 0,
        }
    }

    fn table() -> Baseline {
        Baseline {
            rustc: "1.95".to_owned(),
            qemu: "7.2".to_owned(),
            rows: vec![Entry {
                name: "pair".to_owned(),
                value: 100.0,
            }],
        }
    }

    #[test]
    fn a_rise_above_five_per_cent_names_its_row() {
        assert!(!against(&table(), &measured("1.95", 105.0)).has_risen());
        let compared = against(&table(), &measured("1.95", 106.0));
        assert!(compared.has_risen());
        assert!(compared.lines()[0].starts_with("pair: 106"));
    }

    #[test]
    fn other_tools_are_not_compared() {
        let compared = against(&table(), &measured("1.96", 1000.0));
        assert!(matches!(&compared, Compared::Not(why) if why.contains("rustc")));
        assert!(!compared.has_risen());
    }

    #[test]
    fn a_row_that_goes_or_comes_is_noticed() {
        let mut other = measured("1.95", 100.0);
        other.rows[0].name = "renamed".to_owned();
        assert_eq!(against(&table(), &other).lines().len(), 2);
    }
}
