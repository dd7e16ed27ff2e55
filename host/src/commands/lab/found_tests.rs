//! Tests which results pass, and the contents of the JSON.

use super::*;
use crate::guest::record::Ended;
use std::fmt::Write as _;
use tidemark_frames::Variant;
use tidemark_wire::{Hazard, Text};

fn cell() -> Cell {
    Cell::of(Variant::Seed, Hazard::H2)
}

fn record(verdict: LabVerdict, hazard: Hazard, sound: bool) -> Record {
    let mut record = crate::judge::verdict::tests::good();
    let mut how = Text::new();
    how.write_str("so").unwrap();
    record.lab = Some(LabResult {
        hazard,
        verdict,
        how,
        steps: 3,
        dropped: 0,
        sound,
    });
    record
}

fn judged(record: Record) -> Found {
    Found::of(cell(), record, Vec::new())
}

#[test]
fn only_the_expected_verdict_of_a_sound_guest_passes() {
    let passes = |record| {
        let found = judged(record);
        exit_code(&[cell()], &[found]) == 0
    };
    assert!(passes(record(LabVerdict::Holds, Hazard::H2, true)));
    assert!(!passes(record(LabVerdict::Fails, Hazard::H2, true)));
    assert!(!passes(record(LabVerdict::NotReached, Hazard::H2, true)));
    assert!(!passes(record(
        LabVerdict::HoldsDirectOnly,
        Hazard::H2,
        true
    )));
    assert!(!passes(record(LabVerdict::Holds, Hazard::H2, false)));
    // A result of another cell counts as none.
    assert!(!passes(record(LabVerdict::Holds, Hazard::H3, true)));
    let mut silent = record(LabVerdict::Holds, Hazard::H2, true);
    silent.lab = None;
    assert!(!passes(silent));
    let mut reset = record(LabVerdict::Holds, Hazard::H2, true);
    reset.ended = Ended::Reset;
    assert!(!passes(reset));
}

#[test]
fn a_cell_that_was_not_run_fails_the_command() {
    let found = judged(record(LabVerdict::Holds, Hazard::H2, true));
    let both = [cell(), cell()];
    assert_eq!(exit_code(&both, std::slice::from_ref(&found)), 1);
    assert_eq!(exit_code(&both, &[found.clone(), found]), 0);
    assert_eq!(exit_code(&[], &[]), 1);
}

#[test]
fn json_has_what_the_matrix_shows() {
    let value = judged(record(LabVerdict::Holds, Hazard::H2, true)).json(2);
    for (field, expected) in [
        ("variant", "seed"),
        ("hazard", "H2"),
        ("verdict", "holds"),
        ("expected", "holds"),
        ("how", "so"),
    ] {
        assert_eq!(value[field], expected, "{field}");
    }
}
