//! The summary of a demonstration, at most 25 lines.

use std::fmt::Write as _;
use std::time::Duration;

use tidemark_wire::{Source, Totals};

use crate::console::{BAD, FAINT, GOOD};
use crate::diagnose::{self, Symbols};
use crate::record::Record;
use crate::verdict::{Expectation, Outcome, Verdict};

/// Most lines of a summary; a crash report repeats log lines beyond it.
pub const MAX_LINES: usize = 25;

/// The summary's lines. The first begins with `PASS`, `FAIL` or another verdict.
pub fn summary(expected: &Expectation, record: &Record, verdict: &Verdict) -> Vec<String> {
    let mut lines = vec![heading(verdict)];
    lines.extend(reasons(verdict));
    if record.counts.iter().any(Option::is_some) {
        lines.extend(table(record));
    }
    if let Some(totals) = &record.totals {
        lines.extend(facts(expected, record, totals));
    } else if record.host.pulls > 0 {
        lines.push(format!(
            "so far   {} pulls asked, {} DEVICE_DELETED, {} put back",
            record.host.pulls, record.host.device_deleted, record.host.plugs
        ));
    }
    if record.ready.is_some() || record.totals.is_some() {
        lines.push(times(record));
    }
    lines.truncate(MAX_LINES);
    lines
}

/// What a crash or a hang adds: the place, every CPU, the last lines of the log.
pub fn crash_report(record: &Record, symbols: &Symbols) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(headline) = diagnose::headline(record, symbols) else {
        return lines;
    };
    lines.push(format!("{BAD}{headline}{BAD:#}"));
    lines.extend(
        diagnose::places(record, symbols)
            .into_iter()
            .map(|line| format!("  {line}")),
    );
    lines.push(format!("the last {} lines of the log:", record.tail.len()));
    lines.extend(record.tail.iter().map(|line| format!("  {line}")));
    lines
}

fn heading(verdict: &Verdict) -> String {
    let style = if verdict.outcome == Outcome::Passed {
        GOOD
    } else {
        BAD
    };
    let word = verdict.outcome.heading();
    match verdict.reasons.split_first() {
        None => format!("{style}{word}{style:#}"),
        Some((first, _)) => format!("{style}{word}{style:#}: {first}"),
    }
}

fn reasons(verdict: &Verdict) -> impl Iterator<Item = String> {
    const SHOWN: usize = 5;
    let more = verdict.reasons.iter().skip(1);
    let hidden = more.len().saturating_sub(SHOWN);
    more.take(SHOWN)
        .map(|reason| format!("  and {reason}"))
        .chain((hidden > 0).then(|| format!("  and {hidden} more, see --json")))
}

fn table(record: &Record) -> Vec<String> {
    const NAMES: [&str; 6] = [
        "requests",
        "failures",
        "slow path",
        "odd",
        "overlapped",
        "retries",
    ];
    let mut header = format!("{:<14}", "context");
    for name in NAMES {
        let _ = write!(header, " {name:>11}");
    }
    let mut lines = vec![format!("{FAINT}{header}{FAINT:#}")];
    for source in Source::ALL {
        let Some(counts) = record.counts_of(source) else {
            continue;
        };
        let mut line = format!("{:<14}", source.name());
        for number in [
            counts.requests,
            counts.failures,
            counts.slow_path,
            counts.odd,
            counts.overlapped,
            counts.retries,
        ] {
            let _ = write!(line, " {:>11}", grouped(number));
        }
        lines.push(line);
    }
    lines
}

fn facts(expected: &Expectation, record: &Record, totals: &Totals) -> Vec<String> {
    let sum = |pick: fn(&tidemark_wire::SourceCounts) -> u64| -> u64 {
        record.counts.iter().flatten().map(pick).sum()
    };
    let rows = [
        (
            "the seed's price",
            format!(
                "{} failures overlapped a rebuild; {} came under announced pressure",
                grouped(sum(|c| c.failures_overlapping_rebuild)),
                grouped(sum(|c| c.failures_under_announced_pressure))
            ),
        ),
        (
            "rebuilds",
            format!(
                "{} (at least {} wanted); interrupts off {} at most, {} in the median",
                totals.rebuilds,
                expected.rebuilds(),
                micros(totals.irq_off_max_ns),
                micros(totals.irq_off_median_ns)
            ),
        ),
        (
            "pulls",
            format!(
                "{} asked, {} confirmed; DEVICE_DELETED {}; {} put back",
                totals.pulls, totals.pulls_confirmed, record.host.device_deleted, totals.plugs
            ),
        ),
        ("frames lost", totals.frames_lost.to_string()),
        (
            "pages corrupted",
            format!(
                "{} of {} read back",
                totals.pages_corrupted,
                grouped(totals.pages_checked)
            ),
        ),
        (
            "moved",
            format!(
                "{} frames migrated, {} reclaimed",
                grouped(totals.migrated),
                grouped(totals.reclaimed)
            ),
        ),
        (
            "validate()",
            if totals.validate_ok {
                "everything in order at rest".to_owned()
            } else {
                "found an inconsistency".to_owned()
            },
        ),
        ("log records lost", totals.log_lost.to_string()),
    ];
    rows.into_iter()
        .map(|(name, value)| format!("{name:<17} {value}"))
        .collect()
}

fn times(record: &Record) -> String {
    let ready = record.ready.map_or(String::new(), |ready| {
        let left_out = match ready.cpus_left_out {
            0 => String::new(),
            n => format!(", {n} CPUs left out"),
        };
        format!("ready after {}{left_out}; ", seconds(ready.after))
    });
    let cycles = record.totals.map_or(String::new(), |totals| {
        format!("{} cycles; ", totals.cycles)
    });
    format!(
        "{:<17} {ready}{cycles}{} in all",
        "time",
        seconds(record.wall)
    )
}

/// A duration with a digit behind the point.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn micros(ns: u64) -> String {
    format!("{:.1} µs", ns as f64 / 1000.0)
}

/// A number with its thousands set apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{judge, tests::good};

    const EXPECTED: Expectation = Expectation {
        cycles: 10,
        dimms: 2,
    };

    #[test]
    fn the_summary_begins_with_the_verdict_and_fits() {
        let mut record = good();
        let verdict = judge(&EXPECTED, &record);
        let lines = summary(&EXPECTED, &record, &verdict);
        assert!(
            anstream::adapter::strip_str(&lines[0])
                .to_string()
                .starts_with("PASS")
        );
        assert!(lines.len() <= MAX_LINES, "{}", lines.len());

        record.totals = Some(Totals::default());
        record.protocol = None;
        let verdict = judge(&EXPECTED, &record);
        assert!(verdict.reasons.len() > 6);
        let lines = summary(&EXPECTED, &record, &verdict);
        assert!(
            anstream::adapter::strip_str(&lines[0])
                .to_string()
                .starts_with("FAIL: ")
        );
        assert!(lines.len() <= MAX_LINES);
        assert!(lines.last().is_some_and(|line| line.starts_with("time")));
    }

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }
}
