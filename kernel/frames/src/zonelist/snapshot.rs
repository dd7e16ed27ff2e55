//! `snapshot`: this project's own.

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

/// New lists are built beside the old ones and put in force by one store; nobody waits, and nobody
/// sees half a list. A reader is one walk: pinned, with the number of the lists loaded anew.
///
/// Writers are serialised by the hot-plug lock, whose waiters sleep. A grace period begins when
/// lists were replaced, and the next rebuild, which writes where they are, waits for its end:
/// readers that came later are not waited for, and nobody waits before there is a need.
pub(crate) struct Snapshot<P: Platform> {
    /// For observers only.
    observed: SeqCount,
    writer: IrqSpinLock<(), P>,
    /// Whether lists were replaced and no grace period begun since. Under the hot-plug lock.
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
        // No position is kept across walks: each one skips for itself what the request may not use.
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
        // At boot no grace period could be begun.
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
            // The lock validator knows the spinlock only.
            lists.platform.point(Point::AnnotateBegin);
            // Interrupts are off for one store: the stretch does not grow with the nodes.
            let locked = self.writer.lock();
            lists.interrupts_off(|| lists.publish_spare());
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
