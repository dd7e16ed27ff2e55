//! Judges a measurement of what requests that race a rebuild pay.

use tidemark_frames::Variant;
use tidemark_wire::{Pressure, PriceContext, PriceRow, exit_value};

use crate::guest::record::{Ended, Record};
use crate::judge::promise;
use crate::judge::verdict::{self, Outcome, Verdict};

/// Judges a guest's measurement.
pub fn judge(zonelist: Variant, removals: u32, cpus: u16, record: &Record) -> Verdict {
    let name = zonelist.name();
    if let Some(mut verdict) = verdict::of_ending(record) {
        let named = verdict.reasons.into_iter();
        verdict.reasons = named.map(|reason| format!("{name}: {reason}")).collect();
        return verdict;
    }
    let mut reasons = troubles(zonelist, removals, cpus, &record.price);
    if record.ended != Ended::Exit(exit_value::PASSED) {
        reasons.insert(0, format!("{name}: the guest failed, see --log"));
    }
    let outcome = if reasons.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed
    };
    Verdict { outcome, reasons }
}

/// What is missing of the rows, and what in them breaks what the protocol promises.
fn troubles(zonelist: Variant, removals: u32, cpus: u16, rows: &[PriceRow]) -> Vec<String> {
    let name = zonelist.name();
    let promised = promise::promise(zonelist, Pressure::Uneven, removals.into(), cpus.into());
    let mut troubles = Vec::new();
    if rows.len() != 2 * PriceContext::ALL.len() {
        troubles.push(format!("{name}: the guest sent {} rows", rows.len()));
    }
    for stalled in [false, true] {
        let sum = |picked: fn(&PriceRow) -> u64, tasks: bool| -> u64 {
            let rows = rows.iter().filter(|row| {
                row.stalled == stalled && (row.context == PriceContext::Task) == tasks
            });
            rows.map(picked).sum()
        };
        for (bound, tasks, whose) in [
            (promised.tasks, true, "tasks"),
            (promised.handlers, false, "handlers"),
        ] {
            let failed = sum(|row| row.failed, tasks);
            if let Some(most) = bound.number()
                && bound.is_broken_by(failed)
            {
                troubles.push(format!(
                    "{name}: {failed} requests of {whose} failed, {most} at most are promised"
                ));
            }
            if sum(|row| row.overlapped, tasks) == 0 && cpus > 1 {
                troubles.push(format!("{name}: no request of {whose} raced a rebuild"));
            }
        }
    }
    troubles
}

#[cfg(test)]
#[path = "price_tests.rs"]
pub(crate) mod tests;
