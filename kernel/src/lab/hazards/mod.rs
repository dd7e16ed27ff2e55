//! The scenarios, one file a hazard.

mod abba;
mod h1;
mod h2;
mod h2_nmi;
mod h7;
mod h7_hot;
mod h8;

use super::{Finding, play::Obstacle};
use crate::arch::CpuId;
use crate::arch::context::Task;
use crate::arch::percpu;
use tidemark_wire::Hazard;

/// The number of the reader's CPU, which takes COM1's interrupts, too.
const READER_CPU: usize = 0;
/// The number of the writer's CPU.
const WRITER_CPU: usize = 1;
/// The reader's CPU.
const READER: CpuId = CpuId(READER_CPU);
/// The writer's CPU, and the hot-plug thread's.
pub const WRITER: CpuId = CpuId(WRITER_CPU);

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
        Hazard::H2 => h2::run(task),
        Hazard::H2Nmi => h2_nmi::run(task),
        Hazard::H3 => abba::h3(task),
        Hazard::H5Begin => abba::h5_begin(task),
        Hazard::H5End => abba::h5_end(task),
        Hazard::H7 => h7::run(task),
        Hazard::H7Hot => h7_hot::run(task),
        Hazard::H8 => h8::run(task),
    }
}
