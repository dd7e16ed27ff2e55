//! The mistake that the zonelist protocol is to make, if the boot option `mistake` names one.

use core::sync::atomic::{AtomicU32, Ordering::*};
use tidemark_frames::Mistake;

/// The number of the mistake plus one, or 0.
static PLANTED: AtomicU32 = AtomicU32::new(0);

/// Plants a mistake for good. Before the first stage opens: boot makes none.
pub fn plant(mistake: Mistake) {
    PLANTED.store(mistake as u32 + 1, Relaxed);
}

/// Whether this mistake is planted. Any context.
pub fn is(mistake: Mistake) -> bool {
    PLANTED.load(Relaxed) == mistake as u32 + 1
}
