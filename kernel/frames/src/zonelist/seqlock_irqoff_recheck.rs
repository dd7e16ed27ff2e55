//! `seqlock-irqoff-recheck`: Linux commit e05741fb10c3 on top of 1007843a9190, as the stable series
//! 5.10, 5.15 and 6.1 have it.

use super::{
    BeginCookie, Lists, Protocol, Reader, RetryCheck, seqlock::Seqlock,
    seqlock_irqoff::SeqlockIrqoff,
};
use crate::base::{platform::Platform, request::Gfp};
use tidemark_sync::Cookie;

/// As `seqlock-irqoff`, but readers check at `retry`, too (H8). The lock validator is told of the
/// begin while the counter is still even, as in each release that has this check.
pub(crate) struct SeqlockIrqoffRecheck<P: Platform>(SeqlockIrqoff<P>);

impl<P: Platform> SeqlockIrqoffRecheck<P> {
    pub(super) fn new() -> Self {
        Self(SeqlockIrqoff::new())
    }
}

impl<P: Platform> Protocol<P> for SeqlockIrqoffRecheck<P> {
    fn begin(&self, gfp: Gfp, platform: &P) -> BeginCookie {
        self.0.begin(gfp, platform)
    }

    fn look(&self, reader: &Reader<'_>) -> RetryCheck {
        self.0.look(reader)
    }

    fn look_at_retry(&self, reader: &Reader<'_>) -> RetryCheck {
        self.0.look(reader)
    }

    fn rebuild(&self, lists: &Lists<'_, P>) {
        self.0.locked(lists, |count| {
            Seqlock::write_annotated_before(count, lists.platform, || lists.rewrite_in_place());
        });
    }

    fn observe(&self) -> Cookie {
        self.0.observe()
    }
}
