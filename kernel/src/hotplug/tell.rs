//! The lines of the log about DIMMs that come and go.

use super::dimm::Dimm;
use crate::console::{Level, printk};
use crate::mm::frames;
use crate::mm::report::{self, Size};
use crate::points;
use core::fmt;

/// The levels at which an event is printed.
#[derive(Clone, Copy)]
pub struct Voice {
    /// The level of the event's own line.
    event: Level,
    /// The level of the zonelists after it. At boot there is none, because they are shown once for
    /// all DIMMs.
    lists: Option<Level>,
}

/// Number of removals, and of arrivals, that are printed in the log. Of these the first one also
/// shows the zonelists; later events are details.
const TOLD: u32 = 2;

impl Voice {
    /// The levels for the DIMMs that are there at boot.
    pub const BOOT: Self = Self {
        event: Level::Info,
        lists: None,
    };

    /// Returns the levels for the next event, where `told` counts those before it. In a scenario,
    /// which decides itself which code prints, no event is printed.
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

/// Prints which part of a DIMM cannot be used.
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

/// Prints that a DIMM's frames are in use.
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

/// Prints that a DIMM was ejected.
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

/// Prints the zonelists, if they were rebuilt.
fn show_lists(voice: Voice, rebuilt: Rebuilt) {
    if let Some(level) = voice.lists.filter(|_| rebuilt != Rebuilt::No) {
        report::lists(level);
    }
}

/// The effect of an event on the zonelists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuilt {
    /// They are unchanged: no zone came or went.
    No,
    /// They were rebuilt, and the writer left interrupts on.
    InterruptsOn,
    /// They were rebuilt with interrupts off for this many nanoseconds.
    InterruptsOff(u64),
}

impl Rebuilt {
    /// Returns the effect of the last rebuild, if there was one.
    pub fn last(rebuilt: bool) -> Self {
        let frames = frames();
        match (rebuilt, frames.variant().writes_with_interrupts_off()) {
            (false, _) => Self::No,
            (true, false) => Self::InterruptsOn,
            (true, true) => Self::InterruptsOff(frames.rebuild_stats().irq_off_last_ns),
        }
    }

    /// Returns how long interrupts were off, in nanoseconds.
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
