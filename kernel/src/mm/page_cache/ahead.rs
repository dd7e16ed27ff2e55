//! Reads several pages by one request: the block is split, and each frame becomes a page of its
//! own.

use super::{FILLED, cache, content, lock, note_resident, owner, pages};
use crate::mm::{direct_map, frames, platform::Kernel};
use core::sync::atomic::Ordering;
use tidemark_frames::{AllocError, Block, Order, Owner, Request};
use tidemark_sync::Task;

/// Reads as many pages as a block has frames, from `first` on, into one block that `request`
/// describes; the owner is the cache. Pages in memory already stay where they are, and the frames
/// for them are freed. Returns how many pages were filled.
///
/// # Errors
///
/// Returns the allocator's error if there is no block.
///
/// # Panics
///
/// Panics if a page is not below [`pages`].
pub fn read_ahead(first: u32, request: &Request, task: &Task) -> Result<u32, AllocError> {
    assert!(u64::from(first) + request.order().frames() <= u64::from(pages()));
    let whole = frames().alloc(task, &request.owned_by(Owner::NONE))?;
    // The upper halves that are still to be split, the lowest one last.
    let mut rest = [const { None }; Order::MAX.get() as usize + 1];
    rest[0] = Some(whole);
    let (mut height, mut page, mut filled) = (1, first, 0);
    while height > 0 {
        height -= 1;
        let Some(block) = rest[height].take() else {
            continue;
        };
        match block.split() {
            Ok((lower, upper)) => {
                rest[height] = Some(upper);
                rest[height + 1] = Some(lower);
                height += 2;
            }
            Err(single) => {
                filled += u32::from(place(page, single, task));
                page += 1;
            }
        }
    }
    Ok(filled)
}

/// Makes a frame the page `page`, unless that page is in memory; then the frame is freed. Returns
/// whether the frame became the page.
///
/// # Panics
///
/// Panics if `page` is not below [`pages`], or if `frame` is larger than a page.
pub fn place(page: u32, mut frame: Block<'static, 'static, Kernel>, task: &Task) -> bool {
    assert!(frame.order() == Order::ZERO);
    let mut held = lock(page, task);
    if held.pfn().is_some() {
        return false;
    }
    frame.set_owner(owner(page));
    content::fill(cache().seed, page, direct_map::content_mut(&mut frame));
    note_resident(frame.pfn(), 1);
    held.put(frame.leak());
    FILLED.fetch_add(1, Ordering::Relaxed);
    true
}
