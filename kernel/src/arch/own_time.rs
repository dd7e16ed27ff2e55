//! The time of a CPU without that of its instruments: hooks at schedule points, and NMIs.
//!
//! The demonstration sends interrupts and an NMI from inside a section, and wants to know how long
//! the section takes. The time for sending is left out here, so that the section alone is measured.

use super::{MAX_CPUS, cpu_id, time};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Nanoseconds that each CPU has spent in what is left out. Only that CPU adds to them. An NMI may
/// come between any two instructions, hence the read-modify-write.
static LEFT_OUT_NS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Returns the time since boot, in nanoseconds, less what [`leaving_out`] has left out on the
/// running CPU. The caller stays on its CPU between two readings. Any context may call it.
pub fn now_ns() -> u64 {
    // The order of the two reads matters. An NMI between them makes the result too large by that
    // NMI's time. The difference of two readings is then wrong by no more than that.
    let left_out = LEFT_OUT_NS[cpu_id().0].load(Relaxed);
    time::now_ns().saturating_sub(left_out)
}

/// Runs `instrument`, whose time [`now_ns`] then leaves out. Another instrument may interrupt it;
/// the time of that one counts once. The caller stays on its CPU. Any context may call it.
pub fn leaving_out<R>(instrument: impl FnOnce() -> R) -> R {
    let begun_ns = now_ns();
    let result = instrument();
    let took_ns = now_ns().saturating_sub(begun_ns);
    LEFT_OUT_NS[cpu_id().0].fetch_add(took_ns, Relaxed);
    result
}
