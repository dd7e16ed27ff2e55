//! What is known of a run, by whom: the facts that the verdict is built on.

use std::collections::VecDeque;
use std::time::Duration;

use tidemark_wire::{BenchResult, LabResult, LabStep, Source, SourceCounts, Totals};

use crate::diagnose::CpuState;
use crate::watchdog::Hang;

/// Lines of the log that a crash report repeats.
pub const TAIL_LINES: usize = 20;

/// How the guest's run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The guest wrote this value to `isa-debug-exit`.
    Exit(u32),
    /// The machine was reset: a triple fault.
    Reset,
    /// The watchdog gave up.
    Hung(Hang),
    /// QEMU ended on its own.
    Qemu { how: String, words: String },
    /// The user ended the run.
    Interrupted,
}

/// What the guest said when boot was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    pub cpus: u16,
    pub cpus_left_out: u16,
    pub nodes: u8,
    /// Since QEMU was started.
    pub after: Duration,
}

/// What the host itself counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounts {
    /// Pulls that the guest asked for.
    pub pulls: u64,
    /// Pulls and plugs that QEMU did not accept.
    pub refused_by_qemu: u64,
    /// DIMMs put back.
    pub plugs: u64,
    /// QEMU's `DEVICE_DELETED` events.
    pub device_deleted: u64,
    /// OST events that accept an inserted DIMM.
    pub ost_inserted: u64,
    /// OST events that announce an eject.
    pub ost_ejecting: u64,
    /// OST events that refuse a removal.
    pub ost_refused: u64,
    /// NMIs injected.
    pub nmis: u64,
    /// Bytes typed into COM1.
    pub typed: u64,
    /// Exits by `isa-debug-exit`.
    pub guest_exits: u64,
}

/// Everything known of one run.
#[derive(Clone, Debug)]
pub struct Record {
    pub ended: Ended,
    pub qemu_version: Option<String>,
    /// Version of the messages that the guest speaks.
    pub protocol: Option<u16>,
    pub ready: Option<Ready>,
    /// By [`Source::ALL`]'s order.
    pub counts: [Option<SourceCounts>; Source::ALL.len()],
    pub totals: Option<Totals>,
    /// Rows of the benchmark.
    pub bench: Vec<BenchResult>,
    /// The laboratory's trace, and what it found.
    pub lab_steps: Vec<LabStep>,
    pub lab: Option<LabResult>,
    pub host: HostCounts,
    /// Frames on the wire that were damaged.
    pub damaged_messages: u64,
    /// CPU and instruction pointer of a panic.
    pub crash: Option<(u16, u64)>,
    /// What the kernel said when it panicked.
    pub panic: Option<String>,
    /// Registers, asked of QEMU after a hang or a triple fault.
    pub registers: Vec<CpuState>,
    /// The last lines of the log.
    pub tail: VecDeque<String>,
    pub wall: Duration,
}

impl Record {
    /// The counts of one source, if the guest sent them.
    pub fn counts_of(&self, source: Source) -> Option<&SourceCounts> {
        let index = Source::ALL.iter().position(|s| *s == source)?;
        self.counts[index].as_ref()
    }
}
