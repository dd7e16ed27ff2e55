//! `snapshot`: this project's own.

use super::{Begun, Lists, Look, Protocol, Reader};
use crate::{Gfp, Platform, mutant, mutant::Mutant};
use tidemark_sync::{
    Cookie, IrqSpinLock, Rank, SeqCount, Task,
    atomic::{AtomicBool, Ordering},
};

/// New lists are built beside the old ones and put in force by one store; nobody waits, and nobody
/// sees half a list. A reader is one walk: pinned, with the number of the lists loaded anew.
///
/// Writers are serialised by the hot-plug lock, whose waiters sleep. The lists that were replaced
/// are written again by the next rebuild, and that one waits for the grace period before it does:
/// what nobody needs yet, nobody waits for.
pub(crate) struct Snapshot<P: Platform> {
    /// For observers only.
    observed: SeqCount,
    writer: IrqSpinLock<(), P>,
    /// Whether somebody may still walk the spare lists. Under the hot-plug lock.
    spare_is_read: AtomicBool,
}

impl<P: Platform> Snapshot<P> {
    pub(super) fn new() -> Self {
        Self {
            observed: SeqCount::new(),
            writer: IrqSpinLock::new(Rank::ZonelistUpdate, ()),
            spare_is_read: AtomicBool::new(false),
        }
    }
}

impl<P: Platform> Protocol<P> for Snapshot<P> {
    fn begin(&self, _gfp: Gfp, _platform: &P) -> Begun {
        Begun::NOTHING
    }

    fn start(&self, _preferred: usize) -> usize {
        // No index is kept across walks: each one skips for itself what the request may not use.
        0
    }

    fn look(&self, reader: &Reader<'_>) -> Look {
        if reader.published.current() == reader.walked {
            Look::Unchanged
        } else {
            Look::WalkAgain
        }
    }

    fn prepare(&self, platform: &P, task: &Task) {
        if self.spare_is_read.load(Ordering::Relaxed) && !mutant::is(Mutant::ReuseWithoutGrace) {
            platform.synchronize(task);
        }
        self.spare_is_read.store(false, Ordering::Relaxed);
    }

    fn rebuild(&self, lists: &Lists<'_, P>) {
        assert!(
            !self.spare_is_read.load(Ordering::Relaxed),
            "a rebuild without its grace period"
        );
        self.observed.write(|| {
            lists.build_spare();
            // Interrupts are off for one store: the stretch does not grow with the nodes.
            let locked = self.writer.lock();
            lists.publish_spare();
            drop(locked);
        });
        self.spare_is_read.store(true, Ordering::Relaxed);
    }

    fn observe(&self) -> Cookie {
        self.observed.begin()
    }
}
