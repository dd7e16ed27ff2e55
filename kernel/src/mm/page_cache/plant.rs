//! A fault on purpose: a page that changes while it is moved.

use crate::mm::{direct_map, platform::Kernel};
use crate::options::{self, Plant};
use crate::warn;
use core::sync::atomic::{AtomicBool, Ordering};
use tidemark_frames::Block;

/// Set when the one page has been changed.
static DONE: AtomicBool = AtomicBool::new(false);

/// Changes a bit of the first copy that comes along, if this run is to have that fault.
pub(super) fn corrupt_moved(copy: &mut Block<'static, 'static, Kernel>) {
    let is_planted = options::get().plant == Some(Plant::CorruptMigrated);
    if is_planted && !DONE.swap(true, Ordering::Relaxed) {
        warn!("planted: the copy in frame {} is overwritten", copy.pfn());
        direct_map::content_mut(copy)[17] ^= 1;
    }
}
