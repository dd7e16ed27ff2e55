//! `seqlock-irqsave`: Linux commit a2ebb5157582.

use super::{BeginCookie, Lists, Protocol, Reader, RetryCheck, seqlock::Seqlock};
use crate::base::{mistake::Mistake, pin::Pinned, platform::Platform, request::Gfp};
use tidemark_sync::{Cookie, IrqSpinLock, Rank, SeqCount};

/// `write_seqlock_irqsave`, with the console deferred inside. The lock validator is told when the
/// counter is odd already and the console not yet deferred (H5).
pub(crate) struct SeqlockIrqsave<P: Platform> {
    count: SeqCount,
    writer: IrqSpinLock<(), P>,
}

impl<P: Platform> SeqlockIrqsave<P> {
    pub(super) fn new() -> Self {
        Self {
            count: SeqCount::new(),
            writer: IrqSpinLock::new(Rank::ZonelistUpdate, ()),
        }
    }
}

impl<P: Platform> Protocol<P> for SeqlockIrqsave<P> {
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
        lists.timed(|| {
            Seqlock::write_annotated_inside(&self.count, lists.platform, || {
                lists.deferring_console(&mut || lists.rewrite_in_place());
            });
        });
    }

    fn observe(&self) -> Cookie {
        self.count.begin()
    }
}
