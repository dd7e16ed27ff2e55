//! `seqlock`: Linux commit 3d36424b3b58.

use super::{BeginCookie, Lists, Protocol, Reader, RetryCheck, write_counted};
use crate::base::{
    pin::Pinned,
    platform::{Platform, Point},
    request::Gfp,
};
use tidemark_sync::{Cookie, Rank, SeqCount, SpinLock};

/// `write_seqlock` with interrupts on. An interrupt that comes while the counter is odd, and makes
/// a request that reaches the slow path, waits for the code that it interrupted (H2).
pub(crate) struct Seqlock<P: Platform> {
    count: SeqCount,
    writer: SpinLock<P>,
}

impl<P: Platform> Seqlock<P> {
    pub(super) fn new() -> Self {
        Self {
            count: SeqCount::new(),
            writer: SpinLock::new(Rank::ZonelistUpdate),
        }
    }

    /// Compares the counter with the cookie, for this protocol and its successors.
    pub(super) fn compare(count: &SeqCount, reader: &Reader<'_>) -> RetryCheck {
        RetryCheck::restart_if(count.changed(reader.begun.cookie))
    }

    /// Runs the counter's part of `write_seqlock` around `rewrite`; the caller holds the lock. The
    /// lock validator is told of begin and end while the counter is odd.
    pub(super) fn write_annotated_inside(count: &SeqCount, platform: &P, rewrite: impl FnOnce()) {
        write_counted(count, platform, || {
            platform.point(Point::AnnotateBegin);
            rewrite();
            platform.point(Point::AnnotateEnd);
        });
    }

    /// Runs the same part with the lock validator told of the begin while the counter is even. It
    /// is told of the end while the counter is odd.
    pub(super) fn write_annotated_before(count: &SeqCount, platform: &P, rewrite: impl FnOnce()) {
        platform.point(Point::AnnotateBegin);
        write_counted(count, platform, || {
            rewrite();
            platform.point(Point::AnnotateEnd);
        });
    }
}

impl<P: Platform> Protocol<P> for Seqlock<P> {
    fn begin(&self, _gfp: Gfp, platform: &P) -> BeginCookie {
        BeginCookie::read_seqbegin(&self.count, platform)
    }

    fn look(&self, reader: &Reader<'_>) -> RetryCheck {
        Self::compare(&self.count, reader)
    }

    fn rebuild(&self, lists: &Lists<'_, P>) {
        let _pinned = Pinned::new(lists.platform);
        let _locked = self.writer.lock();
        Self::write_annotated_inside(&self.count, lists.platform, || lists.rewrite_in_place());
    }

    fn observe(&self) -> Cookie {
        self.count.begin()
    }
}
