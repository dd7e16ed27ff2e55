//! COM2: the messages between the kernel and its host.

use crate::arch::context::Task;
use tidemark_wire::{Ask, ToHost};

/// Why a request got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// There is no second serial port.
    NoPort,
    /// The host did not answer before the deadline.
    NoAnswer {
        /// How long the request waited, in nanoseconds.
        waited_ns: u64,
    },
}

/// What QEMU has told the host about one DIMM, counted since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DimmEvents {
    /// `DEVICE_DELETED` events.
    pub deleted: u32,
    /// `ACPI_DEVICE_OST` events.
    pub osts: u32,
    /// Source event of the last OST.
    pub last_source: u32,
    /// Status of the last OST.
    pub last_status: u32,
}

/// Looks for the second serial port and says hello; threads need not run yet.
pub fn init() {
    todo!()
}

/// Starts the heartbeat thread and the receiver.
pub fn start(task: &Task) {
    let _ = task;
    todo!()
}

/// Whether a second serial port is there.
pub fn present() -> bool {
    todo!()
}

/// Sends a message; waits only for the port. Without a port it does nothing.
pub fn send(task: &Task, message: &ToHost) {
    let _ = (task, message);
    todo!()
}

/// Asks the host for something and waits for its answer, at most a few seconds.
///
/// # Errors
/// [`LinkError`] if there is nobody to answer. A refusal is an answer: `Ok(false)`.
pub fn ask(task: &Task, ask: Ask) -> Result<bool, LinkError> {
    let _ = (task, ask);
    todo!()
}

/// The events of a DIMM so far.
pub fn dimm_events(dimm: u8) -> DimmEvents {
    let _ = dimm;
    todo!()
}

/// Waits until `done` holds for a DIMM's events or the deadline passes; returns the last state seen, and whether `done` held.
pub fn wait_dimm(
    task: &Task,
    dimm: u8,
    deadline_ns: u64,
    done: impl Fn(&DimmEvents) -> bool,
) -> (DimmEvents, bool) {
    let _ = (task, dimm, deadline_ns, done);
    todo!()
}
