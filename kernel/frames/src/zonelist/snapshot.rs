//! `snapshot`: this project's own protocol.

use super::{BeginCookie, Lists, Protocol, Reader, RetryCheck};
use crate::base::{
    mistake::Mistake,
    mutant::{self, Mutant},
    platform::{Platform, Point},
    request::Gfp,
};
use tidemark_sync::{
    Cookie, IrqSpinLock, Rank, SeqCount, Task,
    atomic::{AtomicBool, Ordering},
};

/// New lists are built beside the old ones and put in force by one store. No reader waits, and none
/// sees half a list. A reader is one pinned walk, which loads the number of the lists in force.
///
/// The hot-plug lock, which sleeps, serialises writers. A grace period begins after lists were
/// replaced. The next rebuild writes over the replaced lists, and so waits for its end. It does not
/// wait for walks that began later.
pub(crate) struct Snapshot<P: Platform> {
    /// For observers only.
    observed: SeqCount,
    writer: IrqSpinLock<(), P>,
    /// Whether lists were replaced and no grace period has begun since. The hot-plug lock protects
    /// it.
    grace_is_due: AtomicBool,
}

impl<P: Platform> Snapshot<P> {
    pub(super) fn new() -> Self {
        Self {
            observed: SeqCount::new(),
            writer: IrqSpinLock::new(Rank::ZonelistUpdate, ()),
            grace_is_due: AtomicBool::new(false),
        }
    }
}

impl<P: Platform> Protocol<P> for Snapshot<P> {
    fn begin(&self, _gfp: Gfp, _platform: &P) -> BeginCookie {
        BeginCookie::NOTHING
    }

    fn remembers_start(&self) -> bool {
        // No position is kept across walks: each walk skips the entries that the request may not
        // use.
        false
    }

    fn look(&self, reader: &Reader<'_>) -> RetryCheck {
        if reader.published.current() == reader.walked {
            RetryCheck::Unchanged
        } else {
            RetryCheck::WalkAgain
        }
    }

    fn prepare(&self, platform: &P, task: &Task) {
        // The rebuild at boot could not begin a grace period.
        if self.grace_is_due.load(Ordering::Relaxed) {
            self.finish(platform, task);
        }
        if !mutant::is(Mutant::ReuseWithoutGrace) && !platform.planted(Mistake::NoGrace) {
            platform.wait_for_grace(task);
        }
    }

    fn finish(&self, platform: &P, task: &Task) {
        platform.begin_grace(task);
        self.grace_is_due.store(false, Ordering::Relaxed);
    }

    fn rebuild(&self, lists: &Lists<'_, P>) {
        assert!(
            !self.grace_is_due.load(Ordering::Relaxed),
            "a rebuild without its grace period"
        );
        let is_early = lists.platform.planted(Mistake::PublishedEarly);
        self.observed.write(|| {
            if !is_early {
                lists.build_spare();
            }
            // The lock validator is told only of the spinlock.
            lists.platform.point(Point::AnnotateBegin);
            // Interrupts are off for one store, so the stretch does not grow with the number of
            // nodes.
            let locked = self.writer.lock();
            lists.timed(|| lists.publish_spare());
            lists.platform.point(Point::AnnotateEnd);
            drop(locked);
            if is_early {
                lists.build_published();
            }
        });
        self.grace_is_due.store(true, Ordering::Relaxed);
    }

    fn observe(&self) -> Cookie {
        self.observed.begin()
    }
}
