//! Runs of zeros in a word of bits.

use crate::base::types::Order;

/// Returns the mask of the `count` lowest zeros of `word`, or of all its zeros if there are fewer;
/// 0 for a `count` of 0.
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
        return (1 << count) - 1;
    }
    let mut rest = zeros;
    for _ in 0..count {
        rest &= rest - 1;
    }
    zeros & !rest
}

/// Returns the mask of a run at bit 0, order 0 to 6.
#[inline]
pub(crate) const fn run_mask(order: Order) -> u64 {
    u64::MAX >> (64 - order.frames())
}

/// Returns the first bits of the aligned runs of zeros in `word`, order 0 to 6.
#[inline]
pub(crate) fn aligned_runs(word: u64, order: Order) -> u64 {
    /// The last bit of each aligned run.
    const LASTS: [u64; 8] = [
        u64::MAX,
        0xaaaa_aaaa_aaaa_aaaa,
        0x8888_8888_8888_8888,
        0x8080_8080_8080_8080,
        0x8000_8000_8000_8000,
        0x8000_0000_8000_0000,
        1 << 63,
        0,
    ];
    let lasts = LASTS[order.get() as usize & 7];
    // To all bits of a run but the last, as many ones are added. The sum carries into the last bit
    // if any of them is set, and never out of the run.
    let carried = (word & !lasts).wrapping_add(!lasts);
    let zeros = !(carried | word) & lasts;
    zeros >> (order.frames() - 1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_zeros_are_as_many_as_wanted_or_all() {
        let mut random = 1_u64;
        for _ in 0..300 {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let some = [random, random | random >> 9, random & random << 5];
            for word in [0, 1, 1 << 63, u64::MAX, u64::MAX - 1]
                .into_iter()
                .chain(some)
            {
                for count in 0..=65 {
                    let zeros = (0..64).filter(|bit| word >> bit & 1 == 0);
                    let lowest = zeros.take(count as usize);
                    let expected = lowest.fold(0, |mask, bit| mask | 1 << bit);
                    assert_eq!(lowest_zeros(word, count), expected, "{word:#x} {count}");
                }
            }
        }
    }
}
