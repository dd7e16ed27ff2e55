//! Warnings of failed requests, at a limited rate: ten in five seconds, then a count of the others.

use super::report;
use crate::arch::time::now_ns;
use crate::{console::Level, debug, warn};
use core::sync::atomic::{AtomicU64, Ordering};
use tidemark_frames::{AllocReport, Gfp};
use tidemark_sync::{ContextKind, RateLimit, Say};

const BURST: u8 = 10;
const INTERVAL_MS: u32 = 5_000;

static FAILURES: AtomicU64 = AtomicU64::new(0);
static TOLD: AtomicU64 = AtomicU64::new(0);
static TOLD_AS_COUNT: AtomicU64 = AtomicU64::new(0);
static LIMIT: RateLimit = RateLimit::new(BURST, INTERVAL_MS);

/// Returns the number of failed requests without NOWARN so far, whether printed or not. Any context
/// may call it.
pub fn alloc_failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

/// Returns how many of them were printed one by one, and how many as part of a count. Any context
/// may call it.
pub fn told() -> (u64, u64) {
    (
        TOLD.load(Ordering::Relaxed),
        TOLD_AS_COUNT.load(Ordering::Relaxed),
    )
}

/// Prints a failed request, unless the rate limit keeps it back. Takes no lock. Any context may
/// call it.
pub(super) fn failed(report: &AllocReport, context: ContextKind) {
    FAILURES.fetch_add(1, Ordering::Relaxed);
    let who = report::Requester(report, context);
    let Say::Now { suppressed } = LIMIT.ask(now_ns()) else {
        debug!("allocation failed: {who}");
        return;
    };
    say_suppressed(suppressed);
    TOLD.fetch_add(1, Ordering::Relaxed);
    warn!("allocation failed: {who}");
    // A request that cannot wait gets one line for all zones.
    if context == ContextKind::Task && report.gfp.contains(Gfp::DIRECT_RECLAIM) {
        report::zones(Level::Info);
    } else {
        warn!("allocation failed: {}", report::FreeAndMin);
    }
}

/// Prints how many failures were kept back in an interval that is over, because no later failure
/// may come to report them. It is called from time to time. Any context may call it.
pub fn flush() {
    say_suppressed(LIMIT.flush(now_ns()).unwrap_or(0));
}

/// Prints how many failures were kept back and not reported, in whichever interval, because no
/// later call may come. Any context may call it.
pub fn flush_at_end() {
    say_suppressed(LIMIT.flush(u64::MAX).unwrap_or(0));
}

fn say_suppressed(suppressed: u32) {
    if suppressed > 0 {
        TOLD_AS_COUNT.fetch_add(suppressed.into(), Ordering::Relaxed);
        warn!("allocation failed: {suppressed} more requests, not told one by one");
    }
}
