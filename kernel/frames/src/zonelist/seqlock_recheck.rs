//! `seqlock-recheck`: Linux commit e05741fb10c3, in Linux 6.15.

use super::{
    BeginCookie, Lists, Protocol, Reader, RetryCheck, seqlock_annotated::SeqlockAnnotated,
};
use crate::base::{platform::Platform, request::Gfp};
use tidemark_sync::Cookie;

/// As `seqlock-annotated`, but readers check at `retry`, too. So no request goes round for ever
/// from a start that has become stale (H8).
pub(crate) struct SeqlockRecheck<P: Platform>(SeqlockAnnotated<P>);

impl<P: Platform> SeqlockRecheck<P> {
    pub(super) fn new() -> Self {
        Self(SeqlockAnnotated::new())
    }
}

impl<P: Platform> Protocol<P> for SeqlockRecheck<P> {
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
        self.0.rebuild(lists);
    }

    fn observe(&self) -> Cookie {
        self.0.observe()
    }
}
