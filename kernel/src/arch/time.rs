//! Time since boot, from the TSC.

/// Returns nanoseconds since the TSC was calibrated (before that, 0). Any context, NMI included;
/// the same on all CPUs.
pub fn now_ns() -> u64 {
    0
}

/// Spins for `ns` nanoseconds.
pub fn spin_ns(ns: u64) {
    let _ = ns;
    todo!()
}

/// Spins until `condition` holds; returns false if it does not within `ns` nanoseconds.
pub fn spin_until(ns: u64, condition: impl FnMut() -> bool) -> bool {
    let _ = (ns, condition);
    todo!()
}
