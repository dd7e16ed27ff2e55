//! Rows of results, as text and as JSON.

use serde_json::{Value, json};

use crate::terminal::console::{FAINT, say};

/// One row: a result, beside the value that it is compared with, and the aim.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    /// The median.
    pub value: f64,
    pub min: f64,
    pub max: f64,
    pub unit: &'static str,
    /// The value that it is compared with, in the same unit: Linux's, or the best of the other
    /// crates.
    pub anchor: Option<f64>,
    /// The highest value to reach.
    pub aim: Option<f64>,
    /// A note about other results of the same run.
    pub note: String,
}

impl Row {
    fn verdict(&self) -> &'static str {
        match self.aim {
            Some(aim) if self.value <= aim => "reached",
            Some(_) => "not reached",
            None => "",
        }
    }
}

/// Formats a number with as many decimals as it deserves.
pub fn number(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// Prints a table.
pub fn print(title: &str, anchor: &str, rows: &[Row]) {
    let width = rows.iter().map(|row| row.name.chars().count()).max();
    let width = width.unwrap_or(0);
    say(format!("{title}:"));
    say(format!(
        "  {:width$} {:>9} {:>17} {:>12} {anchor:>10} {:>8}",
        "", "median", "min..max", "unit", "aim"
    ));
    for row in rows {
        let optional = |value: Option<f64>| value.map_or("-".to_owned(), number);
        say(format!(
            "  {:width$} {:>9} {:>17} {:>12} {:>10} {:>8} {}",
            row.name,
            number(row.value),
            format!("{}..{}", number(row.min), number(row.max)),
            row.unit,
            optional(row.anchor),
            row.aim
                .map_or("-".to_owned(), |aim| format!("≤ {}", number(aim))),
            row.verdict(),
        ));
        for note in row.note.split("; ").filter(|note| !note.is_empty()) {
            say(format!("    {FAINT}{note}{FAINT:#}"));
        }
    }
}

/// Prints a table for the documentation, which itself says what the table is about.
pub fn print_markdown(_title: &str, anchor: &str, rows: &[Row]) {
    markdown(anchor, rows).iter().for_each(say);
}

fn markdown(anchor: &str, rows: &[Row]) -> Vec<String> {
    let has_notes = rows.iter().any(|row| !row.note.is_empty());
    let (notes, rule) = if has_notes {
        (" all in the same run |", "---|")
    } else {
        ("", "")
    };
    let head = format!("| | here | {anchor} | aim | |{notes}");
    let mut lines = vec![head, format!("|---|---|---|---|---|{rule}")];
    lines.extend(rows.iter().map(|row| {
        let optional = |value: Option<f64>| value.map_or("–".to_owned(), grouped);
        let unit = match row.unit {
            unit if row.name.contains(unit) => String::new(),
            unit => format!(" {unit}"),
        };
        let line = format!(
            "| {} | {}{unit} | {} | {} | {} |",
            row.name,
            grouped(row.value),
            optional(row.anchor),
            row.aim
                .map_or("–".to_owned(), |aim| format!("≤ {}", grouped(aim))),
            row.verdict(),
        );
        match has_notes {
            true => format!("{line} {} |", row.note),
            false => line,
        }
    }));
    lines
}

/// Formats a number with a comma between thousands.
fn grouped(value: f64) -> String {
    let text = number(value);
    let whole = text.split('.').next().map_or(0, str::len);
    let mut grouped = String::new();
    for (at, digit) in text.chars().enumerate() {
        if at > 0 && at < whole && (whole - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Returns the rows for a program.
pub fn json(rows: &[Row]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.name,
                "value": row.value,
                "min": row.min,
                "max": row.max,
                "unit": row.unit,
                "anchor": row.anchor,
                "aim": row.aim,
                "note": row.note,
            })
        })
        .collect();
    json!({ "schema": 1, "kind": "bench", "rows": rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_the_documentation_has_a_line_a_row() {
        let row = |unit, note: &str| Row {
            name: "order 10, pair".to_owned(),
            value: 1_234.0,
            min: 1_234.0,
            max: 1_234.0,
            unit,
            anchor: None,
            aim: Some(1_234_567.0),
            note: note.to_owned(),
        };
        assert_eq!(
            markdown("Linux 6.1", &[row("instructions", "")]),
            [
                "| | here | Linux 6.1 | aim | |",
                "|---|---|---|---|---|",
                "| order 10, pair | 1,234 instructions | – | ≤ 1,234,567 | reached |",
            ]
        );
        let noted = markdown("best peer", &[row("ns", "a 3 = 1.00 x")]);
        assert!(noted[0].ends_with("| all in the same run |"));
        assert!(noted[2].ends_with("| reached | a 3 = 1.00 x |"));
    }

    #[test]
    fn thousands_are_grouped() {
        for (value, text) in [
            (7.25, "7.2"),
            (999.0, "999"),
            (78_001.0, "78,001"),
            (1e6, "1,000,000"),
        ] {
            assert_eq!(grouped(value), text);
        }
    }

    #[test]
    fn rows_say_whether_the_aim_was_reached() {
        let row = |value, aim| Row {
            name: "a".to_owned(),
            value,
            min: value,
            max: value,
            unit: "instructions",
            anchor: Some(699.0),
            aim,
            note: String::new(),
        };
        assert_eq!(row(70.0, Some(70.0)).verdict(), "reached");
        assert_eq!(row(71.0, Some(70.0)).verdict(), "not reached");
        assert_eq!(row(71.0, None).verdict(), "");
        let value = json(&[row(71.0, None)]);
        assert_eq!(value["rows"][0]["anchor"], 699.0);
        assert!(value["rows"][0]["aim"].is_null());
    }
}
