//! The waits between the parties: each waits for something that the other holds. They wait for ever
//! if their waits close a cycle. The search for one runs when the watchdog has found a CPU to hang,
//! and when a request goes round.

use super::{
    play,
    stage::{self, TRACE},
};
use crate::arch::CpuId;
use crate::{mm, watchdog};
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering::*};
use tidemark_wire::{Awaited, LabContext, LabPoint, Party, Role, WaitsFor};

use super::How;

/// Whether a cycle was found. The first CPU that finds one writes it down.
static FOUND: AtomicBool = AtomicBool::new(false);
/// Whether the cycle is in the trace.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Returns what the reader waits for: an even counter, which the writer's party will make.
fn of_reader(awaited: Awaited) -> Option<WaitsFor> {
    let counter = mm::frames().rebuild_counter();
    let (waiter, holder) = (
        stage::whereabouts(Role::Reader)?,
        stage::whereabouts(Role::Writer)?,
    );
    let is_waiting = awaited != Awaited::Even || stage::is_at((Role::Reader, LabPoint::Spins));
    // Only the writer rebuilds, so an odd counter is its own.
    (counter % 2 == 1 && is_waiting).then_some(WaitsFor {
        waiter,
        awaited,
        holder,
        counter,
    })
}

/// Returns what the writer waits for that the reader has; nothing if the writer goes on.
fn of_writer() -> Option<WaitsFor> {
    let (waiter, holder) = (
        stage::whereabouts(Role::Writer)?,
        stage::whereabouts(Role::Reader)?,
    );
    let is_interrupted = waiter.cpu == holder.cpu
        && waiter.context == LabContext::Task
        && holder.context != LabContext::Task;
    let count = |role, point| stage::count((role, point));
    let reader_has_port =
        count(Role::Reader, LabPoint::PortLocked) > count(Role::Reader, LabPoint::PortFreed);
    let wants_port = stage::is_at((Role::Writer, LabPoint::PortWanted));
    let awaited = if is_interrupted {
        Awaited::ItsCpu
    } else if wants_port && reader_has_port {
        Awaited::Port
    } else {
        return None;
    };
    Some(WaitsFor {
        waiter,
        awaited,
        holder,
        counter: mm::frames().rebuild_counter(),
    })
}

/// Writes a cycle down, once.
fn close(edges: [WaitsFor; 2]) {
    if !FOUND.swap(true, AcqRel) {
        for edge in edges {
            stage::note(Role::Watchdog, LabPoint::WaitsFor, edge.pack());
        }
        // Release pairs with the Acquire in `hang_is_for_ever`: no wait ends before its cycle is
        // written.
        CLOSED.store(true, Release);
    }
}

/// Returns whether the CPUs that were found to hang wait for each other in a cycle. The cycle is
/// then in the trace, and their waits may end. Any context may call it.
pub fn hang_is_for_ever() -> bool {
    let cycle = || {
        let edges = [of_reader(Awaited::Even)?, of_writer()?];
        let is_found = |party: Party| watchdog::found(CpuId(usize::from(party.cpu))).is_some();
        edges
            .iter()
            .all(|edge| is_found(edge.waiter))
            .then_some(edges)
    };
    if let Some(edges) = cycle() {
        close(edges);
    }
    CLOSED.load(Acquire)
}

/// Checks whether a request that has begun `begins` times goes round for ever. If so, it notes that
/// in the trace, and frees the scenario's spare memory to end it. Any context may call it.
pub fn look_at_rounds(begins: u32) {
    let cycle = || Some([of_reader(Awaited::EvenByRounds)?, of_writer()?]);
    if let Some(edges) = cycle() {
        stage::note(Role::Reader, LabPoint::GoesRound, begins.into());
        close(edges);
        let frames = play::free_spare();
        stage::note(Role::Reader, LabPoint::MemoryFreed, frames);
    }
}

/// Returns the cycle of the trace in words; nothing if there is none.
pub fn cycle() -> Option<How> {
    let mut how: Option<How> = None;
    for step in TRACE.steps() {
        if step.point == LabPoint::WaitsFor {
            let edge = WaitsFor::unpack(step.detail);
            let how = how.get_or_insert_default();
            let comma = if how.as_str().is_empty() { "" } else { "; " };
            // The text cuts what does not fit and never fails.
            let _ = write!(how, "{comma}{edge}");
        }
    }
    how
}
