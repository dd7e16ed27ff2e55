//! Prints the zones and zonelists in words.

use super::frames;
use crate::console::{Level, printk};
use core::fmt;
use tidemark_frames::{
    AllocReport, Gfp, ListKind, ListSnapshot, NodeId, NodeMask, ZoneId, ZoneInfo,
};
use tidemark_sync::ContextKind;

/// A number of frames, shown as MiB rounded down, or as KiB below 4 MiB.
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self.0 {
            0..1024 => (self.0 * 4, "KiB"),
            frames => (frames / 256, "MiB"),
        };
        let width = f.width().unwrap_or(0).saturating_sub(unit.len() + 1);
        write!(f, "{number:>width$} {unit}")
    }
}

/// The line of a zone: its size, its free frames and its watermarks.
pub struct ZoneLine<'a>(pub &'a ZoneInfo);

impl fmt::Display for ZoneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.0;
        write!(
            f,
            "node {} {:<7} {:>8}: {:>7} of {:>7} frames free, watermarks min {} low {} high {}",
            zone.id.node(),
            zone.id.kind(),
            Size(zone.managed),
            zone.free + zone.cached,
            zone.managed,
            zone.min,
            zone.low,
            zone.high
        )
    }
}

/// The line of a zonelist: its zones in order, each node named where it begins.
pub struct ListLine<'a>(pub &'a ListSnapshot);

impl fmt::Display for ListLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before: Option<ZoneId> = None;
        for zone in self.0.iter() {
            match before {
                Some(last) if last.node() == zone.node() => write!(f, ", {}", zone.kind())?,
                Some(_) => write!(f, "; then node {}: {}", zone.node(), zone.kind())?,
                None => write!(f, "node {}: {}", zone.node(), zone.kind())?,
            }
            before = Some(zone);
        }
        if before.is_none() {
            f.write_str("nothing")?;
        }
        Ok(())
    }
}

/// All zones in one line, each with its free frames and its MIN watermark.
pub struct FreeAndMin;

impl fmt::Display for FreeAndMin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("free/min")?;
        let zones = super::try_frames().into_iter().flat_map(|f| f.zones());
        for zone in zones {
            write!(f, ", {} {}/{}", zone.id, zone.free, zone.min)?;
        }
        Ok(())
    }
}

/// The requester of memory, and the request.
pub struct Requester<'a>(pub &'a AllocReport, pub ContextKind);

impl fmt::Display for Requester<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(report, context) = self;
        let who = match context {
            ContextKind::Task => "a task",
            ContextKind::HardIrq => "an interrupt handler",
            ContextKind::Nmi => "an NMI handler",
        };
        write!(
            f,
            "{who} wanted {} frame(s), {}, node {}, highest zone {}",
            report.order.frames(),
            Flags(report.gfp),
            report.node,
            report.gfp.highest_zone()
        )?;
        if report.nodes != NodeMask::ALL {
            write!(f, ", of nodes {}", Nodes(report.nodes))?;
        }
        if report.walk.slow {
            write!(
                f,
                "; slow path{}{}, {} retries",
                if report.walk.odd { ", counter odd" } else { "" },
                if report.walk.overlapped {
                    ", overlapped a rebuild"
                } else {
                    ""
                },
                report.walk.retries
            )?;
            if report.walk.cpuset_retries > 0 {
                write!(f, ", {} for its cpuset", report.walk.cpuset_retries)?;
            }
        }
        Ok(())
    }
}

/// A set of nodes, as `0,2`.
pub struct Nodes(pub NodeMask);

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nodes = self.0.iter();
        match nodes.next() {
            Some(first) => write!(f, "{first}")?,
            None => f.write_str("none")?,
        }
        nodes.try_for_each(|node| write!(f, ",{node}"))
    }
}

/// The flags of a request, by their usual names.
pub struct Flags(pub Gfp);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, mask) = if self.0.contains(Gfp::KERNEL) {
            ("GFP_KERNEL", Gfp::KERNEL)
        } else if self.0.contains(Gfp::ATOMIC) {
            ("GFP_ATOMIC", Gfp::ATOMIC)
        } else if self.0.contains(Gfp::NOWAIT) {
            ("GFP_NOWAIT", Gfp::NOWAIT)
        } else {
            ("GFP_NONE", Gfp::NONE)
        };
        f.write_str(name)?;
        let rest = self.0.without(mask);
        let modifiers = [
            (Gfp::DMA, "DMA"),
            (Gfp::DMA32, "DMA32"),
            (Gfp::MOVABLE, "MOVABLE"),
            (Gfp::HIGH, "HIGH"),
            (Gfp::NORETRY, "NORETRY"),
            (Gfp::RETRY_MAYFAIL, "RETRY_MAYFAIL"),
            (Gfp::NOFAIL, "NOFAIL"),
            (Gfp::THISNODE, "THISNODE"),
            (Gfp::HARDWALL, "HARDWALL"),
            (Gfp::NOMEMALLOC, "NOMEMALLOC"),
            (Gfp::MEMALLOC, "MEMALLOC"),
            (Gfp::ZERO, "ZERO"),
        ];
        for (flag, name) in modifiers {
            if rest.contains(flag) {
                write!(f, "|{name}")?;
            }
        }
        Ok(())
    }
}

/// Prints a line for each zone with memory; prints nothing before there are zones. Any context may
/// call it.
pub fn zones(level: Level) {
    let Some(frames) = super::try_frames() else {
        return;
    };
    for zone in frames.zones() {
        printk(level, format_args!("{}", ZoneLine(&zone)));
    }
}

/// Prints what boot has set up: the zones with their watermarks, and the zonelists in order. Any
/// context may call it.
pub fn overview(level: Level) {
    zones(level);
    lists(level);
}

/// Writes the zones into a crash report. It reads only atomics, and takes no lock.
pub fn write_zones(out: &mut dyn fmt::Write) -> fmt::Result {
    for zone in frames().zones() {
        writeln!(out, "{}", ZoneLine(&zone))?;
    }
    Ok(())
}

/// Prints each node's zonelist, as a request from that node walks it. Any context may call it.
pub fn lists(level: Level) {
    for node in super::nodes_with_lists() {
        list(node, level);
    }
}

fn list(node: NodeId, level: Level) {
    let list = frames().zonelist(node, ListKind::Fallback);
    printk(
        level,
        format_args!("requests on node {node} try {}", ListLine(&list)),
    );
}
