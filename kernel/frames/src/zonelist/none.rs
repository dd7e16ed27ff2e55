//! `none`: Linux before August 2022.

use super::{BeginCookie, Lists, Protocol, Reader, RetryCheck};
use crate::base::{
    pin::Pinned,
    platform::{Platform, Point},
    request::Gfp,
};
use tidemark_sync::{Cookie, Rank, SeqCount, SpinLock};

/// A plain spinlock serialises writers; readers check nothing.
pub(crate) struct Unprotected<P: Platform> {
    /// For observers only.
    observed: SeqCount,
    writer: SpinLock<P>,
}

impl<P: Platform> Unprotected<P> {
    pub(super) fn new() -> Self {
        Self {
            observed: SeqCount::new(),
            writer: SpinLock::new(Rank::ZonelistUpdate),
        }
    }
}

impl<P: Platform> Protocol<P> for Unprotected<P> {
    fn begin(&self, _gfp: Gfp, _platform: &P) -> BeginCookie {
        BeginCookie::NOTHING
    }

    fn look(&self, _reader: &Reader<'_>) -> RetryCheck {
        RetryCheck::Unchanged
    }

    fn rebuild(&self, lists: &Lists<'_, P>) {
        let _pinned = Pinned::new(lists.platform);
        // The lock validator is told only of the spinlock.
        lists.platform.point(Point::AnnotateBegin);
        let _locked = self.writer.lock();
        self.observed.write(|| lists.rewrite_in_place());
        lists.platform.point(Point::AnnotateEnd);
    }

    fn observe(&self) -> Cookie {
        self.observed.begin()
    }
}
