//! Shows the data of a trace's steps: the wait-for cycle, lists, entries, zones, places.

use tidemark_wire::{LabPoint, LabStep, WaitsFor};

/// Returns why a hang is for ever: each party of the cycle with what it waits for. The result is
/// empty if no CPU hangs.
pub fn wait_for(steps: &[LabStep]) -> Vec<String> {
    steps
        .iter()
        .filter(|step| step.point == LabPoint::WaitsFor)
        .map(|step| WaitsFor::unpack(step.detail).to_string())
        .collect()
}
