//! The record of a run: the facts on which the verdict is based, with their sources.

use std::collections::VecDeque;
use std::time::Duration;

use tidemark_wire::{BenchResult, LabResult, LabStep, PriceRow, Source, SourceCounts, Totals};

use crate::guest::registers::CpuState;
use crate::guest::watchdog::Hang;

/// Number of lines of the log that a crash report repeats.
pub const TAIL_LINES: usize = 20;

/// The end of the guest's run.
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

/// The message that the guest sent when boot was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    pub cpus: u16,
    pub cpus_left_out: u16,
    pub nodes: u8,
    /// Time since QEMU was started.
    pub after: Duration,
}

/// The counts of the host itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounts {
    /// Removals that the guest asked for.
    pub pulls: u64,
    /// Removals and arrivals that QEMU did not accept.
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

/// Everything that is known of one run.
#[derive(Clone, Debug)]
pub struct Record {
    pub ended: Ended,
    pub qemu_version: Option<String>,
    /// The version of the messages that the guest speaks.
    pub protocol: Option<u16>,
    pub ready: Option<Ready>,
    /// The counts, in the order of [`Source::ALL`].
    pub counts: [Option<SourceCounts>; Source::ALL.len()],
    pub totals: Option<Totals>,
    /// Rows of the benchmark.
    pub bench: Vec<BenchResult>,
    /// Rows of the price.
    pub price: Vec<PriceRow>,
    /// The laboratory's trace, with its finding in the next field.
    pub lab_steps: Vec<LabStep>,
    pub lab: Option<LabResult>,
    pub host: HostCounts,
    /// Number of damaged frames on the wire.
    pub damaged_messages: u64,
    /// CPU and instruction pointer of a panic.
    pub crash: Option<(u16, u64)>,
    /// The line that the kernel printed when it panicked.
    pub panic: Option<String>,
    /// The registers, which QEMU was asked for after a hang or a triple fault.
    pub registers: Vec<CpuState>,
    /// The last lines of the log.
    pub tail: VecDeque<String>,
    pub wall: Duration,
}

impl Record {
    /// Returns an empty record.
    pub fn new() -> Self {
        Record {
            ended: Ended::Interrupted,
            qemu_version: None,
            protocol: None,
            ready: None,
            counts: [None; Source::ALL.len()],
            totals: None,
            bench: Vec::new(),
            price: Vec::new(),
            lab_steps: Vec::new(),
            lab: None,
            host: HostCounts::default(),
            damaged_messages: 0,
            crash: None,
            panic: None,
            registers: Vec::new(),
            tail: VecDeque::new(),
            wall: Duration::ZERO,
        }
    }

    /// Adds a step of the laboratory's trace, which may be sent again.
    pub fn add_lab_step(&mut self, step: LabStep) {
        let place = self
            .lab_steps
            .partition_point(|known| known.order < step.order);
        if self.lab_steps.get(place) != Some(&step) {
            self.lab_steps.insert(place, step);
        }
    }

    /// Returns whether the laboratory's result and every step of its trace have arrived.
    pub fn has_whole_lab(&self) -> bool {
        self.lab.is_some_and(|result| {
            let kept = result.steps - result.dropped.min(result.steps);
            self.lab_steps.len() as u64 == u64::from(kept)
        })
    }

    /// Returns the counts of one source, if the guest sent them.
    pub fn counts_of(&self, source: Source) -> Option<&SourceCounts> {
        let index = Source::ALL.iter().position(|s| *s == source)?;
        self.counts[index].as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_wire::{Hazard, LabContext, LabPoint, LabVerdict, Role, Text};

    fn step(order: u32) -> LabStep {
        LabStep {
            order,
            at_us: 0,
            cpu: 0,
            context: LabContext::Task,
            role: Role::Reader,
            point: LabPoint::Start,
            detail: 0,
        }
    }

    #[test]
    fn a_trace_is_whole_when_each_step_has_come_however_often_it_was_sent() {
        let mut record = Record::new();
        for order in [0, 2, 2, 0] {
            record.add_lab_step(step(order));
        }
        assert!(!record.has_whole_lab());
        record.lab = Some(LabResult {
            hazard: Hazard::H1,
            verdict: LabVerdict::Holds,
            how: Text::new(),
            steps: 5,
            dropped: 2,
            sound: true,
        });
        assert!(!record.has_whole_lab());
        record.add_lab_step(step(1));
        assert!(record.has_whole_lab());
        assert!(record.lab_steps.iter().map(|step| step.order).eq(0..3));
    }
}
