//! `seqlock-irqoff`: Linux commit 1007843a9190.

use super::{BeginCookie, Lists, Protocol, Reader, RetryCheck, seqlock::Seqlock};
use crate::base::{mistake::Mistake, pin::Pinned, platform::Platform, request::Gfp};
use tidemark_sync::{Cookie, IrqOff, Rank, SeqCount, SpinLock};

/// First interrupts go off, so that no handler on the writer's CPU meets an odd counter (H2). Then
/// the console is deferred, so that nothing under it waits for the port (H3, H5). Then comes
/// `write_seqlock`. Its lock may be one that sleeps, with interrupts off (H4).
pub(crate) struct SeqlockIrqoff<P: Platform> {
    count: SeqCount,
    writer: SpinLock<P>,
}

impl<P: Platform> SeqlockIrqoff<P> {
    pub(super) fn new() -> Self {
        Self {
            count: SeqCount::new(),
            writer: SpinLock::new(Rank::ZonelistUpdate),
        }
    }

    /// Runs `write` under the lock, with interrupts off and the console deferred around the lock.
    pub(super) fn locked(&self, lists: &Lists<'_, P>, write: impl Fn(&SeqCount)) {
        let (_pinned, leaves_on) = (Pinned::new(lists.platform), Mistake::InterruptsOn);
        let _irq_off = (!lists.platform.planted(leaves_on)).then(IrqOff::<P>::new);
        lists.timed(|| {
            lists.deferring_console(&mut || {
                let _locked = self.writer.lock();
                write(&self.count);
            });
        });
    }
}

impl<P: Platform> Protocol<P> for SeqlockIrqoff<P> {
    fn begin(&self, _gfp: Gfp, platform: &P) -> BeginCookie {
        BeginCookie::read_seqbegin(&self.count, platform)
    }

    fn look(&self, reader: &Reader<'_>) -> RetryCheck {
        Seqlock::<P>::compare(&self.count, reader)
    }

    fn rebuild(&self, lists: &Lists<'_, P>) {
        self.locked(lists, |count| {
            Seqlock::write_annotated_inside(count, lists.platform, || lists.rewrite_in_place());
        });
    }

    fn observe(&self) -> Cookie {
        self.count.begin()
    }
}
