//! Errors of frees: all are counted, and the last ones are kept for later queries.

use core::sync::atomic::{AtomicU64, Ordering};
use tidemark_frames::{FreeError, FreeFault, Order, Pfn};

/// Number of errors that are kept.
pub const KEPT: usize = 16;

/// The part of an error that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What was wrong.
    pub fault: FreeFault,
    /// The frame.
    pub pfn: Pfn,
    /// Order that the caller gave.
    pub order: Order,
}

static TOTAL: AtomicU64 = AtomicU64::new(0);
static LAST: [AtomicU64; KEPT] = [const { AtomicU64::new(0) }; KEPT];

const FAULTS: [FreeFault; 6] = [
    FreeFault::DoubleFree,
    FreeFault::DoubleFreeCached,
    FreeFault::WrongOrder,
    FreeFault::Foreign,
    FreeFault::CacheCorrupt,
    FreeFault::BitsClear,
];

/// Counts and keeps an error; the platform calls it for each one. Any context may call it.
pub fn record(error: &FreeError) {
    let fault = FAULTS
        .iter()
        .position(|&fault| fault == error.fault)
        .unwrap_or(0);
    let packed = error.pfn.0 << 8 | u64::from(error.order.get()) << 4 | (fault as u64 + 1);
    let at = TOTAL.fetch_add(1, Ordering::Relaxed);
    LAST[at as usize % KEPT].store(packed, Ordering::Relaxed);
}

/// Returns the number of errors since boot. A kernel without bugs has only those that tests
/// provoke.
pub fn total() -> u64 {
    TOTAL.load(Ordering::Relaxed)
}

/// Returns the error of this number, from 0, if it is among the last [`KEPT`].
pub fn get(number: u64) -> Option<Kept> {
    let age = total().checked_sub(number)?;
    if age == 0 || age > KEPT as u64 {
        return None;
    }
    let packed = LAST[number as usize % KEPT].load(Ordering::Relaxed);
    let fault = (packed & 0xf).checked_sub(1)?;
    Some(Kept {
        fault: *FAULTS.get(fault as usize)?,
        pfn: Pfn(packed >> 8),
        order: Order::new((packed >> 4 & 0xf) as u8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_frames::{CpuId, FrameState};

    #[test]
    fn the_last_errors_are_kept_and_older_ones_counted() {
        for number in 0..20 {
            assert_eq!(get(number), None);
            record(&FreeError {
                fault: FAULTS[number as usize % 6],
                pfn: Pfn(0x123_4567 + number),
                order: Order::MAX,
                found: FrameState::Free,
                cpu: CpuId(3),
            });
            assert_eq!(
                get(number),
                Some(Kept {
                    fault: FAULTS[number as usize % 6],
                    pfn: Pfn(0x123_4567 + number),
                    order: Order::MAX,
                })
            );
        }
        assert_eq!(total(), 20);
        assert_eq!(get(3), None);
        assert!(get(4).is_some());
    }
}
