//! Sweeps over the whole cache, at the end of a run and for planted faults.

use super::slot::Locked;
use super::{HITS, Mismatch, cache, content, evict, frames, give_back, lock, tell_corruption};
use crate::mm::direct_map;
use core::sync::atomic::Ordering;
use tidemark_frames::{FrameState, Pfn};
use tidemark_sync::Task;

/// The result of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Pages that were in memory and were compared.
    pub checked: u64,
    /// Pages that differed from the file.
    pub corrupted: u64,
}

/// Compares a page with the file if it is in memory; fills nothing. A page that differs is reported
/// and dropped from the cache.
///
/// # Panics
///
/// Panics if `page` is not below [`super::pages`].
pub fn check(page: u32, task: &Task) -> Option<Result<(), Mismatch>> {
    let mut held = lock(page, task);
    let pfn = held.pfn()?;
    Some(check_held(&mut held, page, pfn))
}

/// Compares a page that is in memory, under its lock.
pub(super) fn check_held(held: &mut Locked<'_>, page: u32, pfn: Pfn) -> Result<(), Mismatch> {
    held.clear_unread();
    // SAFETY: the cache owns the frame, which is allocated and so mapped. Code that writes to it
    // holds the page's lock, which the caller holds now.
    let right = content::check(cache().seed, page, unsafe { direct_map::words(pfn) });
    match &right {
        Ok(()) => {
            HITS.fetch_add(1, Ordering::Relaxed);
        }
        Err(mismatch) => {
            tell_corruption(mismatch, pfn);
            give_back(held);
        }
    }
    right
}

/// Compares every page that is in memory with the file; fills nothing.
pub fn verify_all(task: &Task) -> Verified {
    let mut verified = Verified::default();
    for right in (0..cache().slots.len() as u32).filter_map(|page| check(page, task)) {
        verified.checked += 1;
        verified.corrupted += u64::from(right.is_err());
    }
    verified
}

/// Compares every page that was moved and not compared since. A moved page that was dropped from
/// memory meanwhile was compared at that time. Returns how many were compared here.
pub fn verify_moved(task: &Task) -> usize {
    let moved = |page: &u32| cache().slots[*page as usize].peek().is_unread();
    (0..cache().slots.len() as u32)
        .filter(moved)
        .filter_map(|page| check(page, task))
        .count()
}

/// Frees the frame of every page. Returns how many there were.
pub fn drop_all(task: &Task) -> usize {
    (0..cache().slots.len() as u32)
        .filter(|&page| evict(&mut lock(page, task), page))
        .count()
}

/// Counts the pages in memory whose frames name them as owner. Returns nothing while any page is
/// locked, because its frame may be in neither place. It is called with the machine at rest.
pub fn count_at_rest() -> Option<u64> {
    let mut pages = 0;
    for (page, slot) in cache().slots.iter().enumerate() {
        let word = slot.peek();
        if word.locked() {
            return None;
        }
        let own = |pfn| match frames().frame_state(pfn) {
            FrameState::Allocated { owner, .. } => owner == super::owner(page as u32),
            _ => false,
        };
        pages += u64::from(word.pfn().is_some_and(own));
    }
    Some(pages)
}

/// Changes a bit of a page in memory behind the cache's back, so that a test can see it found.
/// Returns the page, or nothing if none is in memory.
pub fn corrupt_one(task: &Task) -> Option<u32> {
    (0..cache().slots.len() as u32).find(|&page| {
        let held = lock(page, task);
        let Some(pfn) = held.pfn() else { return false };
        // SAFETY: the cache owns the frame; the page's lock keeps all other code away.
        let words = unsafe { direct_map::words_mut(pfn) };
        words[17] ^= 1;
        true
    })
}
