//! Tests intervals, lines and JSON.

use super::*;
use crate::judge::price::tests::{row, rows};
use tidemark_wire::PriceContext;

#[test]
fn intervals_are_wilsons() {
    let close = |(low, high): (f64, f64), wanted: (f64, f64)| {
        assert!((low - wanted.0).abs() < 5e-5, "{low} {wanted:?}");
        assert!((high - wanted.1).abs() < 5e-5, "{high} {wanted:?}");
    };
    // These values were computed by hand from the formula.
    close(wilson(0, 100), (0.0, 0.036_99));
    close(wilson(10, 100), (0.055_23, 0.174_37));
    close(wilson(100, 100), (0.963_01, 1.0));
    close(wilson(0, 0), (0.0, 1.0));
}

#[test]
fn a_line_has_the_share_and_its_interval() {
    let paid = PriceRow {
        failed: 40,
        ..row(PriceContext::Irq, true)
    };
    let words = line("seed", &paid);
    assert!(
        words.starts_with(
            "seed                    irq        10000     400      40    10.00  7.43 to 13.33"
        ),
        "{words}"
    );
    let idle = PriceRow {
        overlapped: 0,
        left_out: 7,
        ..row(PriceContext::Nmi, true)
    };
    let words = line("", &idle);
    assert!(words.contains("  -  -  "), "{words}");
}

#[test]
fn the_json_has_a_row_a_context_and_half() {
    let found = Found {
        zonelist: Variant::Seed,
        rows: rows(),
        troubles: Vec::new(),
        log: Vec::new(),
    };
    let rows = rows_as_json(&found);
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[1]["context"], "irq");
    assert_eq!(rows[1]["rate"], 0.0);
    assert!(rows[1]["rate_high"].as_f64().is_some_and(|high| high > 0.0));
}
