//! Compaction: a larger order is found as long as enough is free and what is allocated can be
//! moved.

use super::support::{
    SOON_NS, ensure,
    everywhere::Team,
    frames::{Block, OWNER, quiet},
    tests, want,
};
use crate::{
    arch::context::Task,
    mm::{self, page_cache},
    selftest::{Group, Outcome, Report},
};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use tidemark_frames::{
    AllocError, FrameHandle, Gfp, NodeId, Order, Request, ZoneId, ZoneInfo, ZoneKind,
};
use tidemark_sync::ContextKind;

/// The group.
pub const GROUP: Group = Group {
    name: "compaction",
    tests: tests![
        no_order_9_fails_while_enough_is_free_and_everything_can_be_moved,
        tasks_on_every_cpu_compact_at_once_and_pages_stay_right,
    ],
};

/// Free frames with which an order 9 must be found.
const ENOUGH: u64 = 1_024;
/// Requests and frees of the mix.
const OPERATIONS: u32 = 12_000;

/// Blocks of pages that are in memory, each packed: first page, order.
struct Blocks {
    next_page: u32,
    count: usize,
}

const ROOM: usize = 1 << 14;
/// Written by the one test that runs.
static LIVE: [AtomicU32; ROOM] = [const { AtomicU32::new(0) }; ROOM];

impl Blocks {
    const fn new() -> Self {
        Self {
            next_page: 0,
            count: 0,
        }
    }

    fn push(&mut self, first: u32, order: Order) -> bool {
        let Some(place) = LIVE.get(self.count) else {
            return false;
        };
        place.store(first << 4 | u32::from(order.get()), SeqCst);
        self.count += 1;
        true
    }

    /// Drops a block's pages; returns how many there were.
    fn drop_one(&mut self, index: usize, task: &Task) -> u64 {
        self.count -= 1;
        let packed = LIVE[index].swap(LIVE[self.count].load(SeqCst), SeqCst);
        let frames = 1 << (packed & 15);
        let first = packed >> 4;
        (first..first + frames).for_each(|page| {
            page_cache::drop_page(page, task);
        });
        frames.into()
    }

    /// Pages of the file, none of which is in memory.
    fn absent(&mut self, count: u32) -> Option<u32> {
        let mut first = self.next_page;
        let mut seen = 0;
        for _ in 0..2 * page_cache::pages() {
            if first + count > page_cache::pages() {
                (first, seen) = (0, 0);
            }
            if page_cache::frame_of(first + seen).is_some() {
                (first, seen) = (first + seen + 1, 0);
                continue;
            }
            seen += 1;
            if seen == count {
                self.next_page = first + count;
                return Some(first);
            }
        }
        None
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * u128::from(limit)) >> 64) as u64
    }
}

/// A MOVABLE zone, of which the page cache can hold more than 80 %.
fn movable_zone() -> Result<ZoneInfo, &'static str> {
    let zone = mm::frames()
        .zones()
        .find(|zone| zone.id.kind() == ZoneKind::Movable);
    match zone {
        None => Err(super::NO_DIMM),
        Some(zone) if zone.managed > u64::from(page_cache::pages()) => {
            Err("the file is smaller than the zone")
        }
        Some(zone) => Ok(zone),
    }
}

/// Blocks that stay where they are. Their numbers are kept beside them: memory that no test writes
/// to need not be the host's.
struct Held {
    count: usize,
}

/// Written by the one test that runs.
static HELD: [AtomicU64; ROOM] = [const { AtomicU64::new(0) }; ROOM];

impl Held {
    fn push(&mut self, block: Block) {
        if let Some(place) = HELD.get(self.count) {
            place.store(block.leak().into_raw(), SeqCst);
            self.count += 1;
        }
    }

    /// Breaks a node's other zones up, so that they have frames, but no larger orders: what is
    /// taken cannot be moved.
    fn all_but_movable(node: NodeId) -> Self {
        let mut held = Self { count: 0 };
        for kind in [ZoneKind::Normal, ZoneKind::Dma32, ZoneKind::Dma] {
            let zone = ZoneId::new(node, kind);
            // Most of it whole, because that is fewer blocks.
            let left = |zone: ZoneInfo| zone.free > 4 * zone.high + (1 << 14);
            let take = |order| mm::frames().alloc_in_zone(ContextKind::Task, zone, order, OWNER);
            while left(mm::frames().zone_info(zone))
                && let Some(block) = take(Order::MAX)
            {
                held.push(block);
            }
            while let Some(block) = Order::new(8).and_then(take) {
                match block.split() {
                    Ok((lower, _upper)) => held.push(lower),
                    Err(block) => held.push(block),
                }
            }
        }
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for place in &HELD[..self.count] {
            let handle = FrameHandle::from_raw(place.swap(0, SeqCst));
            drop(handle.map(|handle| mm::frames().adopt(handle)));
        }
    }
}

fn read_block(
    blocks: &mut Blocks,
    node: NodeId,
    order: Order,
    gfp: Gfp,
    task: &Task,
) -> Result<(), AllocError> {
    let frames = order.frames() as u32;
    let failed = AllocError::NoMemory { order };
    let first = blocks.absent(frames).ok_or(failed)?;
    let request = Request::new(gfp | Gfp::MOVABLE | Gfp::NOWARN | Gfp::THISNODE, order);
    page_cache::read_ahead(first, &request.on_node(node), task)?;
    blocks.push(first, order);
    Ok(())
}

/// Orders 0 to 9, each half as often as the one before, until 60 to 80 % of the zone are full.
fn mix(zone: ZoneId, blocks: &mut Blocks, tally: &mut Tally, task: &Task) {
    let info = mm::frames().zone_info(zone);
    let mut random = Random(7);
    let mut grows = true;
    for _ in 0..OPERATIONS {
        let used = info.managed - mm::frames().zone_info(zone).free;
        grows = if grows {
            used < info.managed * 80 / 100
        } else {
            used <= info.managed * 60 / 100
        };
        if grows {
            let order = (random.below(512) | 512).trailing_zeros() as u8;
            if let Some(order) = Order::new(order) {
                tally.ask(zone, blocks, order, task);
            }
        } else if blocks.count > 0 {
            let index = random.below(blocks.count as u64) as usize;
            blocks.drop_one(index, task);
        }
    }
}

/// What was asked of a zone of which enough was free.
#[derive(Debug, Default)]
struct Tally {
    huge: u32,
    huge_failed: u32,
    others_failed: u32,
    /// Orders 9 that a request which may not compact did not get.
    needed: u32,
}

impl Tally {
    fn ask(&mut self, zone: ZoneId, blocks: &mut Blocks, order: Order, task: &Task) -> bool {
        let is_huge = order == Order::HUGE;
        if is_huge {
            self.huge += 1;
            if read_block(blocks, zone.node(), order, Gfp::NOWAIT, task).is_ok() {
                return true;
            }
            self.needed += 1;
        }
        let got = read_block(blocks, zone.node(), order, Gfp::KERNEL, task).is_ok();
        if is_huge {
            self.huge_failed += u32::from(!got);
        } else {
            self.others_failed += u32::from(!got);
        }
        got
    }
}

fn no_order_9_fails_while_enough_is_free_and_everything_can_be_moved(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    let zone = match movable_zone() {
        Ok(zone) => zone.id,
        Err(reason) => return Outcome::Skip(reason),
    };
    quiet(task);
    let held = Held::all_but_movable(zone.node());
    let events = mm::frames().zone_events(zone);
    let reclaimed = page_cache::counters().reclaimed;
    let (mut blocks, mut tally) = (Blocks::new(), Tally::default());
    mix(zone, &mut blocks, &mut tally, task);
    // More and more until nearly everything is used. Below HIGH reclaim would come to help.
    let least = |info: ZoneInfo| info.free >= (info.high + 512).max(ENOUGH);
    while least(mm::frames().zone_info(zone)) && tally.ask(zone, &mut blocks, Order::HUGE, task) {}
    let now = mm::frames().zone_events(zone);
    let compacted = now.compacted - events.compacted;
    let moved = now.compact_migrated - events.compact_migrated;
    report.note(format_args!(
        "{tally:?}; {compacted} compactions that succeeded, {} that did not, {moved} frames moved",
        now.compactions_failed() - events.compactions_failed()
    ));
    let reclaimed = page_cache::counters().reclaimed - reclaimed;
    let verified = page_cache::verify_all(task);
    while blocks.count > 0 {
        blocks.drop_one(blocks.count - 1, task);
    }
    drop(held);
    ensure!(report, tally.huge_failed == 0, "an order 9 failed");
    ensure!(report, tally.others_failed == 0, "a smaller order failed");
    ensure!(report, tally.needed > 0, "nothing had to be compacted");
    ensure!(
        report,
        compacted >= u64::from(tally.needed) && moved > 0,
        "the blocks came from elsewhere"
    );
    ensure!(report, reclaimed == 0, "{reclaimed} pages were reclaimed");
    ensure!(report, verified.corrupted == 0, "{verified:?}");
    Outcome::Pass
}

static STOP: AtomicBool = AtomicBool::new(false);
static GOT: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);
static NODE: AtomicU32 = AtomicU32::new(0);

/// A CPU's share: larger orders come and go, and pages are read meanwhile.
fn ask_and_read(task: &Task, cpu: usize) {
    let mut random = Random(cpu as u64 + 1);
    let node = NodeId(NODE.load(SeqCst) as u8);
    while !STOP.load(SeqCst) {
        let order = [9, 4, 10, 7][random.below(4) as usize];
        if let Some(order) = Order::new(order) {
            let request = Request::movable(order).owned_by(OWNER).on_node(node);
            let request = request.with(Gfp::THISNODE).with(Gfp::NOWARN);
            // Reclaim is not what is tested.
            let block = mm::frames().alloc(task, &request.with(Gfp::NORETRY));
            GOT.fetch_add(u64::from(block.is_ok()), SeqCst);
        }
        let page = random.below(page_cache::pages().into()) as u32;
        if page_cache::check(page, task).is_some_and(|right| right.is_err()) {
            WRONG.fetch_add(1, SeqCst);
        }
    }
}

fn tasks_on_every_cpu_compact_at_once_and_pages_stay_right(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    let zone = match movable_zone() {
        Ok(zone) => zone.id,
        Err(reason) => return Outcome::Skip(reason),
    };
    quiet(task);
    let held = Held::all_but_movable(zone.node());
    let mut blocks = Blocks::new();
    mix(zone, &mut blocks, &mut Tally::default(), task);
    let events = mm::frames().zone_events(zone);
    for (counter, value) in [(&GOT, 0), (&WRONG, 0)] {
        counter.store(value, SeqCst);
    }
    NODE.store(zone.node().0.into(), SeqCst);
    STOP.store(false, SeqCst);
    let team = want!(
        report,
        Team::start(task, "test-compact", ask_and_read),
        "no threads"
    );
    // Whole pageblocks are used up meanwhile, and holes made elsewhere, so that everybody must
    // compact.
    let (mut tally, mut random) = (Tally::default(), Random(3));
    let compacted = || mm::frames().zone_events(zone).compacted - events.compacted;
    let mut make_holes = || {
        let info = mm::frames().zone_info(zone);
        let has_more = info.free >= info.high + 4_096;
        if !has_more || !tally.ask(zone, &mut blocks, Order::HUGE, task) {
            while blocks.count > 0 && mm::frames().zone_info(zone).free < info.high + 6_144 {
                let index = random.below(blocks.count as u64) as usize;
                blocks.drop_one(index, task);
            }
        }
    };
    let enough = super::support::eventually(task, 5 * SOON_NS, || {
        (0..8).for_each(|_| make_holes());
        compacted() >= 20
    });
    STOP.store(true, SeqCst);
    ensure!(report, team.join(task, SOON_NS), "the tasks did not end");
    let verified = page_cache::verify_all(task);
    while blocks.count > 0 {
        blocks.drop_one(blocks.count - 1, task);
    }
    drop(held);
    let [got, wrong] = [&GOT, &WRONG].map(|count| count.load(SeqCst));
    ensure!(report, wrong == 0, "{wrong} pages were wrong");
    ensure!(report, verified.corrupted == 0, "{verified:?}");
    ensure!(
        report,
        enough,
        "{} compactions that succeeded, {got} blocks",
        compacted()
    );
    Outcome::Pass
}
