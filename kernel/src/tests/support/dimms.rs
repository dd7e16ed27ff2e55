//! Pulling DIMMs out and putting them back, through the host.

use super::{
    SOON_NS,
    frames::{Block, Pile},
    host,
};
use crate::{
    arch::{context::Task, time},
    hotplug::{self, MAX_SLOTS, SlotPhase, SlotView},
    link::{self, DimmEvents},
    mm,
};
use tidemark_frames::{Order, Owner, PfnRange, ZoneId};
use tidemark_sync::ContextKind;
use tidemark_wire::Ask;

/// OST of a removal: the source event, and what the guest says when it ejects or refuses.
pub const OST_EJECT: u32 = 3;
/// Ejection under way.
pub const OST_EJECTING: u32 = 0x84;
/// Refused: in use.
pub const OST_IN_USE: u32 = 0x81;
/// OST of an insertion.
pub const OST_INSERTED: u32 = 1;

/// How long the host and QEMU may take for their part.
const HOST_NS: u64 = 5 * SOON_NS;

/// A DIMM in use.
#[derive(Clone, Copy, Debug)]
pub struct Dimm {
    /// Its slot, which is its number at the host.
    pub slot: usize,
    /// Its frames.
    pub range: PfnRange,
    /// Their zone.
    pub zone: ZoneId,
}

impl Dimm {
    /// Where it stands now.
    pub fn view(&self) -> SlotView {
        hotplug::view(self.slot)
    }

    /// What QEMU has told the host about it.
    pub fn events(&self) -> DimmEvents {
        link::dimm_events(self.slot as u8)
    }

    fn ask(&self, task: &Task, ask: Ask) -> Result<(), &'static str> {
        match host::ask(task, ask) {
            Ok(true) => Ok(()),
            Ok(false) => Err("QEMU refused what was asked"),
            Err(_) => Err("the host does not answer"),
        }
    }

    /// Asks the host to pull it, and does not wait for what comes of it.
    pub fn ask_for(&self, task: &Task) -> Result<(), &'static str> {
        self.ask(
            task,
            Ask::Pull {
                dimm: self.slot as u8,
            },
        )
    }

    /// Waits until one more removal than `before` has ended.
    pub fn wait_removal(&self, task: &Task, before: &SlotView) -> Result<SlotView, &'static str> {
        let deadline = time::now_ns() + HOST_NS;
        hotplug::wait(
            self.slot,
            deadline,
            |view| view.removals > before.removals,
            task,
        )
        .map_err(|_| "the removal does not end")
    }

    /// Waits until the host has seen what `seen` tells of.
    pub fn wait_events(
        &self,
        task: &Task,
        seen: impl Fn(&DimmEvents) -> bool,
    ) -> Result<DimmEvents, DimmEvents> {
        let deadline = time::now_ns() + HOST_NS;
        match link::wait_dimm(task, self.slot as u8, deadline, seen) {
            (events, true) => Ok(events),
            (events, false) => Err(events),
        }
    }

    /// Has it pulled, and waits until QEMU has confirmed with DEVICE_DELETED.
    pub fn pull(&self, task: &Task) -> Result<SlotView, &'static str> {
        let (view, events) = (self.view(), self.events());
        self.ask_for(task)?;
        let gone = self.wait_removal(task, &view)?;
        if gone.phase != SlotPhase::Empty {
            return Err("the removal was refused");
        }
        self.wait_events(task, |now| now.deleted > events.deleted)
            .map_err(|_| "no DEVICE_DELETED came")?;
        Ok(gone)
    }

    /// Has it put back, and waits until it is online.
    pub fn plug(&self, task: &Task) -> Result<SlotView, &'static str> {
        let (before, events) = (self.view(), self.events());
        self.ask(
            task,
            Ask::Plug {
                dimm: self.slot as u8,
            },
        )?;
        let deadline = time::now_ns() + HOST_NS;
        let online = |view: &SlotView| view.arrivals > before.arrivals;
        let view = hotplug::wait(self.slot, deadline, online, task)
            .map_err(|_| "it does not come online")?;
        self.wait_events(task, |now| now.osts > events.osts)
            .map_err(|_| "no OST was seen")?;
        Ok(view)
    }

    /// Takes a block that lies in the DIMM, whatever the watermarks. The owner decides whether an
    /// offline waits for it.
    pub fn block(&self, order: Order, owner: Owner) -> Option<Block> {
        // The zone may have other memory: what is not of the DIMM is put aside.
        let mut aside = Pile::new();
        loop {
            let block =
                mm::frames().alloc_in_zone(ContextKind::Task, self.zone, Order::MAX, owner)?;
            if !self.range.contains(block.pfn()) {
                aside.push(block);
                continue;
            }
            let mut block = block;
            while block.order() > order {
                let (low, _) = block.split().ok()?;
                block = low;
            }
            return Some(block);
        }
    }
}

/// The DIMMs that are in use.
pub fn online() -> impl Iterator<Item = Dimm> {
    (0..MAX_SLOTS).filter_map(|slot| {
        let view = hotplug::view(slot);
        let usable = matches!(view.phase, SlotPhase::Online | SlotPhase::Refused);
        Some(Dimm {
            slot,
            range: view.range.filter(|range| usable && !range.is_empty())?,
            zone: view.zone?,
        })
    })
}

/// Why hot-plug tests cannot run on this machine, if they cannot.
pub fn missing() -> Option<&'static str> {
    if online().next().is_none() {
        Some(crate::tests::NO_DIMM)
    } else {
        host::missing()
    }
}
