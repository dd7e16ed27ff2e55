//! The balloon makes memory scarce while lists are rebuilt, so that requests reach the slow path.
//!
//! Every zone that atomic requests may use is held between its MIN and LOW watermarks. Under uneven
//! pressure that is true of one zone, and the others have nothing to give. For a request that may
//! reclaim and is held over the rebuild, the other zones of its node are too low.

use crate::arch::{context::Task, time};
use crate::mm::{self, Pile, unmovable};
use crate::options::{self, Pressure};
use crate::thread;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use tidemark_frames::{MAX_ZONES, NodeId, Owner, OwnerKind, ZoneId, ZoneInfo, ZoneKind};

/// How often the balloon looks at the zones while it is wanted.
const LOOK_EVERY_NS: u64 = 500_000;
/// Free frames of a zone that has nothing to give. It is not 0, so that the balloon need not chase
/// every frame.
const NEXT_TO_NOTHING: u64 = 24;
/// Frames, more than one reclaim for a single frame frees.
const RECLAIM_BATCH: u64 = 64;

/// Whether the balloon is wanted. The demonstration and its hook at the schedule points write it;
/// the balloon's thread reads it.
static WANTED: AtomicBool = AtomicBool::new(false);
/// Whether every zone is where it is wanted. The balloon's thread sets it. Release pairs with the
/// waiters' Acquire: what the thread did to the zones has happened.
static TIGHT: AtomicBool = AtomicBool::new(false);
/// Number of squeezes. It is raised before a squeeze begins.
static SQUEEZES: AtomicU32 = AtomicU32::new(0);
/// Whether the balloon holds no frame. It is cleared when a squeeze begins; the balloon's thread
/// sets it.
static RELEASED: AtomicBool = AtomicBool::new(true);
/// Whether the thread is to end.
static OVER: AtomicBool = AtomicBool::new(false);
/// Under uneven pressure, the index of the one zone that has memory. It is written once, before the
/// thread is started.
static KEEPER: AtomicU32 = AtomicU32::new(0);
/// Index of the zone for the request that is held over the rebuild, plus one; 0 if there is none.
/// It is written before a squeeze is asked for.
static PROBED: AtomicU32 = AtomicU32::new(0);

/// The free memory that a squeeze leaves in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// Between MIN and LOW: the fast path passes it over, the slow path does not.
    BetweenMinAndLow,
    /// Below MIN, and above what atomic requests may go down to.
    ForAtomicOnly,
    /// Less than any request may go down to.
    Nothing,
}

/// Returns the highest zone of a node that unmovable requests may use.
pub fn highest_unmovable(node: NodeId) -> Option<ZoneId> {
    let zones = mm::frames().zones().map(|zone| zone.id);
    let ours = |zone: &ZoneId| zone.node() == node && unmovable(*zone);
    zones.filter(ours).last()
}

/// Chooses the zone that has memory under uneven pressure: one that moves to the front of its
/// node's list when the movable memory there leaves. It is called once, before any other function
/// here.
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

/// Returns the one zone in which a request that may reclaim finds memory while it is held over a
/// rebuild on this node: the highest. Returns nothing if another zone is so small that a batch of
/// reclaim brings it back from below MIN.
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

/// Returns the number of frames that may be under way to the checkers. It is half of what the zones
/// that have memory have between their watermarks. So those frames alone cannot take the zones from
/// LOW to MIN.
pub fn share_of_handlers() -> u64 {
    let usable = |zone: &ZoneInfo| unmovable(zone.id) && level(zone.id) == Level::BetweenMinAndLow;
    let zones = mm::frames().zones().filter(usable);
    zones.map(|zone| zone.low - zone.min).sum::<u64>() / 2
}

/// Makes the balloon look at every zone once more before [`is_tight`] is true again. Only task
/// context may call it.
pub fn look_again() {
    TIGHT.store(false, Release);
}

/// Asks for the squeeze; [`is_tight`] returns true once it is done. A request that is held over the
/// rebuild then finds memory in the zone `probed` of its node only. Any context may call it.
pub fn squeeze(probed: Option<ZoneId>) {
    PROBED.store(probed.map_or(0, |zone| zone.index() as u32 + 1), Relaxed);
    SQUEEZES.fetch_add(1, Release);
    RELEASED.store(false, Release);
    WANTED.store(true, Release);
}

/// Ends the squeeze. Any context may call it.
pub fn relax() {
    WANTED.store(false, Release);
    TIGHT.store(false, Release);
}

/// Returns whether every zone that atomic requests may use is as low as it is wanted. Any context
/// may call it.
pub fn is_tight() -> bool {
    TIGHT.load(Acquire)
}

/// Returns whether the zones are squeezed now or have been since `since`, an earlier [`squeezes`].
/// A request that may not go below MIN can then find that others took the little that is left. It
/// may find no larger block at all. Atomic requests have their reserve below MIN and must not fail.
/// Any context may call it.
pub fn is_announced(since: u32) -> bool {
    WANTED.load(Acquire) || !RELEASED.load(Acquire) || squeezes() != since
}

/// Returns how often the zones have been squeezed. Any context may call it.
pub fn squeezes() -> u32 {
    SQUEEZES.load(Acquire)
}

/// Ends the thread once it has freed everything.
pub fn finish() {
    relax();
    OVER.store(true, Release);
}

/// Returns the least and the most free frames between which a zone is held, and the number that the
/// balloon aims at. What a lower zone keeps back for itself is added to all watermarks.
fn window(zone: &ZoneInfo, level: Level) -> (u64, u64, u64) {
    let reserve = zone.reserve[ZoneKind::Normal as usize];
    let (min, low) = (zone.min + reserve, zone.low + reserve);
    // This is what a request that is HIGH and cannot block leaves: three eighths of MIN, rounded
    // up.
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

/// Runs as the balloon's thread.
pub fn thread(task: &Task, _: usize) {
    let mut held = [const { Pile::new() }; MAX_ZONES];
    while !OVER.load(Acquire) {
        if WANTED.load(Acquire) {
            let tight = adjust_all(&mut held);
            // The squeeze may have been called off meanwhile, and then `relax` has cleared this for
            // good.
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
