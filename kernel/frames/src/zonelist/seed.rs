//! `seed`: Tetsuo Handa's proposal of July 2023, and the default.

use super::{BeginCookie, Lists, Protocol, Reader, RetryCheck, write_counted};
use crate::base::{
    platform::{Platform, Point},
    request::Gfp,
};
use tidemark_sync::{Cookie, IrqSpinLock, Rank, SeqCount};

/// The writer holds a private spinlock with interrupts off, and makes a bare counter odd. A reader
/// reads the counter at its begin and never waits. Only a request that may reclaim checks it again.
pub(crate) struct Seed<P: Platform> {
    counter: SeqCount,
    writer: IrqSpinLock<(), P>,
}

impl<P: Platform> Seed<P> {
    pub(super) fn new() -> Self {
        Self {
            counter: SeqCount::new(),
            writer: IrqSpinLock::new(Rank::ZonelistUpdate, ()),
        }
    }
}

impl<P: Platform> Protocol<P> for Seed<P> {
    fn begin(&self, _gfp: Gfp, _platform: &P) -> BeginCookie {
        BeginCookie::at_once(&self.counter)
    }

    fn look(&self, reader: &Reader<'_>) -> RetryCheck {
        let looks = reader.gfp.contains(Gfp::DIRECT_RECLAIM);
        RetryCheck::restart_if(looks && self.counter.changed_or_odd(reader.begun.cookie))
    }

    fn rebuild(&self, lists: &Lists<'_, P>) {
        // The lock validator is told of the spinlock, by its lock and its unlock. The counter is
        // even both times.
        lists.platform.point(Point::AnnotateBegin);
        let _locked = self.writer.lock();
        lists.timed(|| {
            write_counted(&self.counter, lists.platform, || lists.rewrite_in_place());
        });
        lists.platform.point(Point::AnnotateEnd);
    }

    fn observe(&self) -> Cookie {
        self.counter.begin()
    }
}
