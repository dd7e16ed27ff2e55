//! Commands that make the host remove DIMMs and put them back.

use super::memory::{Pages, say};
use crate::arch::{context::Task, time};
use crate::hotplug::{self, Obstacle, SlotPhase};
use crate::link::{self, LinkError};
use tidemark_frames::OwnerKind;
use tidemark_wire::Ask;

/// How long the host, QEMU and the hot-plug thread may take together.
const PATIENCE_NS: u64 = 30_000_000_000;

/// Makes the host remove a DIMM, and prints the result.
pub fn pull(task: &Task, dimm: u8) {
    let slot = usize::from(dimm);
    let (before, events) = (hotplug::view(slot), link::dimm_events(dimm));
    if before.phase == SlotPhase::Empty {
        return say(task, format_args!("dimm{dimm} is not there"));
    }
    if !asked(task, Ask::Pull { dimm }) {
        return;
    }
    let deadline = time::now_ns() + PATIENCE_NS;
    let ended = hotplug::wait(slot, deadline, |view| view.removals > before.removals, task);
    let Ok(view) = ended else {
        return say(task, format_args!("dimm{dimm}: the removal does not end"));
    };
    let ms = view.took_ns / 1_000_000;
    match (view.phase, view.obstacle) {
        (SlotPhase::Empty, _) => {
            let deleted = |now: &link::DimmEvents| now.deleted > events.deleted;
            let confirmed = link::wait_dimm(task, dimm, deadline, deleted).1;
            let by_qemu = if confirmed {
                "confirmed by QEMU"
            } else {
                "but QEMU does not confirm"
            };
            say(
                task,
                format_args!(
                    "dimm{dimm} is gone: {} migrated, {ms} ms, {by_qemu}",
                    Pages(view.migrated)
                ),
            );
        }
        (_, Some(Obstacle::Frame { at, owner })) if owner.kind() == OwnerKind::Test => say(
            task,
            format_args!(
                "dimm{dimm} stays: handle {0} (frame {at}) is in the way, free {0} frees it; {ms} ms",
                owner.number()
            ),
        ),
        (_, Some(Obstacle::Frame { at, owner })) => say(
            task,
            format_args!("dimm{dimm} stays: frame {at} of {owner} is in the way; {ms} ms"),
        ),
        _ => say(task, format_args!("dimm{dimm} stays; {ms} ms")),
    }
}

/// Makes the host put a DIMM back, and prints the result.
pub fn plug(task: &Task, dimm: u8) {
    let slot = usize::from(dimm);
    let before = hotplug::view(slot);
    if before.phase != SlotPhase::Empty {
        return say(task, format_args!("dimm{dimm} is there already"));
    }
    if !asked(task, Ask::Plug { dimm }) {
        return;
    }
    let deadline = time::now_ns() + PATIENCE_NS;
    let came = hotplug::wait(
        slot,
        deadline,
        |view| view.arrivals > before.arrivals || view.phase == SlotPhase::Failed,
        task,
    );
    match came {
        Ok(view) if view.phase == SlotPhase::Online => {
            let pages = Pages(view.range.map_or(0, |range| range.len()));
            let ms = view.took_ns / 1_000_000;
            match view.zone {
                Some(zone) => say(
                    task,
                    format_args!("dimm{dimm} joined {zone}: {pages}, {ms} ms"),
                ),
                None => say(task, format_args!("dimm{dimm} is there, but unused")),
            }
        }
        Ok(_) => say(task, format_args!("dimm{dimm} is not usable")),
        Err(_) => say(task, format_args!("dimm{dimm} does not come online")),
    }
}

/// Asks the host, and prints a line if it refuses. Returns whether it agreed.
fn asked(task: &Task, ask: Ask) -> bool {
    match link::ask(task, ask) {
        Ok(true) => return true,
        Ok(false) => say(task, format_args!("the host refused")),
        Err(LinkError::NoPort) => say(
            task,
            format_args!("no second serial port: nobody to be asked"),
        ),
        Err(LinkError::NoAnswer { .. }) => say(task, format_args!("the host does not answer")),
    }
    false
}
