//! The rows of the table.

use super::Missing;
use super::measure::{Arena, MANY, OWNER, REPETITIONS, Spread, sample, sample_warm, undisturbed};
use super::mix::mix;
use crate::arch::context::Task;
use crate::arch::interrupts;
use crate::demo::random::Random;
use crate::mm::{self, KernelFrames, Pile, unmovable};
use core::hint::black_box;
use tidemark_frames::{
    CpuCaches, Gfp, ListKind, Node, Order, Request, SECTION_FRAMES, SectionMeta, SectionNo,
    SectionSlot, Zone, ZoneId, ZoneInfo, ZoneKind,
};
use tidemark_sync::Context;
use tidemark_wire::BenchRow;

const fn order(order: u8) -> Order {
    match Order::new(order) {
        Some(order) => order,
        None => panic!("no such order"),
    }
}

const ATOMIC: Request = Request::atomic(Order::ZERO).owned_by(OWNER);
const KERNEL: Request = Request::kernel(Order::ZERO).owned_by(OWNER);
const ORDER_3: Request = Request::atomic(order(3)).owned_by(OWNER);
const ORDER_9: Request = Request::atomic(Order::HUGE).owned_by(OWNER);
const ORDER_10: Request = Request::atomic(Order::MAX).owned_by(OWNER);

/// Measures every row, in the table's order.
pub fn all(
    task: &Task,
    arena: &mut Arena,
    tell: &mut impl FnMut(BenchRow, Result<Spread, Missing>),
) {
    let pairs = |arena: &mut Arena, request: &Request| {
        undisturbed(|| pair_cost(arena, task, request)).map_err(Missing::from)
    };
    tell(BenchRow::AtomicIrqsOn, pairs(arena, &ATOMIC));
    let off = interrupts::without_interrupts(|| pair_cost(arena, task, &ATOMIC));
    tell(BenchRow::AtomicIrqsOff, Ok(off));
    tell(
        BenchRow::AtomicHardIrq,
        arena
            .in_hard_irq(|irq, samples| pairs_of(samples, irq, &ATOMIC))
            .map_err(Missing::from),
    );
    tell(BenchRow::Kernel, pairs(arena, &KERNEL));
    tell(BenchRow::Order3, pairs(arena, &ORDER_3));
    tell(BenchRow::Order9, pairs(arena, &ORDER_9));
    tell(BenchRow::Order10, pairs(arena, &ORDER_10));
    match many(task, arena) {
        Ok((frame, worst)) => {
            tell(BenchRow::Random, Ok(frame));
            tell(BenchRow::WorstFree, Ok(worst));
        }
        Err(why) => tell(BenchRow::Random, Err(why)),
    }
    match mix(task, arena) {
        Ok((each, worst)) => {
            tell(BenchRow::Mix, Ok(each));
            tell(BenchRow::WorstOfMix, Ok(worst));
        }
        Err(why) => tell(BenchRow::Mix, Err(why)),
    }
    tell(BenchRow::ZoneSkipped, zone_skipped(task, arena));
    tell(BenchRow::FailingAtomic, failing(task, arena));
    tell(BenchRow::Metadata, Ok(metadata()));
}

/// Allocates a block and frees it. The free is a call that does not know where the block comes
/// from.
#[inline]
fn pair(frames: &'static KernelFrames, context: &impl Context, request: &Request) {
    drop(frames.alloc(context, request));
}

fn pair_cost(arena: &mut Arena, task: &Task, request: &Request) -> Spread {
    let samples = &mut arena.samples[..REPETITIONS];
    pairs_of(samples, task, request);
    Spread::of(samples)
}

/// Fills each sample with the cost of one pair.
fn pairs_of(samples: &mut [u64], context: &impl Context, request: &Request) {
    let frames = mm::frames();
    // The request is opaque to the compiler, as it is in a function that receives one.
    let request = black_box(request);
    sample_warm(samples, || pair(frames, context, request));
}

/// Allocates frames one by one, then frees them at random. Returns the cost of a frame, and the
/// highest cost of a free.
fn many(task: &Task, arena: &mut Arena) -> Result<(Spread, Spread), Missing> {
    let frames = mm::frames();
    frames.drain_all(task);
    let Arena {
        samples, blocks, ..
    } = arena;
    let mut places = blocks.iter_mut();
    let allocated = undisturbed(|| {
        sample(samples, || {
            if let Some(place) = places.next() {
                *place = frames.alloc(task, black_box(&ATOMIC)).ok();
            }
        });
        samples.iter().sum::<u64>()
    });
    if blocks.iter().any(Option::is_none) {
        blocks.fill_with(|| None);
        return Err(Missing::NotHere("10,000 frames"));
    }
    let mut random = Random::new(1, 0);
    for last in (1..MANY).rev() {
        blocks.swap(last, random.below(last as u64 + 1) as usize);
    }
    let mut places = blocks.iter_mut();
    let freed = undisturbed(|| {
        sample(samples, || {
            if let Some(place) = places.next() {
                *place = None;
            }
        });
        samples.iter().sum::<u64>()
    });
    // This is read before the last drain overwrites the samples.
    let worst = Spread::of(samples).worst();
    let drained = undisturbed(|| {
        sample(&mut samples[..1], || frames.drain_all(task));
        samples[0]
    })?;
    let total = allocated? + freed? + drained;
    let frame = Spread::exactly(total * 1000 / MANY as u64, MANY as u32);
    Ok((frame, worst))
}

/// Returns the cost that each zone below its watermark adds. It compares a pair served by the last
/// zone that can serve it with one served by the first. The difference is divided by the number of
/// zones passed over.
fn zone_skipped(task: &Task, arena: &mut Arena) -> Result<Spread, Missing> {
    let frames = mm::frames();
    let node = mm::nodes_with_lists()
        .max_by_key(|&node| usable_zones(node))
        .ok_or(Missing::NotHere("a node"))?;
    let request = ATOMIC.on_node(node);
    let first = undisturbed(|| pair_cost(arena, task, &request))?;
    let mut pile = Pile::new();
    let (mut skipped, mut last) = (0, first);
    for zone in frames.zonelist(node, ListKind::Fallback).iter() {
        if !unmovable(zone) {
            continue;
        }
        let level = lowest_for_normal(&frames.zone_info(zone));
        take_down(task, zone, level, &mut pile);
        let served = frames.alloc(
            task,
            &request.without(Gfp::KSWAPD_RECLAIM).with(Gfp::NOWARN),
        );
        let Ok(block) = served else { break };
        // If the block comes from a zone below LOW, the slow path served it, and this was the last
        // zone.
        let from = frames
            .zone_of(block.pfn())
            .map(|zone| frames.zone_info(zone));
        if from.is_none_or(|from| from.free <= lowest_for_normal(&from)) {
            break;
        }
        drop(block);
        last = undisturbed(|| pair_cost(arena, task, &request))?;
        skipped += 1;
    }
    drop(pile);
    if skipped == 0 {
        return Err(Missing::NotHere("two zones"));
    }
    let added = last.median_milli().saturating_sub(first.median_milli());
    Ok(Spread::exactly(added / skipped, REPETITIONS as u32))
}

fn usable_zones(node: tidemark_frames::NodeId) -> usize {
    let list = mm::frames().zonelist(node, ListKind::NoFallback);
    list.iter().filter(|&zone| unmovable(zone)).count()
}

/// Returns the highest number of free frames at which the fast path of a request without zone flags
/// passes a zone by.
fn lowest_for_normal(zone: &ZoneInfo) -> u64 {
    zone.low + zone.reserve[ZoneKind::Normal as usize]
}

/// Takes free frames of a zone until `free` are left, what smaller blocks left behind in the caches
/// included.
fn take_down(task: &Task, zone: ZoneId, free: u64, pile: &mut Pile) {
    let mut before = u64::MAX;
    while pile.frames() != before {
        before = pile.frames();
        mm::frames().drain_all(task);
        pile.take_down(zone, free, OWNER);
    }
}

/// Returns the cost of a request that finds no free frame anywhere. Interrupts are off, so that the
/// reclaimers that it wakes run afterwards.
fn failing(task: &Task, arena: &mut Arena) -> Result<Spread, Missing> {
    let frames = mm::frames();
    if mm::machine_nodes().len() != 2 {
        return Err(Missing::NotHere("two nodes"));
    }
    let request = ATOMIC.with(Gfp::NOWARN);
    let mut pile = Pile::new();
    for zone in frames.zones() {
        take_down(task, zone.id, 0, &mut pile);
    }
    let mut failures = 0;
    let spread = interrupts::without_interrupts(|| {
        let samples = &mut arena.samples[..REPETITIONS];
        sample_warm(samples, || {
            failures += u32::from(frames.alloc(task, black_box(&request)).is_err());
        });
        Spread::of(samples)
    });
    drop(pile);
    if (failures as usize) < REPETITIONS {
        return Err(Missing::NotHere("a machine without free frames"));
    }
    Ok(spread)
}

/// Returns the bytes of the allocator's metadata for each frame that it manages.
fn metadata() -> Spread {
    let frames = mm::frames();
    let zones = frames.zones().count();
    let managed: u64 = frames.zones().map(|zone| zone.managed).sum();
    let end = frames
        .zones()
        .map(|zone| zone.span.end.0)
        .max()
        .unwrap_or(0);
    let places = (end as usize).div_ceil(SECTION_FRAMES);
    let blocks = (0..places).filter(|&block| frames.has_section(SectionNo(block)));
    // The sum has one more for the memory sections without metadata of their own.
    let bytes = (blocks.count() + 1) * size_of::<SectionMeta>()
        + places * size_of::<SectionSlot<'_>>()
        + crate::arch::percpu::online_count() * size_of::<CpuCaches>()
        + mm::machine_nodes().len() * size_of::<Node>()
        + zones * size_of::<Zone>();
    Spread::exactly(bytes as u64 * 1000 / managed.max(1), 1)
}
