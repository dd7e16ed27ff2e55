//! A fault planted on purpose: a page that changes while it is moved.

use crate::mm::{direct_map, platform::Kernel};
use crate::warn;
use core::sync::atomic::{AtomicBool, Ordering};
use tidemark_frames::Block;

/// Whether the next page that is moved is to be changed.
static IS_PLANTED: AtomicBool = AtomicBool::new(false);

/// Plants the fault: a bit changes in the copy of the next page that is moved.
pub fn corrupt_next_moved() {
    IS_PLANTED.store(true, Ordering::Relaxed);
}

/// Changes a bit of the first copy that comes along, if the fault is planted.
pub(super) fn corrupt_moved(copy: &mut Block<'static, 'static, Kernel>) {
    if IS_PLANTED.load(Ordering::Relaxed) && IS_PLANTED.swap(false, Ordering::Relaxed) {
        warn!("planted: the copy in frame {} is overwritten", copy.pfn());
        direct_map::content_mut(copy)[17] ^= 1;
    }
}
