//! `tidemark lab price`: the share of requests racing a rebuild that fail although a fresh walk
//! would have served them, by protocol and context.

use std::num::NonZero;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidemark_frames::Variant;
use tidemark_wire::PriceRow;

use crate::guest::accel::usable;
use crate::guest::build::{self, Built};
use crate::guest::conductor::Watch;
use crate::guest::machine::Machine;
use crate::guest::options::{Mode, Options};
use crate::guest::qemu;
use crate::guest::run::{Spec, run_logged};
use crate::guest::several::run_each;
use crate::judge::json;
use crate::judge::price;
use crate::judge::report::seconds;
use crate::terminal::cli::PriceArgs;
use crate::terminal::console::{BAD, Console, FAINT, GOOD, say};
use crate::terminal::exit::EXIT_INTERRUPTED;
use crate::terminal::interrupt;

/// Version of the JSON's layout.
const SCHEMA: u32 = 1;
/// The quantile of the normal distribution for 95 %.
const Z: f64 = 1.959_964;

/// The result of a protocol's guest.
#[derive(Clone, Debug)]
struct Found {
    zonelist: Variant,
    rows: Vec<PriceRow>,
    /// What is wrong with the run, or breaks a promise of the protocol.
    troubles: Vec<String>,
    log: Vec<String>,
}

/// Measures the protocols that are asked for and returns the program's exit code.
///
/// # Errors
/// A tool is missing, the kernel does not build, or a result cannot be written.
pub fn run(args: &PriceArgs) -> Result<i32> {
    json::prepare(args.output.json.as_deref())?;
    qemu::require()?;
    let args = &PriceArgs {
        accel: usable(args.accel),
        ..args.clone()
    };
    let started = Instant::now();
    let built = build::guest()?;
    let mut console = Console::new(args.output.verbosity(), args.output.log.as_deref())?;
    let wanted = wanted(args);
    let found = run_all(&wanted, args, &built)?;
    for one in &found {
        console.whole_log(&format!("price of {}", one.zonelist.name()), &one.log);
    }
    console.unfold();
    let machine = Machine::usual(args.cpus, args.accel).to_string();
    say(format!(
        "{machine}, a fresh guest a protocol; {} removals and as many arrivals in each half",
        args.removals
    ));
    let aliases = args.variant.iter().filter_map(|asked| asked.alias());
    aliases.for_each(say);
    for stalled in [false, true] {
        table(&found, stalled).iter().for_each(say);
    }
    let exit_code = exit_code(&wanted, &found);
    if let Some(path) = &args.output.json {
        let rows: Vec<Value> = found.iter().flat_map(rows_as_json).collect();
        let result = json!({
            "schema": SCHEMA,
            "kind": "price",
            "verdict": if exit_code == 0 { "passed" } else { "failed" },
            "exit_code": exit_code,
            "machine": machine,
            "removals": args.removals,
            "troubles": found.iter().flat_map(|one| &one.troubles).collect::<Vec<_>>(),
            "rows": rows,
        });
        json::write(path, &result)?;
    }
    for line in found.iter().flat_map(|one| &one.troubles) {
        say(format!("{BAD}{line}{BAD:#}"));
    }
    let (style, word) = match exit_code {
        0 => (GOOD, "PASS"),
        _ => (BAD, "FAIL"),
    };
    say(format!(
        "{style}{word}{style:#}: {} of {} protocols keep what they promise, in {}",
        found.iter().filter(|one| one.troubles.is_empty()).count(),
        wanted.len(),
        seconds(started.elapsed())
    ));
    Ok(exit_code)
}

fn wanted(args: &PriceArgs) -> Vec<Variant> {
    let all = Variant::ALL.into_iter();
    all.filter(|zonelist| {
        args.variant.is_empty() || args.variant.iter().any(|asked| asked.variant == *zonelist)
    })
    .collect()
}

/// Cores for one guest: two, because only then do readers and writer run at once.
const CORES_EACH: NonZero<usize> = NonZero::<usize>::MIN.saturating_add(1);

/// Runs the guests, several at a time; the results are in the protocols' order.
fn run_all(wanted: &[Variant], args: &PriceArgs, built: &Built) -> Result<Vec<Found>> {
    let run = |zonelist| run_one(zonelist, args, built);
    run_each(wanted, CORES_EACH, run)?.into_iter().collect()
}

fn run_one(zonelist: Variant, args: &PriceArgs, built: &Built) -> Result<Found> {
    let mode = Mode::Price {
        removals: args.removals,
    };
    let options = Options {
        plant: args.plant,
        ..Options::new(mode, zonelist)
    };
    let machine = Machine::usual(args.cpus, args.accel);
    let spec = Spec {
        watch: Watch::Long,
        ..Spec::new(machine, options, built)
    };
    let (record, log) =
        run_logged(&spec).with_context(|| format!("the guest of {}", zonelist.name()))?;
    let verdict = price::judge(zonelist, args.removals, args.cpus, &record);
    Ok(Found {
        zonelist,
        troubles: verdict.reasons,
        rows: record.price,
        log,
    })
}

/// 0 if every protocol that was asked for was measured and keeps what it promises.
fn exit_code(wanted: &[Variant], found: &[Found]) -> i32 {
    if interrupt::requested() {
        return EXIT_INTERRUPTED;
    }
    let all_well = found.iter().all(|one| one.troubles.is_empty());
    i32::from(found.len() < wanted.len() || !all_well)
}

/// Returns Wilson's interval, in which a share lies with 95 % if `hits` of `of` were found.
fn wilson(hits: u64, of: u64) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let n = of as f64;
    let share = hits as f64 / n;
    let scale = 1.0 + Z * Z / n;
    let middle = (share + Z * Z / (2.0 * n)) / scale;
    let half = Z / scale * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let low = if hits == 0 { 0.0 } else { middle - half };
    let high = if hits == of { 1.0 } else { middle + half };
    (low.max(0.0), high.min(1.0))
}

fn percent(share: f64) -> String {
    format!("{:.2}", 100.0 * share)
}

fn table(found: &[Found], stalled: bool) -> Vec<String> {
    let title = if stalled {
        "readers stay inside their walk while lists are rewritten:"
    } else {
        "readers as they come:"
    };
    let head = format!(
        "{:<24}{:<6}{:>10}{:>8}{:>8}{:>9}  {:<14}{:>7}{:>9}{:>7}",
        "protocol",
        "",
        "requests",
        "racing",
        "failed",
        "percent",
        "95 %",
        "again",
        "left out",
        "short"
    );
    let mut lines = vec![
        String::new(),
        title.to_owned(),
        format!("{FAINT}{head}{FAINT:#}"),
    ];
    for one in found {
        let mut name = one.zonelist.name();
        for row in one.rows.iter().filter(|row| row.stalled == stalled) {
            lines.push(line(name, row));
            name = "";
        }
    }
    lines
}

fn line(name: &str, row: &PriceRow) -> String {
    let (share, interval) = if row.overlapped == 0 {
        ("-".to_owned(), "-".to_owned())
    } else {
        let (low, high) = wilson(row.failed, row.overlapped);
        (
            percent(row.failed as f64 / row.overlapped as f64),
            format!("{} to {}", percent(low), percent(high)),
        )
    };
    format!(
        "{name:<24}{:<6}{:>10}{:>8}{:>8}{share:>9}  {interval:<14}{:>7}{:>9}{:>7}",
        row.context.name(),
        row.requests,
        row.overlapped,
        row.failed,
        row.retries,
        row.left_out,
        row.short,
    )
    .trim_end()
    .to_owned()
}

fn rows_as_json(one: &Found) -> Vec<Value> {
    let row = |row: &PriceRow| {
        let (low, high) = wilson(row.failed, row.overlapped);
        json!({
            "zonelist": one.zonelist.name(),
            "context": row.context.name(),
            "stalled": row.stalled,
            "rebuilds": row.rebuilds,
            "requests": row.requests,
            "overlapped": row.overlapped,
            "failures_fresh_walk_serves": row.failed,
            "rate": (row.overlapped > 0).then(|| row.failed as f64 / row.overlapped as f64),
            "rate_low": low,
            "rate_high": high,
            "short": row.short,
            "retries": row.retries,
            "left_out": row.left_out,
        })
    };
    one.rows.iter().map(row).collect()
}

#[cfg(test)]
#[path = "price_tests.rs"]
mod tests;
