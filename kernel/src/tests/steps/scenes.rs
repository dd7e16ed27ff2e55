//! What is interrupted: the fast path, and what it calls.

use super::{
    BROKEN, DRAIN_WANTED, LATE, TAG, armed, check_and_free,
    pressed::{self, Pressed},
};
use crate::{
    arch::{context::Task, cpu_id, pin, time},
    mm, points,
    tests::support::{
        SOON_NS, eventually,
        frames::{Block, OWNER, Pile, sign, take_down, unsigned},
    },
};
use core::sync::atomic::{AtomicU64, Ordering::*};
use tidemark_frames::{
    Gfp, OfflineError, Order, Owner, OwnerKind, Pfn, PfnRange, Point, Request, ZoneId,
};
use tidemark_sync::ContextKind;

/// What is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    AllocCached,
    AllocRefill,
    AllocBeyondCache,
    AllocLeftOver,
    AllocAfterRebuild,
    AllocBulk,
    FreeCached,
    FreeFullCache,
    FreeBeyondCache,
    FreeBulk,
    Split,
    Drain,
    DrainInSection,
    Isolated,
    Pressed(Pressed),
}

pub(super) const SCENES: [Scene; 23] = [
    Scene::AllocCached,
    Scene::AllocRefill,
    Scene::AllocBeyondCache,
    Scene::AllocLeftOver,
    Scene::AllocAfterRebuild,
    Scene::AllocBulk,
    Scene::FreeCached,
    Scene::FreeFullCache,
    Scene::FreeBeyondCache,
    Scene::FreeBulk,
    Scene::Split,
    Scene::Drain,
    Scene::DrainInSection,
    Scene::Isolated,
    Scene::Pressed(Pressed::FreesThatComplete),
    Scene::Pressed(Pressed::Steal),
    Scene::Pressed(Pressed::CompactArea),
    Scene::Pressed(Pressed::CompactRun),
    Scene::Pressed(Pressed::CompactInVain),
    Scene::Pressed(Pressed::CompactBusy),
    Scene::Pressed(Pressed::ReserveGrows),
    Scene::Pressed(Pressed::ReserveTaken),
    Scene::Pressed(Pressed::ReserveGivenBack),
];

pub(super) fn take(task: &Task, order: u8) -> Option<Block> {
    let order = Order::new(order)?;
    let block = mm::frames().alloc(task, &Request::kernel(order).owned_by(OWNER));
    let block = block.ok()?;
    sign(&block, TAG);
    Some(block)
}

/// Frees a block that must be as it was left.
pub(super) fn give(block: Block) {
    if unsigned(&block, TAG).is_some() {
        BROKEN.fetch_add(1, Relaxed);
    }
    drop(block);
}

/// Plays a scene once; nothing if it could not be set.
pub(super) fn play(scene: Scene, task: &Task) -> Option<()> {
    let frames = mm::frames();
    match scene {
        Scene::AllocCached => {
            let _pinned = pin();
            drop(take(task, 0)?);
            drop(take(task, 3)?);
            let blocks = armed(|| [0, 3].map(|order| take(task, order)));
            blocks.into_iter().flatten().for_each(give);
        }
        Scene::AllocRefill => {
            frames.drain_all(task);
            let _pinned = pin();
            give(armed(|| take(task, 0))?);
        }
        Scene::AllocBeyondCache => {
            for order in [3, 7, 9, 10] {
                let largest = take(task, order);
                drop(largest);
            }
            // Of those that are cached, the next one is not.
            frames.drain_all(task);
            let _pinned = pin();
            let blocks = armed(|| [3, 7, 9, 10].map(|order| take_unsigned(task, order)));
            blocks.into_iter().flatten().for_each(drop);
        }
        Scene::AllocLeftOver => left_over(task)?,
        Scene::AllocAfterRebuild => {
            // The rebuild makes every CPU forget which cache serves a class first.
            frames.rebuild(task);
            let _pinned = pin();
            give(armed(|| take(task, 0))?);
        }
        Scene::AllocBulk => {
            let request = Request::nowait(Order::ZERO).owned_by(OWNER);
            let mut blocks = [const { None }; 6];
            drop(take(task, 0)?);
            armed(|| frames.alloc_bulk(task, &request, &mut blocks)).ok()?;
        }
        Scene::FreeCached => {
            let block = take(task, 0)?;
            armed(|| give(block));
        }
        Scene::FreeFullCache => {
            // Neighbours, so that a full cache makes room for them.
            let neighbours = singles(take_unsigned(task, 5)?)?;
            let mut pile = Pile::new();
            for _ in 0..300 {
                pile.push(take(task, 0)?);
            }
            let _pinned = pin();
            drop(pile);
            armed(|| drop(neighbours));
        }
        Scene::FreeBeyondCache => {
            // The second one of a size finds its cache full.
            let blocks = [3, 7, 9, 9, 10, 10].map(|order| take_unsigned(task, order));
            armed(|| blocks.into_iter().flatten().for_each(drop));
        }
        Scene::FreeBulk => {
            let request = Request::nowait(Order::ZERO).owned_by(OWNER);
            let mut blocks = [const { None }; 6];
            frames.drain_all(task);
            frames.alloc_bulk(task, &request, &mut blocks).ok()?;
            armed(|| frames.free_bulk(&mut blocks));
        }
        Scene::Split => {
            let block = take_unsigned(task, 9)?;
            let halves = armed(|| block.split()).ok()?;
            drop(halves);
        }
        Scene::Drain => {
            drop(take(task, 0)?);
            drop(take(task, 3)?);
            armed(|| frames.drain_all(task));
        }
        Scene::DrainInSection => {
            drop(take(task, 0)?);
            let block = armed(|| take(task, 0))?;
            // The other CPU's drain ends before the next one can be asked for.
            let ended = || !DRAIN_WANTED.load(Acquire);
            if !eventually(task, SOON_NS, ended) {
                LATE.fetch_add(1, Relaxed);
            }
            give(block);
        }
        Scene::Isolated => isolated(task)?,
        Scene::Pressed(scene) => pressed::play(scene, task)?,
    }
    Some(())
}

fn take_unsigned(task: &Task, order: u8) -> Option<Block> {
    let request = Request::kernel(Order::new(order)?).with(Gfp::NORETRY | Gfp::NOWARN);
    mm::frames().alloc(task, &request.owned_by(OWNER)).ok()
}

/// Splits a block down to its frames.
fn singles(block: Block) -> Option<Pile> {
    let mut singles = Pile::new();
    let mut rest = Pile::new();
    rest.push(block);
    while let Some(block) = rest.pop() {
        if block.order() == Order::ZERO {
            singles.push(block);
        } else {
            let (low, high) = block.split().ok()?;
            rest.push(high);
            rest.push(low);
        }
    }
    Some(singles)
}

/// An unmovable request of a zone that has nothing but what a cache has for movable ones.
fn left_over(task: &Task) -> Option<()> {
    let frames = mm::frames();
    let zone = frames.zones().min_by_key(|zone| zone.managed)?.id;
    frames.drain_all(task);
    let _pinned = pin();
    let movable = Owner::new(OwnerKind::PageCache, 0);
    let left = frames.alloc_in_zone(ContextKind::Task, zone, Order::ZERO, movable)?;
    drop(left);
    let cached = |zone: ZoneId| {
        frames
            .cache_info(zone, cpu_id())
            .map_or(0, |info| info.count)
    };
    let left = cached(zone);
    let mut pile = Pile::new();
    take_down(zone, 0, &mut pile);
    while cached(zone) > left {
        pile.push(frames.alloc_in_zone(ContextKind::Task, zone, Order::ZERO, OWNER)?);
    }
    let block = armed(|| frames.alloc_in_zone(ContextKind::Task, zone, Order::ZERO, OWNER));
    drop(pile);
    block.map(drop)
}

/// The single frames of a pair of pageblocks that is being taken offline: one that stays and keeps
/// it from leaving, one that is freed while it is isolated.
fn isolated(task: &Task) -> Option<()> {
    static FREED: AtomicU64 = AtomicU64::new(0);
    fn at(point: Point) {
        if point == Point::OfflineIsolated {
            armed(|| check_and_free(FREED.swap(0, Relaxed)));
        }
    }
    let frames = mm::frames();
    let whole = take_unsigned(task, 10)?;
    let range = PfnRange::new(whole.pfn(), Pfn(whole.pfn().0 + whole.order().frames()));
    let mut block = whole;
    while block.order() > Order::COSTLY {
        (block, _) = block.split().ok()?;
    }
    let (block, stays) = block.split().ok()?;
    let (_, freed) = block.split().ok()?;
    let (_, freed) = freed.split().ok()?;
    sign(&freed, TAG);
    FREED.store(freed.leak().into_raw(), Relaxed);
    let hooked = points::set_hook(at);
    let left = frames.offline_range(range, time::now_ns(), task);
    drop(hooked);
    let is_unmovable = matches!(left, Err(OfflineError::Unmovable { at, .. }) if at == stays.pfn());
    (is_unmovable && FREED.load(Relaxed) == 0).then_some(())
}
