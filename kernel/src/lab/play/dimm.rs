//! The DIMM that comes and goes, by the host and the system control interrupt.

use super::super::stage;
use super::{DEADLINE_NS, LOCAL_NODE, NODE, Obstacle, give_back};
use crate::arch::context::Task;
use crate::arch::time;
use crate::hotplug::{self, SlotPhase, SlotView};
use crate::link;
use tidemark_frames::{ZoneId, ZoneKind};
use tidemark_wire::{Ask, LabPoint, Role};

/// The slot of the squeezed node's MOVABLE DIMM, which is the only memory of its zone.
static SLOT: spin::Once<usize> = spin::Once::new();
/// The slot of the NORMAL DIMM of the reader's node, which is the only memory of its zone.
static LOCAL: spin::Once<usize> = spin::Once::new();

/// Returns the slot of the squeezed node's DIMM. The first call finds it, while the DIMM is there.
///
/// # Errors
///
/// Returns an obstacle if the machine has none.
fn slot() -> Result<usize, Obstacle> {
    let movable = ZoneId::new(NODE, ZoneKind::Movable);
    slot_of(movable, &SLOT).ok_or("no MOVABLE DIMM on node 1")
}

fn slot_of(zone: ZoneId, known: &spin::Once<usize>) -> Option<usize> {
    if let Some(&slot) = known.get() {
        return Some(slot);
    }
    let slot = (0..hotplug::MAX_SLOTS).find(|&slot| hotplug::view(slot).zone == Some(zone))?;
    Some(*known.call_once(|| slot))
}

/// Does what [`hotplug()`] does for another DIMM: the only memory of zone NORMAL of the node that
/// the reader's CPU is on.
///
/// # Errors
///
/// Returns an obstacle in the cases of [`hotplug()`].
pub fn hotplug_local(task: &Task, way: Way) -> Result<(), Obstacle> {
    let normal = ZoneId::new(LOCAL_NODE, ZoneKind::Normal);
    let slot = slot_of(normal, &LOCAL).ok_or("no NORMAL DIMM on node 0")?;
    hotplug_slot(task, slot, way)
}

/// How long a removal may take that is to be refused.
const REFUSAL_NS: u64 = 300_000_000;
/// How long any other removal may take.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Makes the host remove the DIMM while the kept frame lives, then frees that frame. If the DIMM
/// stayed, makes the host remove it again. Puts it back in the end. Returns whether the removal was
/// refused. The stage is closed.
///
/// # Errors
///
/// Returns an obstacle if the DIMM does not move, or stays although the frame was freed.
pub fn pull_while_kept(task: &Task) -> Result<bool, Obstacle> {
    let slot = slot()?;
    hotplug::set_deadline_ns(REFUSAL_NS);
    let pulled = hotplug(task, Way::Out);
    hotplug::set_deadline_ns(PATIENCE_NS);
    let obstacle = hotplug::view(slot).obstacle;
    let is_refused = match (pulled, obstacle) {
        (Ok(()), _) => false,
        (Err(_), Some(hotplug::Obstacle::Frame { at, .. })) => {
            stage::note(Role::Writer, LabPoint::PullRefused, at.0);
            true
        }
        (Err(obstacle), _) => return Err(obstacle),
    };
    if !is_refused {
        stage::note(Role::Writer, LabPoint::PullDone, 0);
    }
    if let Some(pfn) = give_back() {
        stage::note(Role::Reader, LabPoint::GivenBack, pfn.0);
    }
    if is_refused {
        hotplug(task, Way::Out)?;
        stage::note(Role::Writer, LabPoint::PullDone, 0);
    }
    hotplug(task, Way::In)?;
    Ok(is_refused)
}

/// The way that the DIMM goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is removed: QMP `device_del`, the system control interrupt, offline, unmapping, eject.
    Out,
    /// It is put back: QMP `device_add`, the system control interrupt, mapping, online.
    In,
}

/// Makes the host remove the DIMM, or put it back, and waits until the hot-plug thread is done with
/// it. In a scenario that thread plays the writer from the request on.
///
/// # Errors
///
/// Returns an obstacle if the host does not answer or refuses, or the DIMM does not come or go.
pub fn hotplug(task: &Task, way: Way) -> Result<(), Obstacle> {
    hotplug_slot(task, slot()?, way)
}

fn hotplug_slot(task: &Task, slot: usize, way: Way) -> Result<(), Obstacle> {
    let before = hotplug::view(slot);
    let dimm = slot as u8;
    let (point, ask) = match way {
        Way::Out => (LabPoint::AsksToPull, Ask::Pull { dimm }),
        Way::In => (LabPoint::AsksToPlug, Ask::Plug { dimm }),
    };
    stage::step(point, 0);
    if stage::is_open()
        && let Some(thread) = hotplug::thread()
    {
        stage::hand_over(Role::Writer, thread);
    }
    let deleted = link::dimm_events(dimm).deleted;
    match link::ask(task, ask) {
        Ok(true) => {}
        Ok(false) => return Err("QEMU refuses to move the DIMM"),
        Err(_) => return Err("the host does not answer"),
    }
    let deadline = time::now_ns() + DEADLINE_NS;
    let is_done = |view: &SlotView| match way {
        Way::Out => view.removals > before.removals,
        Way::In => view.arrivals > before.arrivals || view.phase == SlotPhase::Failed,
    };
    let view =
        hotplug::wait(slot, deadline, is_done, task).map_err(|_| "the DIMM does not move")?;
    match (way, view.phase) {
        (Way::In, SlotPhase::Online) => Ok(()),
        // QEMU forgets the device after the eject; only then can it be put back.
        (Way::Out, SlotPhase::Empty) => {
            let gone = |events: &link::DimmEvents| events.deleted > deleted;
            let (_, confirmed) = link::wait_dimm(task, dimm, deadline, gone);
            confirmed
                .then_some(())
                .ok_or("QEMU does not confirm that the DIMM is gone")
        }
        _ => Err("the DIMM does not move"),
    }
}
