//! A page cache: movable blocks that fill the machine, and are reclaimed when memory is short. They
//! move when their memory is to leave, or is needed for a larger block.

use crate::{
    counts::COUNTS,
    cpu::{self, Doing},
    machine::frames,
    memory::MOST_FRAMES,
    owners::Tag,
    random::Random,
    requests,
};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::*};
use tidemark_frames::{
    FrameHandle, Gfp, MAX_ZONES, MigrateError, NodeId, Order, Owner, OwnerKind, Pfn, Request,
    ZoneId, ZoneKind,
};
use tidemark_sync::Task;

/// Number of pages. They have more frames than the machine.
const PAGES: usize = MOST_FRAMES;
/// For each page, the handle of its block, shifted by one, and whether it is locked. Only tasks
/// take the lock, and they only try it, so that none waits for a page.
static PAGE: [AtomicU64; PAGES] = [const { AtomicU64::new(0) }; PAGES];
const LOCKED: u64 = 1;
/// Number of pages' frames, by zone.
static RESIDENT: [AtomicI64; MAX_ZONES] = [const { AtomicI64::new(0) }; MAX_ZONES];
/// The page at which the next reclaim begins.
static HAND: AtomicUsize = AtomicUsize::new(0);

/// Returns the order of a page: most are single frames.
fn order_of(page: usize) -> Order {
    let order = match page % 64 {
        0 => 4,
        1..=3 => 2,
        _ => 0,
    };
    Order::new(order).expect("the orders end at 10")
}

/// A page that is locked until this is dropped.
struct Locked {
    page: usize,
    word: u64,
}

impl Locked {
    fn try_lock(page: usize) -> Option<Self> {
        let word = PAGE[page].load(Relaxed);
        let is_free = word & LOCKED == 0;
        // Acquire pairs with the release of the last holder.
        let locked = is_free
            && PAGE[page]
                .compare_exchange(word, word | LOCKED, Acquire, Relaxed)
                .is_ok();
        // `then_some` would make the value in any case, and its drop would unlock the page.
        locked.then(|| Self { page, word })
    }

    fn handle(&self) -> Option<FrameHandle> {
        FrameHandle::from_raw(self.word >> 1)
    }

    fn tag(&self) -> Tag {
        Tag::page(self.page)
    }

    fn owner(&self) -> Owner {
        Owner::new(OwnerKind::PageCache, self.page as u32)
    }

    /// Returns the request for the page's block.
    fn request(&self) -> Request {
        let request = Request::movable(order_of(self.page)).owned_by(self.owner());
        request.with(Gfp::NORETRY | Gfp::NOWARN)
    }

    /// Takes a block for the page; returns whether it got one. The caller takes care of the page's
    /// old block.
    fn fill(&mut self, task: &Task, request: &Request) -> bool {
        let Some(block) = requests::take(task, request, self.tag()) else {
            return false;
        };
        count_resident(block.pfn(), block.order().frames() as i64);
        self.word = block.leak().into_raw() << 1;
        true
    }

    /// Frees a block that the page had.
    fn free(&self, handle: FrameHandle) {
        count_resident(handle.pfn(), -(handle.order().frames() as i64));
        if let Some(block) = requests::adopt(handle) {
            requests::give(block, self.tag());
        }
    }

    fn empty(&mut self) {
        if let Some(handle) = self.handle() {
            self.free(handle);
        }
        self.word = 0;
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Release: see `try_lock`.
        PAGE[self.page].store(self.word, Release);
    }
}

fn count_resident(pfn: Pfn, frames: i64) {
    // The frames are in use, so their zone stays what it is.
    if let Some(zone) = self::frames().zone_of(pfn) {
        RESIDENT[zone.index()].fetch_add(frames, Relaxed);
    }
}

/// Returns about how many frames of a node can be reclaimed from zones up to `highest`.
pub fn resident(node: NodeId, highest: ZoneKind) -> usize {
    let kinds = ZoneKind::ALL.into_iter().filter(|&kind| kind <= highest);
    let frames = kinds.map(|kind| RESIDENT[ZoneId::new(node, kind).index()].load(Relaxed));
    frames.sum::<i64>().max(0) as usize
}

/// Reads some pages, which brings them in.
pub fn read(task: &Task, random: &Random, count: usize) {
    let before = cpu::here().doing(Doing::ReadPages);
    let first = random.below(PAGES);
    for nth in 0..count {
        if let Some(mut page) = Locked::try_lock((first + nth * 131) % PAGES)
            && page.handle().is_none()
        {
            let request = page.request();
            page.fill(task, &request);
        }
    }
    cpu::here().doing(before);
}

/// Drops a random page, if it has a block.
pub fn drop_one(random: &Random) {
    let before = cpu::here().doing(Doing::DropPage);
    if let Some(mut page) = Locked::try_lock(random.below(PAGES)) {
        page.empty();
    }
    cpu::here().doing(before);
}

/// Frees up to `wanted` frames of pages of a node in zones up to `highest`; returns how many it
/// freed.
pub fn shrink(node: NodeId, highest: ZoneKind, wanted: usize) -> usize {
    let before = cpu::here().doing(Doing::Reclaim);
    let mut freed = 0;
    for _ in 0..PAGES {
        if freed >= wanted || resident(node, highest) == 0 {
            break;
        }
        let Some(mut page) = Locked::try_lock(HAND.fetch_add(1, Relaxed) % PAGES) else {
            continue;
        };
        let zone = page
            .handle()
            .and_then(|handle| frames().zone_of(handle.pfn()));
        if zone.is_some_and(|zone| zone.node() == node && zone.kind() <= highest) {
            freed += order_of(page.page).frames() as usize;
            page.empty();
            COUNTS.reclaimed.add(1);
        }
    }
    cpu::here().doing(before);
    freed
}

/// Moves the page with a block that begins at `from`, for `Platform::migrate`.
pub fn migrate(from: Pfn, owner: Owner, task: &Task) -> Result<(), MigrateError> {
    if owner.kind() != OwnerKind::PageCache {
        return Err(MigrateError::Unmovable);
    }
    let page = Locked::try_lock(owner.number() as usize % PAGES);
    let mut page = page.ok_or(MigrateError::Busy)?;
    let old = page.handle().filter(|handle| handle.pfn() == from);
    let old = old.ok_or(MigrateError::Busy)?;
    let request = page.request();
    // A request for a larger block must not compact, since this may be part of a compaction.
    let request = if request.order() > Order::ZERO {
        request.without(Gfp::DIRECT_RECLAIM)
    } else {
        request
    };
    if !page.fill(task, &request) {
        return Err(MigrateError::Busy);
    }
    page.free(old);
    COUNTS.migrated.add(1);
    Ok(())
}

/// Drops every page, at the end, when no task holds one.
pub fn drop_all() {
    for page in 0..PAGES {
        if let Some(mut page) = Locked::try_lock(page) {
            page.empty();
        }
    }
}
