//! `seqlock-annotated`: Linux commit 41b43b6c6e30.

use super::{BeginCookie, Lists, Protocol, Reader, RetryCheck, seqlock::Seqlock};
use crate::base::{mistake::Mistake, pin::Pinned, platform::Platform, request::Gfp};
use tidemark_sync::{Cookie, IrqSpinLock, Rank, SeqCount};

/// As `seqlock-irqsave`, but the lock validator is told of the begin while the counter is still
/// even. It is told of the end while the counter is odd and the console no longer deferred, which
/// is half of H5.
pub(crate) struct SeqlockAnnotated<P: Platform> {
    pub(super) count: SeqCount,
    writer: IrqSpinLock<(), P>,
}

impl<P: Platform> SeqlockAnnotated<P> {
    pub(super) fn new() -> Self {
        Self {
            count: SeqCount::new(),
            writer: IrqSpinLock::new(Rank::ZonelistUpdate, ()),
        }
    }
}

impl<P: Platform> Protocol<P> for SeqlockAnnotated<P> {
    fn begin(&self, _gfp: Gfp, platform: &P) -> BeginCookie {
        BeginCookie::read_seqbegin(&self.count, platform)
    }

    fn look(&self, reader: &Reader<'_>) -> RetryCheck {
        Seqlock::<P>::compare(&self.count, reader)
    }

    fn rebuild(&self, lists: &Lists<'_, P>) {
        // The hot-plug lock serialises writers as well, so the mistake concerns interrupts alone.
        let (_pinned, leaves_on) = (Pinned::new(lists.platform), Mistake::InterruptsOn);
        let _locked = (!lists.platform.planted(leaves_on)).then(|| self.writer.lock());
        let rewrite = || lists.deferring_console(&mut || lists.rewrite_in_place());
        let is_late = lists.platform.planted(Mistake::AnnotatedInside);
        lists.timed(|| {
            if is_late {
                Seqlock::write_annotated_inside(&self.count, lists.platform, rewrite);
            } else {
                Seqlock::write_annotated_before(&self.count, lists.platform, rewrite);
            }
        });
    }

    fn observe(&self) -> Cookie {
        self.count.begin()
    }
}
