//! Time of a CPU without its instruments: hooks at schedule points, and NMIs.
//!
//! The demonstration sends interrupts and an NMI from inside the section that it wants to know the
//! length of. What it takes for that is left out here, so that the section alone is measured.

use super::{MAX_CPUS, cpu_id, time};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Nanoseconds that each CPU has spent in what is left out. Only that CPU adds, and an NMI may come
/// between any two instructions, hence the additions.
static LEFT_OUT_NS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Returns the time since boot less what [`leaving_out`] has left out on the running CPU, in
/// nanoseconds. The caller stays on its CPU between two readings. Any context.
pub fn now_ns() -> u64 {
    // In this order: an NMI between the two makes the result too large, never the difference of two
    // readings negative by more than that NMI.
    let left_out = LEFT_OUT_NS[cpu_id().0].load(Relaxed);
    time::now_ns().saturating_sub(left_out)
}

/// Runs `instrument`, whose time [`now_ns`] then leaves out. It may be interrupted by another one,
/// whose time counts once. The caller stays on its CPU. Any context.
pub fn leaving_out<R>(instrument: impl FnOnce() -> R) -> R {
    let begun_ns = now_ns();
    let result = instrument();
    let took_ns = now_ns().saturating_sub(begun_ns);
    LEFT_OUT_NS[cpu_id().0].fetch_add(took_ns, Relaxed);
    result
}
