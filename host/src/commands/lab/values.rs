//! What the steps of a trace say beyond their names: the wait-for cycle, lists, entries, zones,
//! places.

use tidemark_wire::{LabPoint, LabStep, WaitsFor};

/// Why a hang is for ever: each party of the cycle with what it waits for; empty if nobody hangs.
pub fn wait_for(steps: &[LabStep]) -> Vec<String> {
    steps
        .iter()
        .filter(|step| step.point == LabPoint::WaitsFor)
        .map(|step| WaitsFor::unpack(step.detail).to_string())
        .collect()
}
