//! A trace as people draw it in mails: a column a CPU, a line a step, time downwards.

use tidemark_wire::{AtCounter, EntryRead, LabContext, LabPoint, LabStep, Stay, WaitsFor};

/// Width of a page of one or two CPUs, in characters.
const WIDTH: usize = 72;
/// Narrowest column.
const NARROWEST: usize = 24;
/// Longest block of lines that is looked for as a repetition.
const LONGEST_CYCLE: usize = 12;

/// What the points of a rebuild mean in a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// In place, between two steps of a counter that readers look at.
    Counted,
    /// In place, without one.
    Uncounted,
    /// Beside the old lists, which are then replaced.
    Beside,
}

impl Writes {
    /// How the variant of this name writes.
    pub fn of(variant: &str) -> Self {
        match variant {
            "none" => Self::Uncounted,
            "snapshot" => Self::Beside,
            _ => Self::Counted,
        }
    }
}

/// A line of the page: the CPU, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    cpu: u8,
    text: String,
}

/// Draws the trace.
pub fn draw(steps: &[LabStep], writes: Writes) -> Vec<String> {
    let lines = unrepeated(&folded(steps, writes));
    let mut cpus: Vec<u8> = lines.iter().map(|line| line.cpu).collect();
    cpus.sort_unstable();
    cpus.dedup();
    if cpus.is_empty() {
        return Vec::new();
    }
    let gaps = 2 * (cpus.len() - 1);
    let column = ((WIDTH - gaps.min(WIDTH)) / cpus.len().max(2)).max(NARROWEST);
    let row = |cpu: u8, text: &str| {
        let place = cpus.iter().position(|known| *known == cpu).unwrap_or(0);
        format!("{:indent$}{text}", "", indent = place * (column + 2))
    };
    let mut head = String::new();
    for cpu in &cpus {
        head.push_str(&format!(
            "{:<width$}",
            format!("CPU{cpu}"),
            width = column + 2
        ));
    }
    let mut page = vec![head.trim_end().to_owned()];
    for line in lines {
        for piece in wrapped(&line.text, column) {
            page.push(row(line.cpu, &piece));
        }
    }
    page
}

/// Breaks a text between words so that it fits; what follows is indented.
fn wrapped(text: &str, width: usize) -> Vec<String> {
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

/// The steps as lines; steps that say nothing are left out.
fn folded(steps: &[LabStep], writes: Writes) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut begun = Vec::new();
    for step in steps.iter().filter(|step| is_told(step)) {
        if step.point == LabPoint::Act {
            begun.clear();
            if !lines.is_empty() {
                lines.push(Line {
                    cpu: step.cpu,
                    text: String::new(),
                });
            }
            continue;
        }
        // How the laboratory lets a role wait for its entrance is no part of the interleaving.
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
        lines.push(Line {
            cpu: step.cpu,
            text: format!("{indent}{}", text(step, writes)),
        });
    }
    lines
}

/// Whether a step belongs on the page.
fn is_told(step: &LabStep) -> bool {
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

/// Replaces blocks of lines that come again and again by one, and a count.
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
            text: format!("… the same {} times more", times - 1),
        });
        at += period * times;
    }
    short
}

/// How often the first `period` lines stand there one after the other.
fn repeats(lines: &[Line], period: usize) -> usize {
    let Some(first) = lines.get(..period) else {
        return 0;
    };
    lines
        .chunks(period)
        .take_while(|block| *block == first)
        .count()
}

fn parity(counter: u64) -> &'static str {
    if counter % 2 == 1 { "odd" } else { "even" }
}

fn zone(kind: u64) -> &'static str {
    ["DMA", "DMA32", "Normal", "Movable"]
        .get(kind as usize)
        .unwrap_or(&"?")
}

fn awaited(stay: u64) -> &'static str {
    match Stay::unpack(stay).map(|stay| stay.until) {
        Some(LabPoint::SlowWalk) => "the reader has its start",
        Some(LabPoint::SlowWalked) => "the reader's walk is over",
        Some(LabPoint::WalkEntry) => "the reader is inside an entry",
        Some(LabPoint::OfflineLeft) => "the frames have left",
        Some(LabPoint::OfflineDone) => "the offline is done",
        Some(LabPoint::OnlineCounted) => "the frames have arrived",
        Some(LabPoint::OnlineDone) => "the online is done",
        Some(LabPoint::RebuildEntry) => "a list is half written",
        Some(LabPoint::GraceBegin) => "the writer wants this CPU",
        Some(LabPoint::GraceWait) => "the rebuild waits",
        Some(LabPoint::PortLocked) => "the reader has the port",
        Some(LabPoint::PortWanted) => "the writer prints",
        Some(LabPoint::RebuildOdd) => "the rebuild has begun",
        Some(LabPoint::Spins) => "the reader meets the counter",
        Some(LabPoint::Fed) => "the cache has pages",
        Some(point) => point.name(),
        None => "?",
    }
}

/// A step in words.
fn text(step: &LabStep, writes: Writes) -> String {
    let LabStep { point, detail, .. } = *step;
    let counter = u64::from(AtCounter::unpack(detail).counter);
    match point {
        LabPoint::RebuildOdd => match writes {
            Writes::Counted => format!("rebuild: counter = {detail}, {}", parity(detail)),
            Writes::Uncounted => "rebuild: begins".to_owned(),
            Writes::Beside => "rebuild: about to publish".to_owned(),
        },
        LabPoint::RebuildEntry if writes == Writes::Beside => {
            "rebuild: entries of spare lists".to_owned()
        }
        LabPoint::RebuildEntry => "rebuild: entries: zone, index".to_owned(),
        LabPoint::RebuildEven if writes == Writes::Beside => {
            "rebuild: new lists are published".to_owned()
        }
        LabPoint::RebuildEven => "rebuild: lists are written".to_owned(),
        LabPoint::RebuildPublished => "rebuild: new lists published".to_owned(),
        LabPoint::GraceBegin => "asks for a grace period".to_owned(),
        LabPoint::GraceWait => "waits for readers of old lists".to_owned(),
        LabPoint::AnnotateBegin => "lock validator: writer begins".to_owned(),
        LabPoint::AnnotateEnd => "lock validator: writer ends".to_owned(),
        LabPoint::SlowBegin if writes == Writes::Counted => {
            format!("slow path: counter = {counter}, {}", parity(counter))
        }
        LabPoint::SlowBegin => "slow path".to_owned(),
        LabPoint::SlowWalk => "walks from its preferred entry".to_owned(),
        LabPoint::SlowWalked => "finds nothing".to_owned(),
        LabPoint::SlowRetry => "retry: a round begins".to_owned(),
        LabPoint::SlowCheckOom if writes == Writes::Counted => {
            format!("OOM next: counter = {counter}")
        }
        LabPoint::SlowCheckOom => "OOM next".to_owned(),
        LabPoint::SlowCheckNopage if writes == Writes::Counted => {
            format!("nopage: counter = {counter}")
        }
        LabPoint::SlowCheckNopage => "nopage".to_owned(),
        LabPoint::WalkEntry if writes == Writes::Beside => "entries, one word each".to_owned(),
        LabPoint::WalkEntry => "entries: index, zone".to_owned(),
        LabPoint::OfflineIsolated => "offline: isolated".to_owned(),
        LabPoint::OfflineScanned => "offline: scanned".to_owned(),
        LabPoint::OfflineLeft => "offline: Movable frames have left".to_owned(),
        LabPoint::OfflineDone => "offline: done".to_owned(),
        LabPoint::AsksToPull => "asks the host: QMP device_del".to_owned(),
        LabPoint::AsksToPlug => "asks the host: QMP device_add".to_owned(),
        LabPoint::SlotLeaves => "SCI, hot-plug thread: DIMM leaves".to_owned(),
        LabPoint::SlotArrives => "SCI, hot-plug thread: DIMM is there".to_owned(),
        LabPoint::OnlineCounted => "online: Movable frames counted".to_owned(),
        LabPoint::OnlineDone => "online: done, frames to take".to_owned(),
        LabPoint::Start => format!("{} begins", step.role.name()),
        LabPoint::End => format!("{} is done", step.role.name()),
        LabPoint::Request => match detail {
            0 | 1 => "alloc(GFP_KERNEL)",
            2 => "alloc(GFP_KERNEL), PF_MEMALLOC",
            3 => "alloc(GFP_ATOMIC)",
            _ => "alloc(GFP_ATOMIC|__GFP_MOVABLE)",
        }
        .to_owned(),
        LabPoint::Got => format!("= a {} frame", zone(detail)),
        LabPoint::Failed if detail == 1 => "= nothing, with memory free".to_owned(),
        LabPoint::Failed => "= nothing".to_owned(),
        LabPoint::OomDeclared if detail == 1 => "OOM, with memory free".to_owned(),
        LabPoint::OomDeclared => "OOM".to_owned(),
        LabPoint::Spins => format!("counter = {detail}, {}: spins", parity(detail)),
        LabPoint::GaveUp => "(the lab ends the spin)".to_owned(),
        LabPoint::Held => format!("(held until {})", awaited(detail)),
        LabPoint::Released => "(goes on)".to_owned(),
        LabPoint::TimedOut => format!("(held in vain for {})", awaited(detail)),
        LabPoint::IrqRaised => "<- interrupt for this CPU".to_owned(),
        LabPoint::IrqPending => "   IRQs are off: pending in IRR".to_owned(),
        LabPoint::IrqTaken if detail == 1 => "<COM1 interrupt>".to_owned(),
        LabPoint::IrqTaken => "<interrupt>".to_owned(),
        LabPoint::IrqOver => "</interrupt>".to_owned(),
        LabPoint::NmiSent => "<- NMI for this CPU".to_owned(),
        LabPoint::NmiTaken => "<NMI>".to_owned(),
        LabPoint::NmiOver => "</NMI>".to_owned(),
        LabPoint::MemoryFreed => format!("{detail} Normal frames come free"),
        LabPoint::Print => "printk()".to_owned(),
        LabPoint::PrintStored => "deferred: stored for later".to_owned(),
        LabPoint::PortWanted => "wants the port's lock".to_owned(),
        LabPoint::PortLocked => "has the port's lock".to_owned(),
        LabPoint::PortFreed => "frees the port's lock".to_owned(),
        LabPoint::Fed => format!("{detail} pages cached, reclaimable"),
        LabPoint::Act => String::new(),
        LabPoint::Hang => "*** HANG, says the watchdog ***".to_owned(),
        LabPoint::EntryRead => {
            let EntryRead { at, index, zone } = EntryRead::unpack(detail);
            format!("entry {at}: index {index}, {zone}")
        }
        LabPoint::WaitsFor => format!("({})", WaitsFor::unpack(detail)),
        LabPoint::GoesRound => format!("*** GOES ROUND: {detail} begins ***"),
        LabPoint::Kept => format!("keeps frame {detail}"),
        LabPoint::PullRefused => format!("pull: refused, frame {detail} is in use"),
        LabPoint::PullDone => "pull: the DIMM has left".to_owned(),
        LabPoint::GivenBack => format!("gives frame {detail} back"),
        LabPoint::ListNow | LabPoint::ZoneNow | LabPoint::HungAt => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_wire::Role;

    fn draw_counted(steps: &[LabStep]) -> Vec<String> {
        draw(steps, Writes::Counted)
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
                    for line in draw(&steps, writes) {
                        assert!(line.chars().count() <= WIDTH, "{line:?}");
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
        assert_eq!(page[4], "… the same 79 times more");
        assert_eq!(page[5], "= a Normal frame");
    }
}
