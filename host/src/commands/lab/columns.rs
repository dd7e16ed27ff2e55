//! Draws a trace as people draw it in mails: a column for each CPU, a line for each step, time
//! downwards.

use tidemark_wire::{AtCounter, LabContext, LabPoint, LabStep, Role};

use super::steps::{Writes, text};
use crate::judge::symbols::Symbols;

/// Width of a page of one or two CPUs, in characters.
const WIDTH: usize = 72;
/// Narrowest width of a column, in characters.
const NARROWEST: usize = 24;
/// Most lines in a block that is searched for repetitions.
const LONGEST_CYCLE: usize = 12;
/// Width of a column of a page with values, in characters.
const WITH_VALUES: usize = 44;
/// Width of the times before the columns, in characters.
const TIMES: usize = 10;

/// The style of a page.
#[derive(Clone, Copy, Debug)]
pub enum Style<'s> {
    /// The steps.
    Steps,
    /// The steps in at most 72 columns, however many CPUs there are.
    Mail,
    /// The steps with the data of the trace; functions are named by these symbols.
    Values(&'s Symbols),
}

/// A line of the page: the CPU, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    cpu: u8,
    /// Guest time since the stage opened, in microseconds. Not every page shows it.
    at_us: Option<u64>,
    text: String,
}

/// Draws the trace.
pub fn draw(steps: &[LabStep], writes: Writes, style: Style<'_>) -> Vec<String> {
    let lines = unrepeated(&folded(steps, writes, style));
    let mut cpus: Vec<u8> = lines.iter().map(|line| line.cpu).collect();
    cpus.sort_unstable();
    cpus.dedup();
    if cpus.is_empty() {
        return Vec::new();
    }
    let gaps = 2 * (cpus.len() - 1);
    let shared = (WIDTH - gaps.min(WIDTH)) / cpus.len().max(2);
    let (times, column) = match style {
        Style::Steps => (0, shared.max(NARROWEST)),
        Style::Mail => (0, shared),
        Style::Values(_) => (TIMES, WITH_VALUES),
    };
    let row = |line: &Line, is_first: bool, text: &str| {
        let place = cpus.iter().position(|known| *known == line.cpu);
        let at = line.at_us.filter(|_| is_first);
        let at = at.map(|at| format!("{at} µs")).unwrap_or_default();
        let at = format!("{at:>times$}", times = times.saturating_sub(2));
        let gap = times - at.chars().count().min(times);
        let indent = gap + place.unwrap_or(0) * (column + 2);
        format!("{at}{:indent$}{text}", "").trim_end().to_owned()
    };
    let mut head = " ".repeat(times);
    for cpu in &cpus {
        head.push_str(&format!(
            "{:<width$}",
            format!("CPU{cpu}"),
            width = column + 2
        ));
    }
    let mut page = vec![head.trim_end().to_owned()];
    for line in lines {
        for (number, piece) in wrapped(&line.text, column).iter().enumerate() {
            page.push(row(&line, number == 0, piece));
        }
    }
    page
}

/// Breaks a text between words so that it fits. Later lines are indented.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let indent = text.len() - text.trim_start().len();
    let mut lines = Vec::new();
    let mut line = " ".repeat(indent);
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent + 2)));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
    lines
}

/// Returns the steps as lines, without the steps that the page does not show.
fn folded(steps: &[LabStep], writes: Writes, style: Style<'_>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut begun = Vec::new();
    let (mut opened_us, mut cookie) = (0, 0);
    for step in steps.iter().filter(|step| is_told(step, style)) {
        if step.point == LabPoint::Act {
            begun.clear();
            opened_us = step.at_us;
            if !lines.is_empty() {
                lines.push(Line {
                    cpu: step.cpu,
                    at_us: None,
                    text: String::new(),
                });
            }
            continue;
        }
        if step.point == LabPoint::SlowBegin {
            cookie = AtCounter::unpack(step.detail).counter;
        }
        // The laboratory may hold a role before its entrance, which is no part of the interleaving.
        if !begun.contains(&step.role) {
            if matches!(step.point, LabPoint::Held | LabPoint::Released) {
                continue;
            }
            begun.push(step.role);
        }
        let indent = match step.context {
            LabContext::Task => "",
            LabContext::Interrupt | LabContext::Nmi => "  ",
        };
        let at_us = match style {
            // A step that was noted while the stage was closed has no time in its play.
            Style::Values(_) => step.at_us.checked_sub(opened_us),
            _ => None,
        };
        let text = with_values(step, text(step, writes), cookie, style);
        lines.push(Line {
            cpu: step.cpu,
            at_us,
            text: format!("{indent}{text}"),
        });
    }
    lines
}

/// Returns a step's text, with the data that a page with values adds.
fn with_values(step: &LabStep, text: String, cookie: u32, style: Style<'_>) -> String {
    let Style::Values(symbols) = style else {
        return text;
    };
    let AtCounter { counter, serves } = AtCounter::unpack(step.detail);
    let memory = if serves { ", memory free" } else { "" };
    match step.point {
        LabPoint::SlowCheckOom | LabPoint::SlowCheckNopage => {
            format!("{text}, at its begin {cookie}{memory}")
        }
        LabPoint::SlowBegin | LabPoint::SlowRetry | LabPoint::SlowWalked => {
            format!("{text} (counter {counter}{memory})")
        }
        LabPoint::RebuildEntry | LabPoint::AnnotateBegin | LabPoint::AnnotateEnd => {
            format!("{text} (counter {counter})")
        }
        LabPoint::HungAt => format!("in {}", symbols.place(step.detail)),
        _ => text,
    }
}

/// Returns whether a step belongs on the page.
fn is_told(step: &LabStep, style: Style<'_>) -> bool {
    if matches!(style, Style::Values(_)) {
        return !(step.role == Role::Feeder && step.point == LabPoint::End);
    }
    !matches!(
        step.point,
        LabPoint::OfflineIsolated
            | LabPoint::OfflineScanned
            | LabPoint::IrqOver
            | LabPoint::NmiOver
            | LabPoint::End
            | LabPoint::Start
            | LabPoint::ListNow
            | LabPoint::ZoneNow
            | LabPoint::HungAt
            | LabPoint::EntryRead
    )
}

/// Replaces blocks of lines that come again and again by one block and a count.
fn unrepeated(lines: &[Line]) -> Vec<Line> {
    let mut short = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let best = (1..=LONGEST_CYCLE)
            .map(|period| (period, repeats(&lines[at..], period)))
            .filter(|&(_, times)| times >= 3)
            .max_by_key(|&(period, times)| (period * times, std::cmp::Reverse(period)));
        let Some((period, times)) = best else {
            short.push(lines[at].clone());
            at += 1;
            continue;
        };
        short.extend_from_slice(&lines[at..at + period]);
        short.push(Line {
            cpu: lines[at].cpu,
            at_us: None,
            text: format!("... {} more times", times - 1),
        });
        at += period * times;
    }
    short
}

/// Returns how often the first `period` lines stand there one after the other.
fn repeats(lines: &[Line], period: usize) -> usize {
    let Some(first) = lines.get(..period) else {
        return 0;
    };
    lines
        .chunks(period)
        .take_while(|block| {
            let pairs = block.iter().zip(first);
            block.len() == period
                && pairs
                    .clone()
                    .all(|(a, b)| (a.cpu, &a.text) == (b.cpu, &b.text))
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_wire::Role;

    fn draw_counted(steps: &[LabStep]) -> Vec<String> {
        draw(steps, Writes::Counted, Style::Steps)
    }

    fn step(cpu: u8, context: LabContext, point: LabPoint, detail: u64) -> LabStep {
        LabStep {
            order: 0,
            at_us: 0,
            cpu,
            context,
            role: Role::Reader,
            point,
            detail,
        }
    }

    #[test]
    fn a_page_has_a_column_a_cpu_and_one_line_a_step() {
        let page = draw_counted(&[
            step(1, LabContext::Task, LabPoint::RebuildOdd, 3),
            step(0, LabContext::Interrupt, LabPoint::Spins, 3),
            step(1, LabContext::Task, LabPoint::RebuildEntry, 3),
        ]);
        let second = " ".repeat(37);
        assert_eq!(
            page,
            [
                format!("CPU0{}CPU1", " ".repeat(33)),
                format!("{second}rebuild: counter = 3, odd"),
                "  counter = 3, odd: spins".to_owned(),
                format!("{second}rebuild: entries: zone, index"),
            ]
        );
    }

    #[test]
    fn a_role_appears_with_its_first_act() {
        let page = draw_counted(&[
            step(0, LabContext::Task, LabPoint::Act, 0),
            step(0, LabContext::Task, LabPoint::Start, 0),
            step(0, LabContext::Task, LabPoint::Held, 0),
            step(0, LabContext::Task, LabPoint::Released, 0),
            step(0, LabContext::Task, LabPoint::Request, 0),
            step(0, LabContext::Task, LabPoint::Released, 0),
            step(0, LabContext::Task, LabPoint::Act, 0),
            step(0, LabContext::Task, LabPoint::Request, 3),
        ]);
        assert_eq!(
            page,
            [
                "CPU0",
                "alloc(GFP_KERNEL)",
                "(goes on)",
                "",
                "alloc(GFP_ATOMIC)"
            ]
        );
    }

    #[test]
    fn no_line_of_two_cpus_is_wider_than_a_mail() {
        for &point in LabPoint::ALL {
            for detail in 0..LabPoint::ALL.len() as u64 {
                let steps = [
                    step(0, LabContext::Nmi, point, detail),
                    step(1, LabContext::Nmi, point, detail),
                ];
                for writes in [Writes::Counted, Writes::Uncounted, Writes::Beside] {
                    for style in [Style::Steps, Style::Mail] {
                        for line in draw(&steps, writes, style) {
                            assert!(line.chars().count() <= WIDTH, "{line:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_comes_again_and_again_is_told_once() {
        let round = [
            step(0, LabContext::Task, LabPoint::SlowRetry, 1),
            step(0, LabContext::Task, LabPoint::SlowWalk, 1),
            step(0, LabContext::Task, LabPoint::SlowWalked, 1),
        ];
        let mut steps = round.repeat(80);
        steps.push(step(0, LabContext::Task, LabPoint::Got, 2));
        let page = draw_counted(&steps);
        assert_eq!(page.len(), 1 + 3 + 1 + 1);
        assert_eq!(page[4], "... 79 more times");
        assert_eq!(page[5], "= a Normal frame");
    }
}
