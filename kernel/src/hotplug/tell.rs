//! What the log says about DIMMs that come and go.

use super::dimm::Dimm;
use crate::console::{Level, printk};
use crate::mm::frames;
use crate::mm::report::{self, Size};
use crate::points;
use core::fmt;

/// How loudly an event is told.
#[derive(Clone, Copy)]
pub struct Voice {
    /// The event's own line.
    event: Level,
    /// The lists after it; none at boot, where they are shown once for all DIMMs.
    lists: Option<Level>,
}

/// Pulls, and plugs, that are told in the log: the first ones, of which the very first also shows
/// the lists; later ones are details.
const TOLD: u32 = 2;

impl Voice {
    /// For the DIMMs that are there at boot.
    pub const BOOT: Self = Self {
        event: Level::Info,
        lists: None,
    };

    /// For the next event, where `told` counts those before it. In a scenario, which decides who
    /// prints, none is told.
    pub fn next(told: &mut u32) -> Self {
        let of = |limit| {
            if *told < limit && !points::in_scenario() {
                Level::Info
            } else {
                Level::Debug
            }
        };
        let voice = Self {
            event: of(TOLD),
            lists: Some(of(1)),
        };
        *told = told.saturating_add(1);
        voice
    }
}

/// Names what of a DIMM cannot be used.
pub fn unused(voice: Voice, slot: usize, dimm: &Dimm) {
    let cut = &dimm.cut;
    if dimm.frames() == 0 {
        printk(
            voice.event,
            format_args!(
                "dimm{slot} at {:#x}: none of its {} MiB are used, they hold no whole memory section (128 MiB, aligned)",
                dimm.address,
                dimm.size_bytes >> 20
            ),
        );
    } else if cut.unused_bytes() > 0 {
        printk(
            voice.event,
            format_args!(
                "dimm{slot} at {:#x}: {} MiB at its head and {} MiB at its tail are not used, being no whole memory section (128 MiB, aligned)",
                dimm.address,
                cut.head_bytes >> 20,
                cut.tail_bytes >> 20
            ),
        );
    }
}

/// Tells that a DIMM's frames are in use.
pub fn arrival(voice: Voice, slot: usize, dimm: &Dimm, took_ns: u64, rebuilt: Rebuilt) {
    if dimm.frames() == 0 {
        return;
    }
    printk(
        voice.event,
        format_args!(
            "dimm{slot} at {:#x}: {} join {} in {} ms{}",
            dimm.address,
            Size(dimm.frames()),
            dimm.zone,
            took_ns / 1_000_000,
            rebuilt
        ),
    );
    show_lists(voice, rebuilt);
}

/// Tells that a DIMM was let go.
pub fn departure(
    voice: Voice,
    slot: usize,
    dimm: &Dimm,
    migrated: u64,
    took_ns: u64,
    rebuilt: Rebuilt,
) {
    if dimm.frames() == 0 {
        printk(
            voice.event,
            format_args!("dimm{slot}, of which nothing was used, is ejected"),
        );
        return;
    }
    printk(
        voice.event,
        format_args!(
            "dimm{slot} leaves {}: {} gone, {migrated} frames migrated, {} ms{}; ejected",
            dimm.zone,
            Size(dimm.frames()),
            took_ns / 1_000_000,
            rebuilt
        ),
    );
    show_lists(voice, rebuilt);
}

/// Shows the lists, if they were rebuilt.
fn show_lists(voice: Voice, rebuilt: Rebuilt) {
    if let Some(level) = voice.lists.filter(|_| rebuilt != Rebuilt::No) {
        report::lists(level);
    }
}

/// What an event did to the zonelists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuilt {
    /// They are as they were: no zone came or went.
    No,
    /// They were rebuilt, and the writer left interrupts on.
    InterruptsOn,
    /// They were rebuilt with interrupts off for so many nanoseconds.
    InterruptsOff(u64),
}

impl Rebuilt {
    /// What the last rebuild did, if there was one.
    pub fn last(rebuilt: bool) -> Self {
        let frames = frames();
        match (rebuilt, frames.variant().writes_with_interrupts_off()) {
            (false, _) => Self::No,
            (true, false) => Self::InterruptsOn,
            (true, true) => Self::InterruptsOff(frames.rebuild_stats().irq_off_last_ns),
        }
    }

    /// How long interrupts were off, in nanoseconds.
    pub fn irq_off_ns(self) -> u64 {
        match self {
            Self::InterruptsOff(ns) => ns,
            Self::No | Self::InterruptsOn => 0,
        }
    }
}

impl fmt::Display for Rebuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::No => Ok(()),
            Self::InterruptsOn => f.write_str(", lists rebuilt with interrupts on"),
            Self::InterruptsOff(ns) => write!(
                f,
                ", lists rebuilt with interrupts off for {}.{} µs",
                ns / 1000,
                ns / 100 % 10
            ),
        }
    }
}
