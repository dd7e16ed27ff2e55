//! The page cache: movable frames that hold pages of a synthetic file.
//!
//! A page is read by index: a miss takes a movable frame and fills it, a hit checks the content.
//! Between two reads, reclaim may take the frame back and migration may replace it. The lock bit of
//! each page keeps the three apart.

mod ahead;
mod content;
mod plant;
mod slot;
mod sweep;

#[cfg(feature = "lab")]
pub use ahead::place;
pub use ahead::read_ahead;
pub use content::Mismatch;
pub use plant::corrupt_next_moved;
pub use slot::PageSlot;
pub use sweep::{check, corrupt_one, count_at_rest, drop_all, verify_all, verify_moved};

use super::{direct_map, frames};
use crate::thread;
use crate::warn;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use slot::Locked;
use tidemark_frames::{
    AllocError, Gfp, MAX_ZONES, MigrateError, NodeId, Order, Owner, OwnerKind, Pfn, Request,
    WalkInfo, ZoneId, ZoneKind,
};
use tidemark_sync::Task;

/// The cache: one entry for each page of the file.
#[derive(Debug)]
struct Cache {
    slots: &'static [PageSlot],
    seed: u64,
}

static CACHE: spin::Once<Cache> = spin::Once::new();

/// The clock's hand: the next entry that reclaim looks at.
static HAND: AtomicUsize = AtomicUsize::new(0);
/// Pages in each zone. They change under the page's lock; the sum is exact at rest, and a hint
/// otherwise.
static RESIDENT: [AtomicUsize; MAX_ZONES] = [const { AtomicUsize::new(0) }; MAX_ZONES];

static HITS: AtomicU64 = AtomicU64::new(0);
static FILLED: AtomicU64 = AtomicU64::new(0);
static CORRUPTED: AtomicU64 = AtomicU64::new(0);
static RECLAIMED: AtomicU64 = AtomicU64::new(0);

/// Tries for a page's lock bit, with a yield after each, before the waiter sleeps between tries.
const YIELDS: u32 = 8;
/// Sleep between two tries, because the holder may have a lower priority.
const PAGE_WAIT_NS: u64 = 50_000;
/// Number of corruptions that are printed in full.
const CORRUPTIONS_TOLD: u64 = 5;

/// What the cache has done since boot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Reads that found the page in memory, each compared word by word.
    pub hits: u64,
    /// Reads that filled a frame.
    pub filled: u64,
    /// Pages that differed from the file.
    pub corrupted: u64,
    /// Frames freed by reclaim.
    pub reclaimed: u64,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The page was in memory, and correct.
    Hit,
    /// A frame was filled.
    Filled,
}

/// Why a read failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The page was not in memory, and there was no frame for it.
    NoMemory(AllocError),
    /// The frame does not hold the page's content. The page has been dropped from the cache.
    Corrupted(Mismatch),
}

/// Sets up the cache over the `slots.len()` pages of the file that `seed` determines. It is called
/// once, at boot.
pub(super) fn init(slots: &'static [PageSlot], seed: u64) {
    CACHE.call_once(|| Cache { slots, seed });
}

fn cache() -> &'static Cache {
    CACHE.get().expect("the page cache is used before mm::init")
}

/// Returns the number of pages in the file; indices are below it.
pub fn pages() -> u32 {
    cache().slots.len() as u32
}

/// Returns the number of pages in memory now. Any context may call it.
pub fn resident() -> usize {
    RESIDENT.iter().map(|n| n.load(Ordering::Relaxed)).sum()
}

/// Returns the number of pages in a zone now. Any context may call it.
pub fn resident_in_zone(zone: ZoneId) -> usize {
    RESIDENT[zone.index()].load(Ordering::Relaxed)
}

/// Returns the number of pages in zones of `node` up to `highest` now. Any context may call it.
pub(super) fn resident_in(node: NodeId, highest: ZoneKind) -> usize {
    ZoneKind::ALL
        .into_iter()
        .filter(|&kind| kind <= highest)
        .map(|kind| resident_in_zone(ZoneId::new(node, kind)))
        .sum()
}

/// Returns the frame that holds a page now, if the page is in memory. The result is a hint. Any
/// context may call it.
///
/// # Panics
///
/// Panics if `page` is not below [`pages`].
pub fn frame_of(page: u32) -> Option<Pfn> {
    cache().slots[page as usize].peek().pfn()
}

/// Returns what the cache has done so far. Any context may call it.
pub fn counters() -> Counters {
    Counters {
        hits: HITS.load(Ordering::Relaxed),
        filled: FILLED.load(Ordering::Relaxed),
        corrupted: CORRUPTED.load(Ordering::Relaxed),
        reclaimed: RECLAIMED.load(Ordering::Relaxed),
    }
}

/// Takes a page's lock, and waits for it if it is held.
fn lock(page: u32, task: &Task) -> Locked<'static> {
    let slot = &cache().slots[page as usize];
    let mut tries = 0;
    loop {
        if let Some(held) = slot.try_lock() {
            return held;
        }
        tries += 1;
        if tries < YIELDS {
            thread::yield_now(task);
        } else {
            thread::sleep_ns(task, PAGE_WAIT_NS);
        }
    }
}

fn owner(page: u32) -> Owner {
    Owner::new(OwnerKind::PageCache, page)
}

/// Adds `change` to the pages of the frame's zone. The frame is allocated, so its pageblock is in a
/// zone.
fn note_resident(pfn: Pfn, change: isize) {
    if let Some(zone) = frames().zone_of(pfn) {
        RESIDENT[zone.index()].fetch_add(change as usize, Ordering::Relaxed);
    }
}

/// Reads a page: checks the frame that holds it, or fills one.
///
/// # Errors
///
/// Returns [`ReadError`] if there is no frame, or if the content is wrong.
///
/// # Panics
///
/// Panics if `page` is not below [`pages`].
pub fn read(page: u32, task: &Task) -> Result<Lookup, ReadError> {
    read_traced(page, &mut WalkInfo::default(), task)
}

/// Does what [`read`] does, and records in `walk` what the request for a frame met, if one was
/// made.
///
/// # Errors
///
/// Returns [`ReadError`] if there is no frame, or if the content is wrong.
///
/// # Panics
///
/// Panics if `page` is not below [`pages`].
pub fn read_traced(page: u32, walk: &mut WalkInfo, task: &Task) -> Result<Lookup, ReadError> {
    let mut held = lock(page, task);
    if let Some(pfn) = held.pfn() {
        sweep::check_held(&mut held, page, pfn).map_err(ReadError::Corrupted)?;
        held.set_referenced();
        return Ok(Lookup::Hit);
    }
    let request = Request::movable(Order::ZERO).owned_by(owner(page));
    let mut block = frames()
        .alloc_traced(task, &request, walk)
        .map_err(ReadError::NoMemory)?;
    content::fill(cache().seed, page, direct_map::content_mut(&mut block));
    note_resident(block.pfn(), 1);
    held.put(block.leak());
    FILLED.fetch_add(1, Ordering::Relaxed);
    Ok(Lookup::Filled)
}

fn tell_corruption(mismatch: &Mismatch, pfn: Pfn) {
    let nth = CORRUPTED.fetch_add(1, Ordering::Relaxed);
    if nth < CORRUPTIONS_TOLD {
        warn!(
            "page {} is corrupt in frame {pfn}: word {} is {:#018x}, not {:#018x}",
            mismatch.page, mismatch.word, mismatch.found, mismatch.expected
        );
    }
}

/// Empties an entry and frees its frame. A page that was moved and not read since is compared
/// before. Returns whether the entry had a frame.
fn evict(held: &mut Locked<'_>, page: u32) -> bool {
    if let Some(pfn) = held.pfn()
        && held.clear_unread()
        && sweep::check_held(held, page, pfn).is_err()
    {
        // The comparison has reported the page, counted it, and dropped it.
        return true;
    }
    give_back(held)
}

/// Empties an entry and frees its frame. Returns whether a frame was freed.
fn give_back(held: &mut Locked<'_>) -> bool {
    let Some(handle) = held.take() else {
        return false;
    };
    note_resident(handle.pfn(), -1);
    match frames().adopt(handle) {
        Ok(block) => {
            drop(block);
            true
        }
        Err(handle) => {
            // The allocator reported the error; the frame is lost to the cache either way.
            warn!("page cache: frame {} is not allocated", handle.pfn());
            false
        }
    }
}

/// Drops a page from memory. Returns whether it was in memory.
///
/// # Panics
///
/// Panics if `page` is not below [`pages`].
pub fn drop_page(page: u32, task: &Task) -> bool {
    evict(&mut lock(page, task), page)
}

/// Frees up to `wanted` pages in zones of `node` up to `highest`, those not read lately first.
/// Returns how many it freed.
pub(super) fn shrink(node: NodeId, highest: ZoneKind, wanted: usize, _task: &Task) -> usize {
    let slots = cache().slots;
    let mut freed = 0;
    // The clock's hand goes round twice: the first pass may find every page referenced and only
    // clear that.
    for _ in 0..2 * slots.len() {
        if freed >= wanted || resident_in(node, highest) == 0 {
            break;
        }
        let page = HAND.fetch_add(1, Ordering::Relaxed) % slots.len();
        let slot = &slots[page];
        let Some(pfn) = slot.peek().pfn() else {
            continue;
        };
        let ours = |zone: ZoneId| zone.node() == node && zone.kind() <= highest;
        if !frames().zone_of(pfn).is_some_and(ours) {
            continue;
        }
        // Only a try, not a wait: the task may hold another page's lock, and allocate for it.
        let Some(mut held) = slot.try_lock() else {
            continue;
        };
        if held.pfn() != Some(pfn) || held.clear_referenced() {
            continue;
        }
        if evict(&mut held, page as u32) {
            freed += 1;
        }
    }
    RECLAIMED.fetch_add(freed as u64, Ordering::Relaxed);
    freed
}

/// Moves a page to another frame, of the same node if possible, and frees this one. `from` may have
/// changed hands meanwhile, which gives [`MigrateError::Busy`].
pub(super) fn migrate(from: Pfn, whose: Owner, task: &Task) -> Result<(), MigrateError> {
    if whose.kind() != OwnerKind::PageCache {
        return Err(MigrateError::Unmovable);
    }
    let page = whose.number();
    let slot = cache().slots.get(page as usize);
    // Only a try, not a wait: the holder may be waiting for memory, and the offline comes back to
    // the frame.
    let mut held = slot
        .ok_or(MigrateError::Unmovable)?
        .try_lock()
        .ok_or(MigrateError::Busy)?;
    if held.pfn() != Some(from) {
        // The page is being filled or dropped at this moment.
        return Err(MigrateError::Busy);
    }
    let zone = frames().zone_of(from).ok_or(MigrateError::Busy)?;
    let request = Request::movable(Order::ZERO)
        .owned_by(owner(page))
        .on_node(zone.node())
        .with(Gfp::NORETRY)
        .with(Gfp::NOWARN);
    let mut block = frames()
        .alloc(task, &request)
        .map_err(|_| MigrateError::Busy)?;
    // SAFETY: the cache owns `from`, which is allocated and so mapped; the page's lock keeps
    // writers away.
    let content = unsafe { direct_map::words(from) };
    direct_map::content_mut(&mut block).copy_from_slice(content);
    plant::corrupt_moved(&mut block);
    note_resident(block.pfn(), 1);
    // A fault in the old frame is in the copy as well, which is compared later.
    give_back(&mut held);
    held.put(block.leak());
    held.set_unread();
    Ok(())
}
