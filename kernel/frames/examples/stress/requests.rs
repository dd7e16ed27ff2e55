//! Allocation and free of blocks: each is signed when it is allocated, and its owner removed before
//! it is freed.

use crate::{
    counts::COUNTS,
    cpu::{self, Doing},
    findings::{Finding, found},
    machine::{OurBlock, frames},
    owners::{self, Tag},
    plant,
    random::Random,
    shelf,
};
use tidemark_frames::{
    FrameHandle, Gfp, NodeId, Order, Owner, OwnerKind, Request, Variant, WalkInfo, ZoneKind,
};
use tidemark_sync::{Context, ContextKind};

/// Takes a block for an owner, and signs it.
pub fn take(context: &impl Context, request: &Request, tag: Tag) -> Option<OurBlock> {
    let cpu = cpu::here();
    // Half of the requests are traced ones, which have code of their own.
    let block = if cpu.random().one_in(2) {
        frames().alloc(context, request)
    } else {
        let mut info = WalkInfo::default();
        let block = frames().alloc_traced(context, request, &mut info);
        let kind = context.kind() as usize;
        COUNTS.odd[kind].add(info.odd.into());
        COUNTS.overlapped[kind].add(info.overlapped.into());
        COUNTS.retries.add(info.retries.into());
        block
    };
    let block = plant::handed_out(block.ok()?);
    owners::sign(&block, tag);
    check_zone(&block, request);
    Some(block)
}

/// Counts a block from a zone that its request may not use. The block is in use, so its zone does
/// not change.
pub fn check_zone(block: &OurBlock, request: &Request) {
    let Some(zone) = frames().zone_of(block.pfn()) else {
        return found(Finding::NotAllocated(block.pfn(), block.order()));
    };
    let gfp = request.gfp();
    let wrong_kind = zone.kind() > gfp.highest_zone()
        || zone.kind() == ZoneKind::Movable && !gfp.contains(Gfp::MOVABLE);
    let wanted = request.node().filter(|_| gfp.contains(Gfp::THISNODE));
    if wrong_kind || wanted.is_some_and(|node| node != zone.node()) {
        COUNTS.strays.add(1);
        if frames().variant() == Variant::Snapshot {
            found(Finding::Stray(block.pfn(), block.order(), zone));
        }
    }
}

/// Frees a block.
pub fn give(block: OurBlock, tag: Tag) {
    owners::strike(&block, tag);
    plant::freed(block);
}

/// Turns a handle back into a block; a failure is a finding.
pub fn adopt(handle: FrameHandle) -> Option<OurBlock> {
    let block = frames().adopt(handle);
    block
        .map_err(|handle| found(Finding::NotAllocated(handle.pfn(), handle.order())))
        .ok()
}

/// Returns a random order. Most are small.
pub fn any_order(random: &Random) -> Order {
    const ORDERS: [u8; 24] = [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10,
    ];
    Order::new(random.pick(&ORDERS)).expect("the orders end at 10")
}

/// Returns a random request of a task, with an order, and flags with which it may fail.
pub fn of_task(random: &Random) -> Request {
    let order = any_order(random);
    let kernel = Gfp::KERNEL | Gfp::NOWARN;
    let gfp = match random.below(16) {
        0..=2 => Gfp::NOWAIT,
        3..=5 => Gfp::ATOMIC | Gfp::NOWARN,
        6..=9 => kernel | Gfp::NORETRY,
        10..=11 if order <= Order::COSTLY => kernel | Gfp::RETRY_MAYFAIL,
        12 => Gfp::ATOMIC | Gfp::NOMEMALLOC,
        13 => kernel | Gfp::NORETRY | Gfp::HARDWALL,
        14 => kernel | Gfp::NORETRY | Gfp::ZERO,
        _ => kernel,
    };
    let gfp = if random.one_in(12) {
        gfp | Gfp::DMA32
    } else {
        gfp
    };
    let request = Request::new(gfp, order);
    let request = match random.below(16) {
        0 => request.on_node(any_node(random)).with(Gfp::THISNODE),
        1 => request.on_node(any_node(random)),
        _ => request,
    };
    request.owned_by(Owner::new(OwnerKind::Task, cpu::here().number as u32))
}

/// Returns a random request of a handler.
pub fn of_handler(random: &Random) -> Request {
    let gfp = if random.one_in(8) {
        Gfp::NOWAIT
    } else {
        Gfp::ATOMIC | Gfp::NOWARN
    };
    let owner = Owner::new(OwnerKind::Interrupt, cpu::here().number as u32);
    Request::new(gfp, any_order(random)).owned_by(owner)
}

fn any_node(random: &Random) -> NodeId {
    NodeId(random.below(crate::memory::NODES) as u8)
}

/// Takes several blocks by one call, and frees most of them by another one. Some go on the shelf.
pub fn bulk(context: &impl Context, random: &Random) {
    let tag = Tag::here();
    let is_task = context.kind() == ContextKind::Task;
    let request = if is_task {
        of_task(random)
    } else {
        of_handler(random)
    };
    let order = Order::new(random.pick(&[0, 0, 0, 1, 3])).expect("the orders end at 10");
    let request = Request::new(request.gfp(), order).owned_by(request.owner());
    let mut blocks = [const { None }; 20];
    let wanted = 1 + random.below(blocks.len());
    let before = cpu::here().doing(Doing::AllocBulk);
    let _ = frames().alloc_bulk(context, &request, &mut blocks[..wanted]);
    for block in blocks.iter().flatten() {
        owners::sign(block, tag);
        check_zone(block, &request);
    }
    if let Some(block) = blocks[0].take() {
        shelf::put(block, tag);
    }
    blocks
        .iter()
        .flatten()
        .for_each(|block| owners::strike(block, tag));
    frames().free_bulk(&mut blocks);
    cpu::here().doing(before);
}
