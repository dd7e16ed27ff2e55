//! The results in JSON, for programs; docs/output.md describes the layout.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tidemark_wire::{Source, Totals};

use crate::guest::record::Record;
use crate::judge::diagnose;
use crate::judge::promise;
use crate::judge::symbols::Symbols;
use crate::judge::tally::Tally;
use crate::judge::verdict::{Expectation, Verdict, unexplained};
use crate::terminal::exit::EXIT_INTERRUPTED;

/// Version of the layout. It rises when a field changes its meaning or goes.
const SCHEMA: u32 = 1;

/// Returns the result of a demonstration.
pub fn demonstration(
    record: &Record,
    verdict: &Verdict,
    symbols: &Symbols,
    expected: &Expectation,
    seed: u64,
    machine: &str,
) -> Value {
    let totals = record.totals.unwrap_or_default();
    let mut contexts = Map::new();
    for source in Source::ALL {
        let Some(counts) = record.counts_of(source) else {
            continue;
        };
        contexts.insert(
            source.name().to_owned(),
            json!({
                "requests": counts.requests,
                "failures": counts.failures,
                "failures_overlapping_rebuild": counts.failures_overlapping_rebuild,
                "failures_fresh_walk_serves": counts.failures_fresh_walk_serves,
                "failures_under_announced_pressure": counts.failures_under_announced_pressure,
                "failures_unexplained": unexplained(counts),
                "slow_path": counts.slow_path,
                "odd": counts.odd,
                "overlapped": counts.overlapped,
                "retries": counts.retries,
            }),
        );
    }
    let host = &record.host;
    let mut result = json!({
        "schema": SCHEMA,
        "kind": "demonstration",
        "verdict": verdict.outcome.name(),
        "exit_code": verdict.outcome.exit_code(),
        "reasons": verdict.reasons,
        "diagnosis": diagnose::headline(record, symbols),
        "machine": machine,
        "seed": seed,
        "qemu": record.qemu_version,
        "cpus": record.ready.map(|ready| ready.cpus),
        "nodes": record.ready.map(|ready| ready.nodes),
        "cycles": totals.cycles,
        "rebuilds": totals.rebuilds,
        "irq_off_max_ns": totals.irq_off_max_ns,
        "irq_off_median_ns": totals.irq_off_median_ns,
        "rebuilds_with_interrupts_on": totals.rebuilds_with_interrupts_on,
        "pulls": totals.pulls,
        "pulls_confirmed": totals.pulls_confirmed,
        "device_deleted": host.device_deleted,
        "plugs": totals.plugs,
        "frames_lost": totals.frames_lost,
        "pages_corrupted": totals.pages_corrupted,
        "pages_checked": totals.pages_checked,
        "migrated": totals.migrated,
        "reclaimed": totals.reclaimed,
        "log_lost": totals.log_lost,
        "validate_ok": totals.validate_ok,
        "complete": record.totals.is_some(),
        "contexts": contexts,
        "host": {
            "pulls": host.pulls,
            "plugs": host.plugs,
            "refused_by_qemu": host.refused_by_qemu,
            "device_deleted": host.device_deleted,
            "ost_inserted": host.ost_inserted,
            "ost_ejecting": host.ost_ejecting,
            "ost_refused": host.ost_refused,
            "nmis": host.nmis,
            "typed": host.typed,
            "guest_exits": host.guest_exits,
        },
        "ready_ms": record.ready.map(|ready| ready.after.as_millis() as u64),
        "wall_ms": record.wall.as_millis() as u64,
    });
    result["zonelist"] = Value::from(expected.zonelist.variant.name());
    let release = expected.zonelist.release;
    result["linux"] = json!(release.map(|release| release.to_string()));
    result["pressure"] = Value::from(expected.pressure.name());
    result["writer_turns_interrupts_off"] = json!(record.totals.map(|totals| totals.irqs_off));
    result["promise"] = promise_kept(expected, record, &totals);
    result
}

/// Returns the promises of the protocol, and what was found of them.
fn promise_kept(expected: &Expectation, record: &Record, totals: &Totals) -> Value {
    let (promised, paid) = (expected.promise(totals), promise::paid(record));
    json!({
        "says_nothing_because": promise::says_nothing(expected.zonelist.variant, totals),
        "tasks_failed": paid.tasks,
        "tasks_at_most": promised.tasks.number(),
        "handlers_failed": paid.handlers,
        "handlers_at_most": promised.handlers.number(),
        "handlers_overlapped": paid.handlers_racing,
        "held_wanted": totals.probes,
        "held": totals.probes_held,
        "held_retries": totals.probes_retries,
        "held_failed": totals.probes_failed,
        "held_failed_at_most": promised.held.number(),
    })
}

/// Returns the result of the tests: the total and each part.
pub fn tests(total: &Tally, exit_code: i32, parts: &[(String, Tally)]) -> Value {
    let entry = |tally: &Tally| {
        json!({
            "ok": tally.ok,
            "not_ok": tally.not_ok,
            "skipped": tally.skipped,
            "problems": tally.problems,
        })
    };
    let parts: Vec<Value> = parts
        .iter()
        .map(|(name, tally)| {
            let mut value = entry(tally);
            value["name"] = Value::from(name.as_str());
            value
        })
        .collect();
    let verdict = match exit_code {
        0 => "passed",
        EXIT_INTERRUPTED => "interrupted",
        _ => "failed",
    };
    json!({
        "schema": SCHEMA,
        "kind": "tests",
        "verdict": verdict,
        "exit_code": exit_code,
        "ok": total.ok,
        "not_ok": total.not_ok,
        "skipped": total.skipped,
        "parts": parts,
    })
}

/// Checks that a result can be written, if one is wanted, before work that takes long. The file's
/// content stays until then.
///
/// # Errors
/// The file cannot be written.
pub fn prepare(path: Option<&Path>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut file = std::fs::OpenOptions::new();
    let opened = file.create(true).append(true).open(path);
    opened.map(drop).with_context(|| refusal(path))
}

/// Writes a result.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, value: &Value) -> Result<()> {
    std::fs::write(path, format!("{value:#}\n")).with_context(|| refusal(path))
}

fn refusal(path: &Path) -> String {
    format!("the result {} cannot be written", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::verdict::{judge, tests::good};

    #[test]
    fn a_file_that_cannot_be_written_is_refused_beforehand_and_no_content_is_lost() {
        let folder = std::env::temp_dir().join(format!("tidemark-json-{}", std::process::id()));
        let file = folder.join("result.json");
        let refused = prepare(Some(&file)).unwrap_err().to_string();
        assert!(
            refused.contains("result.json cannot be written"),
            "{refused}"
        );
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&file, "kept").unwrap();
        prepare(Some(&file)).unwrap();
        let content = std::fs::read_to_string(&file);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(content.unwrap(), "kept");
        prepare(None).unwrap();
    }

    #[test]
    fn the_documented_fields_are_there() {
        let record = good();
        let expected = crate::judge::verdict::tests::EXPECTED;
        let verdict = judge(&expected, &record);
        let value = demonstration(
            &record,
            &verdict,
            &Symbols::default(),
            &expected,
            1,
            "machine",
        );
        assert_eq!(value["verdict"], "passed");
        for field in ["rebuilds", "pulls", "device_deleted"] {
            assert_eq!(value[field], 20, "{field}");
        }
        for field in ["frames_lost", "pages_corrupted"] {
            assert_eq!(value[field], 0, "{field}");
        }
        assert_eq!(value["promise"]["handlers_at_most"], 0);
        assert_eq!(value["promise"]["held"], 10);
        assert!(value["promise"]["says_nothing_because"].is_null());
        for source in Source::ALL {
            for field in [
                "requests",
                "failures",
                "failures_overlapping_rebuild",
                "failures_fresh_walk_serves",
                "slow_path",
                "odd",
                "overlapped",
                "retries",
            ] {
                assert!(value["contexts"][source.name()][field].is_u64(), "{field}");
            }
        }
    }

    #[test]
    fn the_tests_result_has_totals_and_parts() {
        let tally = Tally {
            ok: 3,
            not_ok: 1,
            skipped: 2,
            problems: vec!["a".to_owned()],
        };
        let value = tests(&tally, 1, &[("one".to_owned(), tally.clone())]);
        assert_eq!(value["not_ok"], 1);
        assert_eq!(value["verdict"], "failed");
        assert_eq!(value["parts"][0]["name"], "one");
    }
}
