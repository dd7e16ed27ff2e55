//! Going over the whole cache: at the end of a run, and for planted faults.

use super::{HITS, cache, content, evict, lock, tell_corruption};
use crate::mm::direct_map;
use core::sync::atomic::Ordering;
use tidemark_sync::Task;

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Pages that were in memory and were compared.
    pub checked: u64,
    /// Pages that were not what the file says.
    pub corrupted: u64,
}

/// Compares every page that is in memory with the file; fills nothing.
pub fn verify_all(task: &Task) -> Verified {
    let mut verified = Verified::default();
    for page in 0..cache().slots.len() as u32 {
        let mut held = lock(page, task);
        let Some(pfn) = held.pfn() else { continue };
        verified.checked += 1;
        // SAFETY: the cache owns the frame, which is allocated and so mapped; the page's lock keeps
        // writers away.
        let right = content::check(cache().seed, page, unsafe { direct_map::words(pfn) });
        match right {
            Ok(()) => {
                HITS.fetch_add(1, Ordering::Relaxed);
            }
            Err(mismatch) => {
                verified.corrupted += 1;
                tell_corruption(&mismatch, pfn);
                evict(&mut held);
            }
        }
    }
    verified
}

/// Gives every frame back. Returns how many there were.
pub fn drop_all(task: &Task) -> usize {
    (0..cache().slots.len() as u32)
        .filter(|&page| evict(&mut lock(page, task)))
        .count()
}

/// Changes a bit of a page in memory behind the cache's back, so that a test can see it found.
/// Returns the page, if any is in memory.
pub fn corrupt_one(task: &Task) -> Option<u32> {
    (0..cache().slots.len() as u32).find(|&page| {
        let held = lock(page, task);
        let Some(pfn) = held.pfn() else { return false };
        // SAFETY: the cache owns the frame; its lock keeps everybody else away.
        let words = unsafe { direct_map::words_mut(pfn) };
        words[17] ^= 1;
        true
    })
}
