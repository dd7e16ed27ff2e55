//! `gfp-seqlock`: Tetsuo Handa's proposal of April 2023.

use super::{BeginCookie, Lists, Protocol, Reader, RetryCheck, seqlock::Seqlock};
use crate::base::{platform::Platform, request::Gfp};
use tidemark_sync::Cookie;

/// The writer of `seqlock`, but only requests that may reclaim take a cookie. They are tasks, which
/// cannot interrupt the writer. The others do not notice a rebuild (H1).
pub(crate) struct GfpSeqlock<P: Platform>(Seqlock<P>);

impl<P: Platform> GfpSeqlock<P> {
    pub(super) fn new() -> Self {
        Self(Seqlock::new())
    }
}

impl<P: Platform> Protocol<P> for GfpSeqlock<P> {
    fn begin(&self, gfp: Gfp, platform: &P) -> BeginCookie {
        if gfp.contains(Gfp::DIRECT_RECLAIM) {
            self.0.begin(gfp, platform)
        } else {
            BeginCookie::NOTHING
        }
    }

    fn look(&self, reader: &Reader<'_>) -> RetryCheck {
        if reader.gfp.contains(Gfp::DIRECT_RECLAIM) {
            Protocol::look(&self.0, reader)
        } else {
            RetryCheck::Unchanged
        }
    }

    fn rebuild(&self, lists: &Lists<'_, P>) {
        self.0.rebuild(lists);
    }

    fn observe(&self) -> Cookie {
        self.0.observe()
    }
}
