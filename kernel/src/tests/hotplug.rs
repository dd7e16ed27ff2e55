//! Memory leaves and comes back: through the host, QEMU, the interrupt and the hot-plug thread.

mod load;

use super::support::{
    MS, SOON_NS,
    dimms::{self, Dimm, OST_EJECT, OST_EJECTING, OST_IN_USE, OST_INSERTED},
    ensure, eventually,
    everywhere::call_everywhere,
    frames::{OWNER, Pile, quiet, sign, take_down, unsigned},
    tests, walk, want,
};
use crate::{
    arch::{
        context::{HardIrq, Task},
        cpu_id, exceptions,
        paging::phys_to_virt,
        percpu, time,
    },
    hotplug::{self, Obstacle, SlotPhase},
    mm::{self, page_cache},
    selftest::{Group, Outcome, Report},
};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use load::dimms_leave_and_return_under_load;
use tidemark_frames::{
    FrameState, ListKind, OfflineError, Order, Owner, OwnerKind, ZoneId, ZoneInfo, ZoneKind,
};

/// The group.
pub const GROUP: Group = Group {
    name: "hotplug",
    tests: tests![
        an_emptied_zone_leaves_the_lists_and_returns_to_them,
        a_refused_offline_leaves_everything_as_it_was,
        each_dimm_leaves_and_comes_back,
        pages_survive_the_removal_of_their_dimm,
        a_removal_is_refused_while_an_unmovable_frame_is_held,
        a_removal_waits_for_short_lived_frames,
        dimms_leave_and_return_under_load,
    ],
};

/// How long a removal may take by default; tests that shorten it set it back.
const DEADLINE_NS: u64 = 5_000 * MS;
const TAG: u64 = 0x6469_6d6d;

/// Whether the lists of all nodes name a zone.
fn listed(zone: ZoneId) -> bool {
    mm::nodes_with_lists().all(|node| {
        let list = mm::frames().zonelist(node, ListKind::Fallback);
        list.iter().any(|listed| listed == zone)
    })
}

/// Whether the lists of no node name a zone.
fn unlisted(zone: ZoneId) -> bool {
    mm::nodes_with_lists().all(|node| {
        let list = mm::frames().zonelist(node, ListKind::Fallback);
        list.iter().all(|listed| listed != zone)
    })
}

/// Whether a DIMM's frames are all that its zone has.
fn alone_in_its_zone(dimm: &Dimm) -> bool {
    mm::frames().zone_info(dimm.zone).managed == dimm.range.len()
}

fn an_emptied_zone_leaves_the_lists_and_returns_to_them(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    let frames = mm::frames();
    let Some(dimm) = dimms::online().find(alone_in_its_zone) else {
        return Outcome::Skip(super::NO_DIMM);
    };
    let rebuilds = frames.rebuild_stats().count;
    let left = frames.offline_range(dimm.range, time::now_ns() + DEADLINE_NS, task);
    let gone = unlisted(dimm.zone);
    let back = frames.online_range(dimm.range, dimm.zone, task);
    let left = want!(report, left, "{}: {left:?}", dimm.zone);
    let back = want!(report, back, "{}: {back:?}", dimm.zone);
    ensure!(
        report,
        left.zone_emptied && left.frames == dimm.range.len(),
        "{left:?}"
    );
    ensure!(report, gone, "{} was listed while it was empty", dimm.zone);
    ensure!(
        report,
        back.zone_was_empty && back.frames == left.frames,
        "{back:?}"
    );
    ensure!(
        report,
        listed(dimm.zone),
        "{} is not listed again",
        dimm.zone
    );
    let count = frames.rebuild_stats().count - rebuilds;
    ensure!(report, count == 2, "{count} rebuilds");
    Outcome::Pass
}

/// What must be the same before and after a refusal; free frames may differ by those in caches.
fn same(before: &ZoneInfo, after: &ZoneInfo) -> bool {
    let settled = |zone: &ZoneInfo| ZoneInfo {
        free: 0,
        cached: 0,
        ..*zone
    };
    let all = |zone: &ZoneInfo| zone.free + zone.cached;
    settled(before) == settled(after) && all(before).abs_diff(all(after)) <= 64
}

fn a_refused_offline_leaves_everything_as_it_was(task: &Task, report: &mut Report) -> Outcome {
    let frames = mm::frames();
    if dimms::online().next().is_none() {
        return Outcome::Skip(super::NO_DIMM);
    }
    page_cache::drop_all(task);
    for dimm in dimms::online() {
        let held = dimm.block(Order::ZERO, OWNER);
        let held = want!(report, held, "no frame of dimm{}", dimm.slot);
        sign(&held, TAG);
        frames.drain_all(task);
        let before = frames.zone_info(dimm.zone);
        let rebuilds = frames.rebuild_stats().count;
        let refused = frames.offline_range(dimm.range, time::now_ns() + 20 * MS, task);
        let after = frames.zone_info(dimm.zone);
        let expected = OfflineError::Unmovable {
            at: held.pfn(),
            owner: OWNER,
        };
        ensure!(
            report,
            refused == Err(expected),
            "{refused:?}, not {expected:?}"
        );
        ensure!(report, same(&before, &after), "{before:?} became {after:?}");
        ensure!(report, listed(dimm.zone), "{} is not listed", dimm.zone);
        ensure!(
            report,
            frames.rebuild_stats().count == rebuilds,
            "the lists were rebuilt"
        );
        ensure!(
            report,
            unsigned(&held, TAG).is_none(),
            "the frame was written to"
        );
        let other = want!(
            report,
            dimm.block(Order::ZERO, OWNER),
            "no other frame to be had"
        );
        ensure!(
            report,
            other.pfn() != held.pfn(),
            "the held frame was given away"
        );
    }
    Outcome::Pass
}

static READABLE: AtomicU64 = AtomicU64::new(0);

fn probe(_: &HardIrq, address: usize) {
    let bit = percpu::mask_of(cpu_id());
    match exceptions::probe_read(address as u64) {
        Some(_) => READABLE.fetch_or(bit, SeqCst),
        None => READABLE.fetch_and(!bit, SeqCst),
    };
}

/// The CPUs that can read the DIMM's first and last frame through the direct map.
fn readable_on(dimm: &Dimm, task: &Task) -> u64 {
    let last = dimm.range.end.address() - 4096;
    [dimm.range.start.address(), last]
        .into_iter()
        .map(|physical| {
            call_everywhere(probe, phys_to_virt(physical) as usize, task);
            READABLE.load(SeqCst)
        })
        .fold(0, |all, readable| all | readable)
}

fn each_dimm_leaves_and_comes_back(task: &Task, report: &mut Report) -> Outcome {
    if let Some(reason) = dimms::missing() {
        return Outcome::Skip(reason);
    }
    for dimm in dimms::online() {
        let slot = dimm.slot;
        let (emptied, events) = (alone_in_its_zone(&dimm), dimm.events());
        let all = percpu::online_mask();
        let readable = readable_on(&dimm, task);
        ensure!(
            report,
            readable == all,
            "dimm{slot}: mapped on CPUs {readable:#x} only"
        );
        if let Err(why) = dimm.pull(task) {
            report.note(format_args!("dimm{slot}: {why}"));
            return Outcome::Fail;
        }
        let readable = readable_on(&dimm, task);
        let mapped = walk::lookup(phys_to_virt(dimm.range.start.address()) as u64);
        let pulled = dimm.events();
        let state = mm::frames().frame_state(dimm.range.start);
        let gone = !emptied || unlisted(dimm.zone);
        let plugged = dimm.plug(task);
        if let Err(why) = plugged {
            report.note(format_args!("dimm{slot}: {why}"));
            return Outcome::Fail;
        }
        ensure!(
            report,
            readable == 0,
            "dimm{slot}: CPUs {readable:#x} read it after its removal"
        );
        ensure!(
            report,
            mapped.is_none(),
            "dimm{slot}: mapped after its removal: {mapped:x?}"
        );
        ensure!(
            report,
            !matches!(state, FrameState::Allocated { .. }),
            "{state:?}"
        );
        ensure!(report, gone, "{} was listed while it was empty", dimm.zone);
        ensure!(
            report,
            (pulled.deleted, pulled.last_source, pulled.last_status)
                == (events.deleted + 1, OST_EJECT, OST_EJECTING),
            "dimm{slot}: {events:?} became {pulled:?}"
        );
        let back = dimm.events();
        ensure!(
            report,
            (back.last_source, back.last_status) == (OST_INSERTED, 0),
            "dimm{slot}: {back:?}"
        );
        let again = dimms::online().find(|online| online.slot == slot);
        let again = want!(report, again, "dimm{slot} is not online again");
        ensure!(
            report,
            again.range == dimm.range && again.zone == dimm.zone,
            "{dimm:?} became {again:?}"
        );
        ensure!(
            report,
            listed(dimm.zone),
            "{} is not listed again",
            dimm.zone
        );
        let readable = readable_on(&dimm, task);
        ensure!(
            report,
            readable == all,
            "dimm{slot}: mapped on CPUs {readable:#x} only"
        );
        let block = want!(
            report,
            dimm.block(Order::HUGE, OWNER),
            "dimm{slot} gives no frame"
        );
        sign(&block, TAG);
        ensure!(
            report,
            unsigned(&block, TAG).is_none(),
            "dimm{slot} does not keep what is written"
        );
    }
    Outcome::Pass
}

/// Pages that [`pages_in`] puts into a DIMM.
const PAGES: u32 = 256;

/// Reads pages while no zone has memory to spare but the DIMM's. Returns how many of them it holds.
fn pages_in(dimm: &Dimm, task: &Task) -> usize {
    quiet(task);
    let mut elsewhere = Pile::new();
    for zone in mm::frames().zones().filter(|zone| zone.id != dimm.zone) {
        let unwanted = zone.low + zone.reserve[ZoneKind::Movable as usize];
        take_down(zone.id, unwanted, &mut elsewhere);
    }
    // The zone may have other memory, too: all of it, and then the DIMM's back.
    let mut zone = Pile::new();
    take_down(dimm.zone, 0, &mut zone);
    while let Some(block) = zone.pop() {
        if !dimm.range.contains(block.pfn()) {
            elsewhere.push(block);
        }
    }
    (0..PAGES.min(page_cache::pages()))
        .filter(|&page| page_cache::read(page, task).is_ok())
        .filter_map(page_cache::frame_of)
        .filter(|&pfn| dimm.range.contains(pfn))
        .count()
}

fn pages_survive_the_removal_of_their_dimm(task: &Task, report: &mut Report) -> Outcome {
    if let Some(reason) = dimms::missing() {
        return Outcome::Skip(reason);
    }
    for dimm in dimms::online() {
        let slot = dimm.slot;
        let there = pages_in(&dimm, task);
        ensure!(report, there > 0, "dimm{slot} holds no page");
        let resident = page_cache::resident();
        let pulled = dimm.pull(task);
        let verified = page_cache::verify_all(task);
        let plugged = dimm.plug(task);
        if let Err(why) = pulled.and(plugged) {
            report.note(format_args!("dimm{slot}: {why}"));
            return Outcome::Fail;
        }
        let migrated = pulled.map_or(0, |view| view.migrated);
        ensure!(
            report,
            migrated == there as u64,
            "dimm{slot}: {there} pages there, {migrated} moved"
        );
        ensure!(
            report,
            verified.corrupted == 0 && verified.checked == resident as u64,
            "{resident} pages before, then {verified:?}"
        );
    }
    Outcome::Pass
}

fn a_removal_is_refused_while_an_unmovable_frame_is_held(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    if let Some(reason) = dimms::missing() {
        return Outcome::Skip(reason);
    }
    page_cache::drop_all(task);
    for dimm in dimms::online() {
        let slot = dimm.slot;
        let held = want!(
            report,
            dimm.block(Order::ZERO, OWNER),
            "no frame of dimm{slot}"
        );
        sign(&held, TAG);
        mm::frames().drain_all(task);
        let (view, events) = (dimm.view(), dimm.events());
        let before = mm::frames().zone_info(dimm.zone);
        hotplug::set_deadline_ns(100 * MS);
        let refused = dimm
            .ask_for(task)
            .and_then(|()| dimm.wait_removal(task, &view));
        hotplug::set_deadline_ns(DEADLINE_NS);
        let after = mm::frames().zone_info(dimm.zone);
        let refused = match refused {
            Ok(view) => view,
            Err(why) => {
                report.note(format_args!("dimm{slot}: {why}"));
                return Outcome::Fail;
            }
        };
        let obstacle = Obstacle::Frame {
            at: held.pfn(),
            owner: OWNER,
        };
        ensure!(
            report,
            refused.phase == SlotPhase::Refused,
            "dimm{slot}: {refused:?}"
        );
        ensure!(
            report,
            refused.obstacle == Some(obstacle),
            "dimm{slot}: {refused:?}"
        );
        ensure!(
            report,
            (100 * MS..100 * MS + SOON_NS).contains(&refused.took_ns),
            "dimm{slot}: refused after {} ms",
            refused.took_ns / MS
        );
        let told = dimm.wait_events(task, |now| now.osts > events.osts);
        let told = want!(report, told, "dimm{slot}: {told:?}");
        ensure!(
            report,
            (told.last_source, told.last_status, told.deleted)
                == (OST_EJECT, OST_IN_USE, events.deleted),
            "dimm{slot}: {told:?}"
        );
        ensure!(report, same(&before, &after), "{before:?} became {after:?}");
        ensure!(
            report,
            unsigned(&held, TAG).is_none(),
            "dimm{slot}: the frame was written to"
        );
        drop(held);
        if let Err(why) = dimm.pull(task).and_then(|_| dimm.plug(task)) {
            report.note(format_args!("dimm{slot}, its frame given back: {why}"));
            return Outcome::Fail;
        }
    }
    Outcome::Pass
}

fn a_removal_waits_for_short_lived_frames(task: &Task, report: &mut Report) -> Outcome {
    if let Some(reason) = dimms::missing() {
        return Outcome::Skip(reason);
    }
    page_cache::drop_all(task);
    let interrupt = Owner::new(OwnerKind::Interrupt, 1);
    for (dimm, owner) in dimms::online().zip([interrupt, Owner::NONE]) {
        let slot = dimm.slot;
        let held = want!(
            report,
            dimm.block(Order::ZERO, owner),
            "no frame of dimm{slot}"
        );
        let (view, events) = (dimm.view(), dimm.events());
        let asked = dimm.ask_for(task);
        let leaving = eventually(task, SOON_NS, || dimm.view().phase == SlotPhase::Leaving);
        // Some scans of the range find the frame in the way.
        let early = eventually(task, 30 * MS, || dimm.view().removals > view.removals);
        drop(held);
        let left = asked.and_then(|()| dimm.wait_removal(task, &view));
        let gone = matches!(&left, Ok(view) if view.phase == SlotPhase::Empty);
        let deleted = !gone
            || dimm
                .wait_events(task, |now| now.deleted > events.deleted)
                .is_ok();
        let back = if gone {
            dimm.plug(task).map(drop)
        } else {
            Ok(())
        };
        ensure!(
            report,
            leaving && !early,
            "dimm{slot}: it did not wait: {left:?}"
        );
        ensure!(report, gone && deleted, "dimm{slot}: {left:?}");
        ensure!(report, back.is_ok(), "dimm{slot}: {back:?}");
    }
    Outcome::Pass
}
