//! Prints on the terminal: a page of one cell, the matrix, the total.

use std::time::Duration;

use tidemark_frames::{Mistake, Variant};
use tidemark_wire::{Hazard, LabVerdict};

use super::beside::Columns;
use super::cells::Cell;
use super::columns::{self, Style};
use super::expected::{contradiction, scope};
use super::found::Found;
use super::steps::Writes;
use super::values;
use crate::guest::machine::Machine;
use crate::judge::report::seconds;
use crate::judge::symbols::Symbols;
use crate::judge::words::words;
use crate::terminal::cli::{LabArgs, Show};
use crate::terminal::console::{BAD, FAINT, GOOD, say};

/// Width of a column of the matrix, in characters.
pub const COLUMN: usize = 10;

/// Most characters in a line of a page for a mail.
const MAIL: usize = 72;

/// Prints one cell: the finding, the columns, the command.
pub fn show(found: &Found, cpus: u16, what: Show, symbols: &Symbols) {
    page(found, cpus, what, symbols).iter().for_each(say);
}

fn page(found: &Found, cpus: u16, what: Show, symbols: &Symbols) -> Vec<String> {
    let is_plain = what == Show::Mail;
    let mark = if is_plain {
        String::new()
    } else {
        format!(" {}", mark(found))
    };
    let scope = scope(found.verdict)
        .map(|scope| format!(" ({scope})"))
        .unwrap_or_default();
    let mut head = vec![
        format!(
            "{}: {}{scope}{mark}",
            found.cell.name(),
            words(found.verdict)
        ),
        format!(
            "  {}: {}",
            found.cell.variant.name(),
            found.cell.variant.origin()
        ),
    ];
    let mistake = found.cell.mistake.map(Mistake::says);
    head.extend(mistake.map(|what| format!("  planted: {what}")));
    head.push(format!("  {}", found.how));
    head.extend(
        values::wait_for(&found.steps)
            .iter()
            .map(|edge| format!("  {edge}")),
    );
    if let Some(line) = &found.trouble {
        head.push(format!("  {BAD}{line}{BAD:#}"));
    }
    let (style, command) = match what {
        Show::Steps => (Style::Steps, found.cell.command(cpus)),
        Show::Mail => (Style::Mail, found.cell.command(cpus)),
        Show::Values => (Style::Values(symbols), found.cell.command(cpus) + "=values"),
    };
    let mut foot = Vec::new();
    if found.dropped > 0 {
        foot.push(format!("({} steps more were not kept)", found.dropped));
    }
    foot.push(String::new());
    foot.push(if is_plain {
        command
    } else {
        format!("{FAINT}{command}{FAINT:#}")
    });
    foot.push(String::new());
    if is_plain {
        let fit = |lines: Vec<String>| -> Vec<String> {
            let pieces = lines.iter().flat_map(|line| columns::wrapped(line, MAIL));
            pieces.collect()
        };
        (head, foot) = (fit(head), fit(foot));
    }
    let writes = Writes::of(found.cell.variant);
    head.push(String::new());
    head.extend(columns::draw(&found.steps, writes, style));
    head.extend(foot);
    head
}

/// Returns ✓ for an expected cell and ✗ for another, with a star where the specification is
/// contradicted.
fn mark(found: &Found) -> String {
    let (style, sign) = if found.is_expected() {
        (GOOD, "✓")
    } else {
        (BAD, "✗")
    };
    let star = contradiction(found.cell.variant, found.cell.hazard);
    format!("{style}{sign}{style:#}{}", star.map_or("", |_| "*"))
}

/// Prints the matrix.
pub fn print_matrix(found: &[Found], args: &LabArgs, linux: Option<&Columns>) {
    let hazards: Vec<Hazard> = Hazard::ALL
        .into_iter()
        .filter(|hazard| found.iter().any(|cell| cell.cell.hazard == *hazard))
        .collect();
    say(format!(
        "{}, a fresh guest a cell",
        Machine::usual(args.cpus, args.accel)
    ));
    let mut head = format!("{:<24}", "variant");
    for hazard in &hazards {
        head.push_str(&format!("{:<COLUMN$}", hazard.name()));
    }
    let of_ours = head.len();
    head.push_str(&linux.map(Columns::head).unwrap_or_default());
    say(head.trim_end());
    for variant in Variant::ALL {
        let row = |hazard: &Hazard| {
            found
                .iter()
                .find(|cell| cell.cell.variant == variant && cell.cell.hazard == *hazard)
        };
        if hazards.iter().all(|hazard| row(hazard).is_none()) {
            continue;
        }
        let mut line = format!("{:<24}", variant.name());
        for hazard in &hazards {
            let Some(cell) = row(hazard) else {
                line.push_str(&format!("{:<COLUMN$}", "-"));
                continue;
            };
            let verdict = match cell.verdict {
                LabVerdict::HoldsDirectOnly => "holds°",
                LabVerdict::NotReached => "none",
                verdict => words(verdict),
            };
            let sign = mark(cell);
            let star = usize::from(sign.ends_with('*'));
            let gap = COLUMN.saturating_sub(verdict.chars().count() + 2 + star);
            line.push_str(&format!("{verdict} {sign}{:gap$}", ""));
        }
        let kernels = linux.map(|linux| linux.lines(variant)).unwrap_or_default();
        let mut kernels = kernels.iter();
        line.push_str(kernels.next().map_or("", String::as_str));
        say(line.trim_end());
        for kernel in kernels {
            say(format!("{:of_ours$}{kernel}", "").trim_end());
        }
    }
    let has = |verdict| found.iter().any(|cell| cell.verdict == verdict);
    if has(LabVerdict::HoldsDirectOnly) {
        say("° for requests that may reclaim only");
    }
    say(
        "✓ as expected, and an expected FAILS is one; ✗ not; none: the window was not reached. lab --list explains the names",
    );
    if linux.is_some() {
        say(
            "on Linux: recorded runs of lab linux on Debian's kernels; docs/linux.md explains them",
        );
    }
    for cell in found.iter().filter(|cell| !cell.is_expected()) {
        let expected = cell.cell.expected().map_or("nothing", words);
        say(format!(
            "{BAD}unexpected{BAD:#}: {}: {}, not {expected}: {}{}",
            cell.cell.name(),
            words(cell.verdict),
            cell.how,
            cell.trouble
                .as_ref()
                .map(|trouble| format!("; {trouble}"))
                .unwrap_or_default()
        ));
        say(format!("  {}", cell.cell.command(args.cpus)));
    }
    for cell in found {
        if let Some(contradicted) = contradiction(cell.cell.variant, cell.cell.hazard) {
            say(format!("* {}: {}", cell.cell.name(), contradicted.why));
        }
    }
}

/// Prints the last line.
pub fn print_total(cells: &[Cell], found: &[Found], exit_code: i32, wall: Duration) {
    let expected = found.iter().filter(|cell| cell.is_expected()).count();
    let (style, word) = if exit_code == 0 {
        (GOOD, "PASS")
    } else {
        (BAD, "FAIL")
    };
    say(format!(
        "{style}{word}{style:#}: {expected} of {} cells as expected, in {}",
        cells.len(),
        seconds(wall)
    ));
}
