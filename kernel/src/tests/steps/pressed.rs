//! Scenes in zones that were taken down: compaction, the reserve, steals, and frees that cross
//! watermarks.
//!
//! Compaction and steals are played in DMA of node 0, which is small: its pageblocks are taken and
//! given back in parts each time. The reserve needs a larger zone, DMA32 of node 0, which stays
//! taken down for as long as a scene is repeated. The NMI's handler frees and allocates in the
//! scene's zone.

use super::armed;
use crate::{
    arch::context::Task,
    mm::{self, page_cache},
    tests::support::frames::{Block, OWNER, Pile, quiet, take_down},
};
use tidemark_frames::{Gfp, NodeId, Order, Owner, OwnerKind, Request, ZoneId, ZoneKind};
use tidemark_sync::ContextKind;

/// What is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pressed {
    /// The last frames of a pageblock come back to a zone that has nothing, across its watermarks.
    FreesThatComplete,
    /// A run of a pageblock of the other migrate_type, which changes sides.
    Steal,
    /// A whole pageblock, from which pages are moved.
    CompactArea,
    /// A quarter of a pageblock of the other migrate_type, which changes sides.
    CompactRun,
    /// Some pages are moved, and then one is met that cannot be.
    CompactInVain,
    /// A page that is in use for as long as it is tried.
    CompactBusy,
    /// An atomic block, whose pageblock joins the reserve.
    ReserveGrows,
    /// An atomic block out of the reserve.
    ReserveTaken,
    /// A request that fails, before which the reserve is given back.
    ReserveGivenBack,
}

/// Why a scene of the reserve is left out.
pub(super) const TOO_SMALL: &str = "DMA32 of node 0 is too small for a reserve";
/// The smallest zone that has a reserve: a hundredth of it is a pageblock. Frames.
const LEAST_WITH_RESERVE: u64 = 51_200;

const DMA: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Dma);
const DMA32: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Dma32);
/// Runs of [`Pressed::CompactRun`], and what each of them has one page of.
const QUARTER: u8 = 7;
/// Steps of a compaction that are tried one by one; of those behind them every seventh is.
pub(super) const DENSE: u32 = 100;
/// Pages of the file that are in memory during a compaction.
const PAGES: u32 = 4;

impl Pressed {
    const fn is_of_reserve(self) -> bool {
        matches!(
            self,
            Self::ReserveGrows | Self::ReserveTaken | Self::ReserveGivenBack
        )
    }

    /// Whether the machine has what the scene needs.
    pub(super) fn can_be_played(self) -> bool {
        !self.is_of_reserve() || mm::frames().zone_info(DMA32).managed >= LEAST_WITH_RESERVE
    }

    /// From which step on only every seventh one is tried: one that waits in vain takes its time.
    pub(super) const fn each(self) -> u32 {
        match self {
            Self::CompactBusy => 0,
            _ => DENSE,
        }
    }

    /// The flag of the zone in which it is played.
    pub(super) const fn zone(self) -> Gfp {
        if self.is_of_reserve() {
            Gfp::DMA32
        } else {
            Gfp::DMA
        }
    }

    /// What is held for as long as the scene is repeated, with no page in memory at first. For
    /// those of the reserve DMA32 is below MIN, but above what is left of it to atomic requests.
    pub(super) fn stage(self, task: &Task) -> Option<Pile> {
        quiet(task);
        if !self.is_of_reserve() {
            return None;
        }
        let mut pile = Pile::new();
        take_down(DMA, 0, &mut pile);
        let zone = mm::frames().zone_info(DMA32);
        let own = zone.reserve[ZoneKind::Dma32 as usize];
        take_down(DMA32, own + zone.min * 3 / 4, &mut pile);
        Some(pile)
    }
}

/// Of node 0's DMA or DMA32, without waking the reclaimer.
fn of_zone(request: Request, zone: Gfp) -> Request {
    let request = request.with(zone | Gfp::THISNODE | Gfp::NOWARN);
    let request = request.without(Gfp::KSWAPD_RECLAIM);
    request.on_node(NodeId(0)).owned_by(OWNER)
}

/// Plays a scene once; nothing if it could not be set, or did not do what it is for.
pub(super) fn play(scene: Pressed, task: &Task) -> Option<()> {
    match scene {
        Pressed::FreesThatComplete => frees_that_complete(task),
        Pressed::Steal => steal(task),
        Pressed::CompactArea => compacted(Order::HUGE, task),
        Pressed::CompactRun => compacted(Order::new(QUARTER)?, task),
        Pressed::CompactInVain => in_vain(page_cache::pages(), task),
        // A page that is not in memory: its frame is taken for one that is about to be.
        Pressed::CompactBusy => in_vain(page_cache::pages() - 1, task),
        Pressed::ReserveGrows => {
            give_reserve_back(task)?;
            // Nothing comes if the NMI's pageblock joins the reserve while the rest of the zone is
            // searched.
            drop(armed(|| atomic(task)));
            (reserve() > 0).then_some(())
        }
        Pressed::ReserveTaken => {
            drop(atomic(task)?);
            (reserve() > 0).then_some(())?;
            drop(armed(|| atomic(task)));
            (reserve() > 0).then_some(())
        }
        Pressed::ReserveGivenBack => {
            drop(atomic(task)?);
            (reserve() > 0).then_some(())?;
            // The NMI may have made a reserve again.
            armed(|| fail_in_dma32(task)).then_some(())?;
            give_reserve_back(task)
        }
    }
}

/// Frames that DMA32 keeps.
fn reserve() -> u64 {
    mm::frames().zone_info(DMA32).high_atomic
}

fn atomic(task: &Task) -> Option<Block> {
    let request = of_zone(Request::atomic(Order::COSTLY), Gfp::DMA32);
    mm::frames().alloc(task, &request).ok()
}

/// A request that must fail: the zone is below MIN. Before that it has all of the reserve given
/// back.
fn fail_in_dma32(task: &Task) -> bool {
    let request = of_zone(Request::kernel(Order::ZERO), Gfp::DMA32);
    let block = mm::frames().alloc(task, &request.with(Gfp::RETRY_MAYFAIL));
    block.is_err()
}

fn give_reserve_back(task: &Task) -> Option<()> {
    (fail_in_dma32(task) && reserve() == 0).then_some(())
}

fn of_dma(order: Order, owner: Owner) -> Option<Block> {
    mm::frames().alloc_in_zone(ContextKind::Task, DMA, order, owner)
}

fn frees_that_complete(task: &Task) -> Option<()> {
    mm::frames().drain_all(task);
    let (halves, whole) = (of_dma(Order::HUGE, OWNER)?, of_dma(Order::HUGE, OWNER)?);
    let mut held = Pile::new();
    take_down(DMA, 0, &mut held);
    let (lower, upper) = halves.split().ok()?;
    armed(|| [lower, upper, whole].map(drop));
    Some(())
}

fn steal(task: &Task) -> Option<()> {
    let held = movable_area([0, 1, 2, 3], Others::Held, task)?;
    let steals = || mm::frames().zone_events(DMA).steals;
    let before = steals();
    // Nothing comes if the NMI steals between two searches: the pageblock has changed sides behind
    // one.
    let stolen = armed(|| of_dma(Order::COSTLY, OWNER));
    drop((stolen, held));
    (steals() > before).then_some(())
}

/// Has room made for a block of this order, of which the request gets one.
fn compacted(order: Order, task: &Task) -> Option<()> {
    let held = movable_area([0, 1, 2, 3], Others::Scattered, task)?;
    let before = mm::frames().zone_events(DMA).compacted;
    let block = armed(|| compact(order, task))?;
    let is_new = mm::frames().zone_events(DMA).compacted > before;
    drop((block, held));
    is_new.then_some(())
}

/// The third of four pages is one that stays.
fn in_vain(stays: u32, task: &Task) -> Option<()> {
    let held = movable_area([0, 1, stays, 2], Others::Scattered, task)?;
    let failed = || mm::frames().zone_events(DMA).compactions_failed();
    let before = failed();
    let block = armed(|| compact(Order::HUGE, task));
    drop(held);
    (block.is_none() && failed() > before).then_some(())
}

fn compact(order: Order, task: &Task) -> Option<Block> {
    let request = of_zone(Request::kernel(order), Gfp::DMA).with(Gfp::NORETRY);
    mm::frames().alloc(task, &request).ok()
}

/// What the pageblocks of DMA are like beside the movable one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    /// Nothing is free in them.
    Held,
    /// In two of them every second run of order 6 is free, among unmovable ones.
    Scattered,
}

/// Takes all of DMA but for a pageblock for movable blocks, of which each quarter has a page, and
/// what the others are to have free. The first four pages of the file lie in their frames; what is
/// behind those is in the cache's name only.
fn movable_area(pages: [u32; 4], others: Others, task: &Task) -> Option<Pile> {
    // Of the last time: all pages of a large file would take too long.
    (0..PAGES).for_each(|page| _ = page_cache::drop_page(page, task));
    mm::frames().drain_all(task);
    let movable = of_dma(Order::HUGE, Owner::new(OwnerKind::PageCache, 0))?;
    let scattered = [of_dma(Order::HUGE, OWNER)?, of_dma(Order::HUGE, OWNER)?];
    let mut held = Pile::new();
    take_down(DMA, 0, &mut held);
    for block in scattered {
        if others == Others::Held {
            held.push(block);
            continue;
        }
        each_part(block, Order::new(QUARTER)?, &mut |quarter| {
            if let Ok((lower, upper)) = quarter.split() {
                held.push(lower);
                drop(upper);
            }
        });
    }
    let mut pages = pages.into_iter();
    let mut is_placed = true;
    each_part(movable, Order::new(QUARTER)?, &mut |quarter| {
        let (Some(page), mut frame) = (pages.next(), quarter) else {
            return;
        };
        loop {
            match frame.split() {
                Ok((lower, _upper)) => frame = lower,
                Err(single) => {
                    frame = single;
                    break;
                }
            }
        }
        if page < PAGES {
            is_placed &= page_cache::place(page, frame, task);
        } else {
            frame.set_owner(Owner::new(OwnerKind::PageCache, page));
            held.push(frame);
        }
    });
    mm::frames().drain_all(task);
    is_placed.then_some(held)
}

/// Splits a block down to an order; each part is visited, the lowest one first.
fn each_part(block: Block, order: Order, visit: &mut impl FnMut(Block)) {
    if block.order() <= order {
        return visit(block);
    }
    if let Ok((lower, upper)) = block.split() {
        each_part(lower, order, visit);
        each_part(upper, order, visit);
    }
}
