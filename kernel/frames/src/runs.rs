//! Runs of zeros in a word of bits.

use crate::Order;

/// Mask of the `count` lowest zeros of `word`, or of all of them if there are fewer.
#[inline]
pub(crate) fn lowest_zeros(word: u64, count: u32) -> u64 {
    let zeros = !word;
    if count == 1 {
        return zeros & zeros.wrapping_neg();
    }
    if count >= 64 || zeros.count_ones() <= count {
        return zeros;
    }
    if word == 0 {
        return u64::MAX >> (64 - count);
    }
    let mut rest = zeros;
    for _ in 0..count {
        rest &= rest - 1;
    }
    zeros & !rest
}

/// Mask of a run at bit 0, order 0 to 6.
#[inline]
pub(crate) const fn run_mask(order: Order) -> u64 {
    u64::MAX >> (64 - order.frames())
}

/// First bits of the aligned runs of zeros in `word`, order 0 to 6.
#[inline]
pub(crate) fn aligned_runs(word: u64, order: Order) -> u64 {
    /// Bits at multiples of 2^order.
    const STARTS: [u64; 8] = [
        u64::MAX,
        0x5555_5555_5555_5555,
        0x1111_1111_1111_1111,
        0x0101_0101_0101_0101,
        0x0001_0001_0001_0001,
        0x0000_0001_0000_0001,
        1,
        0,
    ];
    let mut zeros = !word;
    for step in 0..order.get().min(6) {
        zeros &= zeros >> (1 << step);
    }
    zeros & STARTS[order.get() as usize & 7]
}

/// Bit of the lowest aligned run of zeros in `word`, order 1 to 6.
#[inline]
pub(crate) fn aligned_run(word: u64, order: Order) -> Option<u32> {
    let runs = aligned_runs(word, order);
    (runs != 0).then(|| runs.trailing_zeros())
}
