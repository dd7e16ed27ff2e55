//! The scenarios, one file a hazard.

mod abba;
mod h1;
mod h10;
mod h2;
mod h7;
mod h7_hot;
mod h8;

use super::Finding;
use super::play::{self, Obstacle, Way};
use super::schedule::{Want, want};
use super::stage;
use crate::arch::CpuId;
use crate::arch::context::Task;
use crate::arch::percpu;
use tidemark_wire::{Hazard, LabContext, LabPoint, Role};

/// The number of the reader's CPU, which takes COM1's interrupts, too.
const READER_CPU: usize = 0;
/// The number of the writer's CPU.
const WRITER_CPU: usize = 1;
/// The reader's CPU.
const READER: CpuId = CpuId(READER_CPU);
/// The writer's CPU, and the hot-plug thread's.
pub const WRITER: CpuId = CpuId(WRITER_CPU);

/// A step of the reader, in a task.
const fn reader(point: LabPoint) -> Want {
    want(Role::Reader, point)
        .on(READER_CPU)
        .within(LabContext::Task)
}

/// A step of the writer: of the hot-plug thread, or of the scenario's own.
const fn writer(point: LabPoint) -> Want {
    want(Role::Writer, point)
        .on(WRITER_CPU)
        .within(LabContext::Task)
}

/// Plays the writer that makes the host plug the DIMM, from its start on.
fn plug(task: &Task, _: usize) {
    stage::play_as(Role::Writer);
    stage::step(LabPoint::Start, 0);
    // The trace shows the result. From the asking on the hot-plug thread plays the role.
    let _ = play::hotplug(task, Way::In);
}

/// The feeder's CPU: the last one, which is on the squeezed node.
fn feeder() -> CpuId {
    percpu::online().last().unwrap_or(WRITER)
}

/// Runs a hazard's scenario.
///
/// # Errors
///
/// The machine is not the one that the scenario needs, or a role did not end.
pub fn run(task: &Task, hazard: Hazard) -> Result<Finding, Obstacle> {
    if percpu::online_count() < 2 {
        return Err("a scenario needs two CPUs");
    }
    match hazard {
        Hazard::H1 => h1::run(task),
        Hazard::H2 => h2::by_irq(task),
        Hazard::H2Nmi => h2::by_nmi(task),
        Hazard::H3 => abba::h3(task),
        Hazard::H5Begin => abba::h5_begin(task),
        Hazard::H5End => abba::h5_end(task),
        Hazard::H7 => h7::run(task),
        Hazard::H7Hot => h7_hot::run(task),
        Hazard::H8 => h8::run(task),
        Hazard::H10 => h10::run(task),
    }
}
