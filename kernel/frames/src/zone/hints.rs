//! Where a CPU's searches begin.

use crate::{
    base::types::{MAX_ZONES, ZoneId},
    pageblock::migrate_type::{CACHED_KINDS, SIZES},
};
use core::array;
use tidemark_sync::atomic::{AtomicU32, Ordering};

/// Where a CPU's searches of a zone begin: the pageblock that gave last. Own CPU only; a stale
/// value costs time, nothing else.
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
    /// Of searches below an order of 9, by migrate type and size.
    pub(super) small: [[Hints; SIZES]; CACHED_KINDS],
    /// Of searches for whole pageblocks.
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
