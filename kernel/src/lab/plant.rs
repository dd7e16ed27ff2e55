//! The mistake that the zonelist protocol is to make, if the boot option `mistake` names one.

use crate::options::{self, Plant};
use core::sync::atomic::{AtomicU32, Ordering::*};
use tidemark_frames::Mistake::{self, NoCheckAtNopage, NoCheckAtRetry, NoCheckBeforeOom};

/// The number of the mistake plus 1, or 0 for none.
static PLANTED: AtomicU32 = AtomicU32::new(0);

/// Plants a mistake for good. It is called before the first stage opens: boot itself makes no
/// mistakes.
pub fn plant(mistake: Mistake) {
    PLANTED.store(mistake as u32 + 1, Relaxed);
}

/// Returns whether this mistake is planted, alone or as one of those that the option
/// `plant=no-check` stands for. Any context may call it.
pub fn is(mistake: Mistake) -> bool {
    let is_check = matches!(mistake, NoCheckAtNopage | NoCheckAtRetry | NoCheckBeforeOom);
    is_check && options::get().plant == Some(Plant::NoCheck)
        || PLANTED.load(Relaxed) == mistake as u32 + 1
}
