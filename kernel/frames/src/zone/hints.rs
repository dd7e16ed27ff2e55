//! The pageblocks at which a CPU's searches begin.

use crate::{
    base::types::{MAX_ZONES, ZoneId},
    pageblock::migrate_type::{CACHED_KINDS, SIZES},
};
use core::array;
use tidemark_sync::atomic::{AtomicU32, Ordering};

/// For each zone, the pageblock that gave last, at which a CPU's next search begins. Only the CPU
/// itself uses it. A stale value costs only time.
#[derive(Debug)]
pub(crate) struct Hints([AtomicU32; MAX_ZONES]);

impl Hints {
    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| AtomicU32::new(0)))
    }

    #[inline]
    pub(super) fn get(&self, zone: ZoneId) -> u64 {
        u64::from(self.0[zone.index()].load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn set(&self, zone: ZoneId, pageblock: u64) {
        self.0[zone.index()].store(pageblock as u32, Ordering::Relaxed);
    }
}

/// All hints of a CPU.
#[derive(Debug)]
pub(crate) struct CpuHints {
    /// For searches of orders 0 to 8, by migrate type and size class.
    pub(super) small: [[Hints; SIZES]; CACHED_KINDS],
    /// For searches of whole pageblocks.
    pub(super) huge: Hints,
}

impl CpuHints {
    pub(crate) fn new() -> Self {
        Self {
            small: array::from_fn(|_| array::from_fn(|_| Hints::new())),
            huge: Hints::new(),
        }
    }
}
