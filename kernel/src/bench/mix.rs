//! The row of a mix of orders 0 to 9 in memory that is 60 to 80 % full: the cost of an operation,
//! and the highest cost of one.

use super::Missing;
use super::measure::{Arena, MANY, OWNER, Spread, timed, undisturbed};
use crate::arch::context::Task;
use crate::demo::random::Random;
use crate::mm::{self, Pile};
use core::hint::black_box;
use tidemark_frames::{NodeId, Order, Request, ZoneId, ZoneKind};

/// Frames that the mix has for itself. A block has 5.5 frames on average, so the mix's blocks fit
/// into the arena.
const FRAMES: u64 = 50_000;
/// Operations before the first that counts: from an empty start to the first fall below 60 %.
const WARM: usize = 12_000;

/// Allocates until 80 % of the frames are taken and frees at random until 60 % are, again and
/// again. Each order is half as frequent as the one below it. Returns the cost of an operation, and
/// the highest cost of one.
///
/// # Errors
///
/// Returns [`Missing`] if the zone lacks room, or an interrupt disturbs the mix.
pub fn mix(task: &Task, arena: &mut Arena) -> Result<(Spread, Spread), Missing> {
    let frames = mm::frames();
    // This is the node of the only CPU. The requests name no node, so they begin here.
    let zone = ZoneId::new(NodeId(0), ZoneKind::Dma32);
    let now = frames.zone_info(zone);
    let left = now.low + now.reserve[ZoneKind::Normal as usize] + FRAMES;
    if now.free < left {
        return Err(Missing::NotHere("50,000 frames above LOW in DMA32"));
    }
    let mut pile = Pile::new();
    pile.take_down(zone, left, OWNER);
    frames.drain_all(task);
    let mut random = Random::new(2, 0);
    let (mut held, mut used, mut grows, mut failed) = (0_usize, 0_u64, true, false);
    let mut step = |arena: &mut Arena| {
        if grows && held < arena.blocks.len() {
            let order = random.next().trailing_zeros().min(9) as u8;
            let order = Order::new(order).unwrap_or(Order::ZERO);
            let request = Request::nowait(order).owned_by(OWNER);
            let (cost, block) = timed(|| frames.alloc(task, black_box(&request)).ok());
            failed |= block.is_none();
            arena.blocks[held] = block;
            held += 1;
            used += order.frames();
            grows = used < FRAMES * 80 / 100;
            cost
        } else {
            let which = random.below(held as u64) as usize;
            held -= 1;
            arena.blocks.swap(which, held);
            let block = arena.blocks[held].take();
            used -= block.as_ref().map_or(0, |block| block.order().frames());
            grows = used <= FRAMES * 60 / 100;
            timed(|| drop(black_box(block))).0
        }
    };
    let counted = undisturbed(|| {
        for _ in 0..WARM {
            step(arena);
        }
        for sample in 0..MANY {
            arena.samples[sample] = step(arena);
        }
    });
    arena.blocks.fill_with(|| None);
    drop(pile);
    counted?;
    if failed {
        return Err(Missing::NotHere("a block for every request of the mix"));
    }
    let (empty, ()) = timed(|| ());
    for sample in arena.samples.iter_mut() {
        *sample = sample.saturating_sub(empty);
    }
    let total = arena.samples.iter().sum::<u64>();
    let each = Spread::exactly(total * 1000 / MANY as u64, MANY as u32);
    Ok((each, Spread::of(arena.samples).worst()))
}
