//! Zones: free counters, marks, reserves.

use tidemark_sync::atomic::AtomicU32;

/// One zone's counters and marks. Atomics only: zeroed memory is a valid value.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Zone {
    _todo: AtomicU32,
}

impl Zone {
    /// Returns an empty zone.
    pub fn new() -> Self {
        Self {
            _todo: AtomicU32::new(0),
        }
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::new()
    }
}
