//! Tests of records, and of the verdicts on those that are checked in.

use super::super::packages::upstream;
use super::super::verdict::{HAZARDS, judge};
use super::*;
use crate::guest::build::workspace;
use crate::terminal::release::{Release, release as release_of};

#[test]
fn every_run_in_the_folder_is_read() {
    let folder = workspace().join("host/linux/runs");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    let records = kept().unwrap();
    let mut kept: Vec<String> = records
        .iter()
        .map(|record| format!("{}.txt", record.facts.release))
        .collect();
    kept.sort();
    assert_eq!(files, kept);
}

#[test]
fn a_recorded_run_has_the_verdicts_that_its_protocol_tells() {
    let records = kept().unwrap();
    assert!(!records.is_empty());
    for record in &records {
        let release = &record.facts.release;
        let steps = record.steps();
        // The table of releases and the package's changelog agree.
        let upstream = upstream(&record.facts.version);
        let by_table = release_of(upstream).map(Release::variant);
        assert!(by_table.is_some(), "{release}");
        assert_eq!(steps.variant(), by_table, "{release}");
        for hazard in HAZARDS {
            let play = record
                .plays
                .iter()
                .find(|play| play.hazard == hazard)
                .unwrap();
            assert_eq!(play.state.release, *release);
            let judged = judge(hazard, &play.state);
            let is_expected = steps.expects(hazard, judged.verdict);
            assert_eq!(is_expected, Some(true), "{release} {judged:?}");
        }
    }
}

#[test]
fn a_record_is_read_as_it_was_written() {
    for text in KEPT {
        let record = parse(text).unwrap();
        assert_eq!(parse(&record.text()).unwrap(), record);
    }
}

#[test]
fn a_record_that_does_not_fit_is_refused() {
    let text = KEPT[0];
    for (text, words) in [
        (text.replace("layout 1", "layout 9"), "does not begin with"),
        (text.replace("command ", "comand "), "lacks its line"),
        (text.replace("facts {", "facts "), "the facts of the record"),
        (text.replace("play H8", "play H9"), "unknown hazard"),
        (
            text.replace("pinned false", "pinned perhaps"),
            "does not fit",
        ),
        (
            text.replace("request asleep=1", "request asleep=x"),
            "is no number",
        ),
    ] {
        let line = parse(&text).unwrap_err();
        assert!(line.contains(words), "{line}");
    }
}
