//! Makes memory scarce while lists are rebuilt, so that requests reach the slow path.
//!
//! Every zone that atomic requests may use is held between its MIN and LOW watermarks. Under uneven
//! pressure one zone is, and the others have nothing to give. Where a request that may reclaim is
//! held over the rebuild, the other zones of its node are too low for it.

use crate::arch::{context::Task, time};
use crate::mm::{self, Pile, unmovable};
use crate::options::{self, Pressure};
use crate::thread;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use tidemark_frames::{MAX_ZONES, NodeId, Owner, OwnerKind, ZoneId, ZoneInfo, ZoneKind};

/// How often the balloon looks at the zones while it is wanted.
const LOOK_EVERY_NS: u64 = 500_000;
/// Free frames of a zone that has nothing to give: some, so that the balloon need not hunt for
/// each.
const NEXT_TO_NOTHING: u64 = 24;
/// More than what one reclaim for a single frame frees.
const RECLAIM_BATCH: u64 = 64;

/// Whether the balloon is wanted. Written by the demonstration and by its hook at the schedule
/// points; read by the balloon's thread.
static WANTED: AtomicBool = AtomicBool::new(false);
/// Set by the balloon's thread while every zone is where it is wanted. Release/Acquire with the
/// waiters: what the thread did to the zones has happened.
static TIGHT: AtomicBool = AtomicBool::new(false);
/// Number of squeezes; counted before one begins.
static SQUEEZES: AtomicU32 = AtomicU32::new(0);
/// Cleared when the squeeze begins, set by the balloon's thread once it holds nothing any more.
static RELEASED: AtomicBool = AtomicBool::new(true);
/// Set when the thread is to end.
static OVER: AtomicBool = AtomicBool::new(false);
/// Under uneven pressure, the index of the one zone that has memory. Written once, before the
/// thread is started.
static KEEPER: AtomicU32 = AtomicU32::new(0);
/// Index of the zone for the request that is held over the rebuild, plus one; 0 if there is none.
/// Written before a squeeze is asked for.
static PROBED: AtomicU32 = AtomicU32::new(0);

/// What a squeeze leaves a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// Between MIN and LOW: the fast path passes it over, the slow path does not.
    BetweenMinAndLow,
    /// Below MIN, and above what atomic requests may go down to.
    ForAtomicOnly,
    /// Less than any request may go down to.
    Nothing,
}

/// The highest zone of a node that unmovable requests may use.
pub fn highest_unmovable(node: NodeId) -> Option<ZoneId> {
    let zones = mm::frames().zones().map(|zone| zone.id);
    let ours = |zone: &ZoneId| zone.node() == node && unmovable(*zone);
    zones.filter(ours).last()
}

/// Chooses the zone that has memory under uneven pressure: one that moves to the front of its
/// node's list when the movable memory there leaves. Once, before anything else.
pub fn init() {
    let zones = || mm::frames().zones().map(|zone| zone.id);
    let movable = zones().find(|zone| zone.kind() == ZoneKind::Movable);
    let node = movable.or(zones().last()).map(ZoneId::node);
    if let Some(zone) = node.and_then(highest_unmovable) {
        KEEPER.store(zone.index() as u32, Relaxed);
    }
}

fn level(zone: ZoneId) -> Level {
    let probed = (PROBED.load(Relaxed) as usize).checked_sub(1);
    let probed = probed.map(ZoneId::from_index);
    if options::get().pressure == Pressure::Uneven {
        if KEEPER.load(Relaxed) == zone.index() as u32 {
            Level::BetweenMinAndLow
        } else {
            Level::Nothing
        }
    } else if probed.is_some_and(|probed| probed.node() == zone.node() && probed != zone) {
        Level::ForAtomicOnly
    } else {
        Level::BetweenMinAndLow
    }
}

/// The zone in which a request that may reclaim finds memory alone while it is held over a rebuild
/// on this node: the highest. Nothing if another zone is so small that a batch of reclaim brings it
/// back from below MIN.
pub fn zone_to_probe(node: NodeId) -> Option<ZoneId> {
    let keeper = highest_unmovable(node)?;
    let is_other = |zone: &ZoneInfo| {
        let id = zone.id;
        id.node() == node && unmovable(id) && id != keeper
    };
    let mut others = mm::frames().zones().filter(is_other);
    let fits = others.all(|zone| {
        let (_, most, _) = window(&zone, Level::ForAtomicOnly);
        let min = zone.min + zone.reserve[ZoneKind::Normal as usize];
        min > most + RECLAIM_BATCH
    });
    fits.then_some(keeper)
}

/// Frames that may be under way to the checkers: what the zones that have memory have between their
/// watermarks, halved, so that it cannot by itself take them from LOW to MIN.
pub fn share_of_handlers() -> u64 {
    let usable = |zone: &ZoneInfo| unmovable(zone.id) && level(zone.id) == Level::BetweenMinAndLow;
    let zones = mm::frames().zones().filter(usable);
    zones.map(|zone| zone.low - zone.min).sum::<u64>() / 2
}

/// Has the balloon look at every zone once more before [`is_tight`] is true again. Task context.
pub fn look_again() {
    TIGHT.store(false, Release);
}

/// Asks for the squeeze, and that a request which is held over the rebuild finds memory in one zone
/// of its node only; [`is_tight`] says when it is there. Any context.
pub fn squeeze(probed: Option<ZoneId>) {
    PROBED.store(probed.map_or(0, |zone| zone.index() as u32 + 1), Relaxed);
    SQUEEZES.fetch_add(1, Release);
    RELEASED.store(false, Release);
    WANTED.store(true, Release);
}

/// Lets go again. Any context.
pub fn relax() {
    WANTED.store(false, Release);
    TIGHT.store(false, Release);
}

/// Whether every zone that atomic requests may use is down where it is wanted. Any context.
pub fn is_tight() -> bool {
    TIGHT.load(Acquire)
}

/// Whether the zones are squeezed now or have been since `since`, an earlier [`squeezes`]. A
/// request that may not go below MIN can then find the little that is left taken by others, and
/// larger blocks not at all; atomic requests have their reserve below MIN and must not fail. Any
/// context.
pub fn is_announced(since: u32) -> bool {
    WANTED.load(Acquire) || !RELEASED.load(Acquire) || squeezes() != since
}

/// How often the zones have been squeezed. Any context.
pub fn squeezes() -> u32 {
    SQUEEZES.load(Acquire)
}

/// Ends the thread once it has let go.
pub fn finish() {
    relax();
    OVER.store(true, Release);
}

/// Between how many free frames a zone is held, and where the balloon aims. What a lower zone keeps
/// back for itself counts for all watermarks.
fn window(zone: &ZoneInfo, level: Level) -> (u64, u64, u64) {
    let reserve = zone.reserve[ZoneKind::Normal as usize];
    let (min, low) = (zone.min + reserve, zone.low + reserve);
    // What a request that is HIGH and cannot block leaves: three eighths of MIN, rounded up.
    let half = zone.min - zone.min / 2;
    let floor = half - half / 4 + reserve;
    match level {
        Level::BetweenMinAndLow => (min, low, min + (low - min) / 2),
        Level::ForAtomicOnly => {
            let span = min.saturating_sub(floor);
            (floor, floor + span / 2, floor + span / 4)
        }
        Level::Nothing => {
            let most = floor.saturating_sub(1).min(NEXT_TO_NOTHING);
            (0, most, most / 2)
        }
    }
}

fn owner(zone: ZoneId) -> Owner {
    Owner::new(OwnerKind::Balloon, zone.index() as u32)
}

/// The balloon's thread.
pub fn thread(task: &Task, _: usize) {
    let mut held = [const { Pile::new() }; MAX_ZONES];
    while !OVER.load(Acquire) {
        if WANTED.load(Acquire) {
            let tight = adjust_all(&mut held);
            // Not if the squeeze was called off meanwhile: `relax` has cleared it for good.
            TIGHT.store(tight && WANTED.load(Acquire), Release);
        } else {
            held.fill_with(Pile::new);
            TIGHT.store(false, Release);
            if !WANTED.load(Acquire) {
                RELEASED.store(true, Release);
            }
        }
        thread::sleep_until(task, time::now_ns() + LOOK_EVERY_NS);
    }
}

/// Brings every zone into its window; returns whether all of them are in it.
fn adjust_all(held: &mut [Pile; MAX_ZONES]) -> bool {
    let mut tight = true;
    let zones = mm::frames().zones().map(|zone| zone.id);
    for zone in zones.filter(|&zone| unmovable(zone)) {
        adjust(zone, &mut held[zone.index()]);
        let now = mm::frames().zone_info(zone);
        let (_, most, _) = window(&now, level(zone));
        tight &= now.free <= most;
    }
    tight
}

fn adjust(zone: ZoneId, held: &mut Pile) {
    let now = mm::frames().zone_info(zone);
    let (min, _, middle) = window(&now, level(zone));
    // Too far down: other users took frames meanwhile. Small blocks were taken last.
    while mm::frames().zone_info(zone).free <= min + (middle - min) / 2 && !held.is_empty() {
        drop(held.pop());
    }
    held.take_down(zone, middle, owner(zone));
}
