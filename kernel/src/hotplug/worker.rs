//! The hot-plug thread. It looks at the slots and does what they ask for.

use super::board::{self, SlotPhase};
use super::dimm::Dimm;
use super::policy::{self, OnlineSlot};
use super::ports::PortBlock;
use super::slot::{
    MAX_SLOTS, OST_EJECT, OST_INSERTED, STATUS_EJECTING, STATUS_FAILED, STATUS_IN_USE,
    STATUS_SUCCESS, SlotState, Slots,
};
use super::tell::{self, Rebuilt, Voice};
use crate::arch::time::now_ns;
use crate::mm::{machine_nodes, page_cache};
use crate::points;
use crate::{info, options, warn};
use core::sync::atomic::{AtomicU64, Ordering};
use tidemark_sync::Task;
use tidemark_wire::LabPoint;

/// How long a removal may wait for frames that do not move, in nanoseconds. Tests change it.
pub(super) static DEADLINE_NS: AtomicU64 = AtomicU64::new(5_000_000_000);

/// The time that a removal gets for each page that has to be moved: several times what a move takes
/// on a busy host.
const PER_PAGE_NS: u64 = 250_000;

/// The state that only the hot-plug thread uses.
pub(super) struct Worker {
    slots: Slots<PortBlock>,
    dimms: [Option<Dimm>; MAX_SLOTS],
    /// Numbers of events printed in full; later events are details.
    told_pulls: u32,
    told_plugs: u32,
}

impl Worker {
    pub fn new(slots: Slots<PortBlock>) -> Self {
        Self {
            slots,
            dimms: [const { None }; MAX_SLOTS],
            told_pulls: 0,
            told_plugs: 0,
        }
    }

    /// Brings online the DIMMs that are there at boot, which raise no event.
    pub fn probe(&mut self, task: &Task) {
        for slot in 0..MAX_SLOTS {
            let state = self.slots.read(slot);
            if state.flags.enabled() && state.size_bytes > 0 {
                self.arrive(slot, &state, Voice::BOOT, task);
            }
        }
    }

    /// Looks at every slot and does what it asks for.
    pub fn serve(&mut self, task: &Task) {
        for slot in 0..MAX_SLOTS {
            let state = self.slots.read(slot);
            if state.flags.inserted() && self.dimms[slot].is_none() {
                let voice = Voice::next(&mut self.told_plugs);
                self.arrive(slot, &state, voice, task);
            } else if state.flags.inserted() {
                self.slots.clear_inserted(slot);
            }
            if state.flags.removal_asked() {
                self.leave(slot, task);
            }
        }
    }

    fn online(&self) -> [Option<OnlineSlot>; MAX_SLOTS] {
        core::array::from_fn(|slot| {
            let dimm = self.dimms[slot].as_ref().filter(|dimm| dimm.frames() > 0)?;
            Some(OnlineSlot {
                node: dimm.zone.node().0,
                kind: dimm.kind,
            })
        })
    }

    fn arrive(&mut self, slot: usize, state: &SlotState, voice: Voice, task: &Task) {
        points::passed(LabPoint::SlotArrives);
        let announced = state.flags.inserted();
        if announced {
            self.slots.clear_inserted(slot);
        }
        let node = machine_nodes()
            .node_of_proximity(state.proximity)
            .unwrap_or(0);
        let dimm = Dimm::new(state, node, policy::default_policy(node, &self.online()));
        tell::unused(voice, slot, &dimm);
        let began = now_ns();
        let arrived = dimm.arrive(task);
        let took_ns = now_ns() - began;
        let status = match &arrived {
            Ok(stats) => {
                let rebuilt = Rebuilt::last(stats.zone_was_empty);
                tell::arrival(voice, slot, &dimm, took_ns, rebuilt);
                board::change(slot, task, |view| {
                    view.phase = SlotPhase::Online;
                    view.zone = Some(dimm.zone);
                    view.range = (dimm.frames() > 0).then(|| dimm.range());
                    view.size_bytes = dimm.size_bytes;
                    view.arrivals += 1;
                    view.took_ns = took_ns;
                    view.irq_off_ns = rebuilt.irq_off_ns();
                });
                STATUS_SUCCESS
            }
            Err(error) => {
                warn!("dimm{slot} at {state} is not used: {error}");
                board::change(slot, task, |view| {
                    view.phase = SlotPhase::Failed;
                    view.range = None;
                    view.size_bytes = state.size_bytes;
                    view.zone = None;
                });
                STATUS_FAILED
            }
        };
        self.dimms[slot] = arrived.is_ok().then_some(dimm);
        if announced {
            self.slots.report(slot, OST_INSERTED, status);
        }
    }

    fn leave(&mut self, slot: usize, task: &Task) {
        points::passed(LabPoint::SlotLeaves);
        // The event is cleared first, so that a request that comes meanwhile is seen afterwards.
        self.slots.clear_removal(slot);
        board::change(slot, task, |view| view.phase = SlotPhase::Leaving);
        let began = now_ns();
        let left = match &self.dimms[slot] {
            Some(dimm) => {
                let pages = page_cache::resident_in_zone(dimm.zone) as u64;
                let patience_ns = DEADLINE_NS.load(Ordering::Relaxed) + pages * PER_PAGE_NS;
                dimm.leave(began + patience_ns, task)
            }
            None => Ok(Default::default()),
        };
        let took_ns = now_ns() - began;
        match left {
            Ok(stats) => {
                let voice = Voice::next(&mut self.told_pulls);
                let dimm = self.dimms[slot].take();
                // The pages that were moved off the DIMM are compared, and any fault reported,
                // before it is gone for good.
                page_cache::verify_moved(task);
                self.slots.report(slot, OST_EJECT, STATUS_EJECTING);
                if options::get().plant == Some(options::Plant::MissedEject) {
                    warn!("dimm{slot}: eject left out on purpose");
                } else {
                    self.slots.eject(slot);
                }
                board::count_migrated(stats.migrated);
                let rebuilt = Rebuilt::last(stats.zone_emptied);
                if let Some(dimm) = dimm {
                    tell::departure(voice, slot, &dimm, stats.migrated, took_ns, rebuilt);
                }
                board::change(slot, task, |view| {
                    view.phase = SlotPhase::Empty;
                    view.zone = None;
                    view.range = None;
                    view.size_bytes = 0;
                    view.removals += 1;
                    view.migrated = stats.migrated;
                    view.took_ns = took_ns;
                    view.irq_off_ns = rebuilt.irq_off_ns();
                    view.obstacle = None;
                });
            }
            Err(error) => {
                info!(
                    "dimm{slot} stays, refused to the host after {} ms: {error}",
                    took_ns / 1_000_000
                );
                self.slots.report(slot, OST_EJECT, STATUS_IN_USE);
                board::change(slot, task, |view| {
                    view.phase = SlotPhase::Refused;
                    view.removals += 1;
                    view.took_ns = took_ns;
                    view.obstacle = Some(error.obstacle());
                });
            }
        }
    }
}
