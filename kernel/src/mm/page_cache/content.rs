//! The synthetic file. Every word of every page can be computed, so reading a page back shows any
//! loss, mix-up or corruption.

/// 64-bit words in a page.
pub const WORDS: usize = 512;

/// The place where a page differs from the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Page index in the file.
    pub page: u32,
    /// Index of the first word that differs.
    pub word: u16,
    /// The word in the file.
    pub expected: u64,
    /// The word in the frame.
    pub found: u64,
}

/// Mixes 64 bits (the finaliser of SplitMix64): each bit of the input affects every bit of the
/// result.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Returns the words of one page. One multiplication a page and one addition a word keep filling
/// cheap under emulation; pages and words still differ from each other.
fn words(seed: u64, page: u32) -> impl Iterator<Item = u64> {
    let base = mix(seed ^ mix(u64::from(page) + 1));
    let step = mix(base) | 1;
    (0..WORDS as u64).scan(base, move |word, _| {
        let now = *word;
        *word = word.wrapping_add(step);
        Some(now)
    })
}

/// Writes a page of the file.
pub fn fill(seed: u64, page: u32, frame: &mut [u64]) {
    for (slot, word) in frame.iter_mut().zip(words(seed, page)) {
        *slot = word;
    }
}

/// Compares a frame with a page of the file.
pub fn check(seed: u64, page: u32, frame: &[u64; WORDS]) -> Result<(), Mismatch> {
    for (at, (&found, expected)) in frame.iter().zip(words(seed, page)).enumerate() {
        if found != expected {
            return Err(Mismatch {
                page,
                word: at as u16,
                expected,
                found,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(seed: u64, index: u32) -> [u64; WORDS] {
        let mut frame = [0; WORDS];
        fill(seed, index, &mut frame);
        frame
    }

    #[test]
    fn a_page_equals_itself() {
        assert_eq!(check(7, 3, &page(7, 3)), Ok(()));
    }

    #[test]
    fn another_page_or_seed_is_seen_at_the_first_word() {
        for (seed, index) in [(7, 2), (7, 4), (8, 3)] {
            let wrong = check(7, 3, &page(seed, index)).unwrap_err();
            assert_eq!((wrong.page, wrong.word), (3, 0));
        }
    }

    #[test]
    fn one_flipped_bit_is_found() {
        let mut frame = page(1, 1);
        frame[511] ^= 1 << 40;
        let wrong = check(1, 1, &frame).unwrap_err();
        assert_eq!(wrong.word, 511);
        assert_eq!(wrong.expected ^ wrong.found, 1 << 40);
    }

    #[test]
    fn a_zeroed_frame_is_never_right() {
        for index in 0..1000 {
            assert!(check(0, index, &[0; WORDS]).is_err());
        }
    }
}
