//! The summary of a demonstration, at most 25 lines.

use std::fmt::Write as _;
use std::time::Duration;

use tidemark_wire::{Source, Totals};

use crate::guest::record::Record;
use crate::judge::diagnose;
use crate::judge::promise::{self, Bound};
use crate::judge::symbols::Symbols;
use crate::judge::verdict::{Expectation, Outcome, Verdict};
use crate::terminal::console::{BAD, FAINT, GOOD};

/// Most lines in a summary. A crash report repeats log lines beyond them.
pub const MAX_LINES: usize = 25;

/// Returns the lines of the summary. The first begins with `PASS`, `FAIL` or another verdict.
pub fn summary(expected: &Expectation, record: &Record, verdict: &Verdict) -> Vec<String> {
    let nothing = record
        .totals
        .and_then(|totals| promise::says_nothing(expected.zonelist.variant, &totals));
    let mut lines = vec![heading(verdict, nothing)];
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

/// Returns the lines that a crash or a hang adds: the place, every CPU, the last lines of the log.
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

/// Returns the verdict. For a pass that proves nothing about the protocol, it adds the reason.
fn heading(verdict: &Verdict, says_nothing: Option<&str>) -> String {
    let style = if verdict.outcome == Outcome::Passed {
        GOOD
    } else {
        BAD
    };
    let word = verdict.outcome.heading();
    match verdict.reasons.split_first() {
        None => match says_nothing {
            Some(why) => {
                format!("{style}{word}{style:#}, which says nothing about the protocol: {why}")
            }
            None => format!("{style}{word}{style:#}"),
        },
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
    let name = expected.zonelist.says();
    let (promised, paid) = (expected.promise(totals), promise::paid(record));
    let rows = [
        (
            "protocol",
            format!(
                "{name}: of {} requests held over a rebuild {} failed ({}); {} times one began again",
                totals.probes_held,
                totals.probes_failed,
                most(promised.held),
                totals.probes_retries
            ),
        ),
        (
            "its price",
            format!(
                "{} of {} racing requests of handlers ({}), {} of tasks' ({})",
                grouped(paid.handlers),
                grouped(paid.handlers_racing),
                most(promised.handlers),
                grouped(paid.tasks),
                most(promised.tasks)
            ),
        ),
        (
            "rebuilds",
            format!(
                "{} (at least {} wanted); {}",
                totals.rebuilds,
                expected.rebuilds(),
                interrupts(totals)
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

/// Formats a duration with one digit after the point.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Returns a bound in words.
fn most(bound: Bound) -> String {
    match bound {
        Bound::AtMost(0) => "promised: none".to_owned(),
        Bound::AtMost(number) => format!("promised: at most {}", grouped(number)),
        Bound::None => "nothing promised".to_owned(),
    }
}

/// Describes how the writer treats interrupts. The host causes the longest stretch, because it may
/// stop a CPU for any time.
fn interrupts(totals: &Totals) -> String {
    if totals.irqs_off {
        format!(
            "interrupts off {} in the median, {} at most by the host's clock",
            micros(totals.irq_off_median_ns),
            micros(totals.irq_off_max_ns)
        )
    } else {
        "interrupts stay on".to_owned()
    }
}

fn micros(ns: u64) -> String {
    format!("{:.1} µs", ns as f64 / 1000.0)
}

/// Formats a number with its thousands set apart.
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
    use crate::judge::verdict::{
        judge,
        tests::{EXPECTED, good},
    };
    use crate::terminal::release::Zonelist;
    use tidemark_frames::Variant;

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

    fn lines_of(expected: &Expectation, change: impl FnOnce(&mut Totals)) -> Vec<String> {
        let mut record = good();
        record.totals.as_mut().map(change);
        let verdict = judge(expected, &record);
        let strip = |line: String| anstream::adapter::strip_str(&line).to_string();
        let lines = summary(expected, &record, &verdict);
        lines.into_iter().map(strip).collect()
    }

    #[test]
    fn a_pass_that_says_nothing_about_the_protocol_says_so() {
        assert_eq!(lines_of(&EXPECTED, |_| ())[0], "PASS");
        let none = Expectation {
            zonelist: Zonelist::of(Variant::None),
            ..EXPECTED
        };
        let lines = lines_of(&none, |totals| totals.probes_failed = 10);
        assert!(
            lines[0].starts_with("PASS, which says nothing"),
            "{lines:?}"
        );
        let line = "protocol          none: of 10 requests held over a rebuild 10 failed (nothing promised)";
        assert!(lines.iter().any(|have| have.starts_with(line)), "{lines:?}");
        let lines = lines_of(&EXPECTED, |totals| totals.probes_held = 0);
        assert!(
            lines[0].contains("no request that may reclaim"),
            "{lines:?}"
        );
    }

    #[test]
    fn interrupts_that_stay_on_are_no_zero() {
        let says = |words: &str, lines: &[String]| lines.iter().any(|line| line.contains(words));
        assert!(says("interrupts stay on", &lines_of(&EXPECTED, |_| ())));
        let lines = lines_of(&EXPECTED, |totals| {
            (totals.irqs_off, totals.irq_off_median_ns) = (true, 1_500);
        });
        assert!(says("interrupts off 1.5 µs in the median", &lines));
    }

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_parts_of_the_budget_fit() {
        use crate::terminal::console::{BUDGET_LINES, HEAD_LINES, TAIL_LINES};
        const { assert!(HEAD_LINES + TAIL_LINES + 1 + MAX_LINES + 5 <= BUDGET_LINES) }
    }
}
