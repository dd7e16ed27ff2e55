//! Signatures: words that the code that takes a frame writes into it, and the code that frees the
//! frame reads back.

use crate::mm::{self, KernelBlock};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tidemark_frames::Pfn;

/// Words between two signed words. There is one in each cache line, so that no line goes unread.
const STRIDE: usize = 8;
const WORDS_PER_FRAME: u64 = 512;

static CHECKED: AtomicU64 = AtomicU64::new(0);
static CORRUPTED: AtomicU64 = AtomicU64::new(0);

/// Returns the word that belongs at `word` of the block that starts at `pfn`, signed with `key`.
fn expected(pfn: Pfn, key: u64, word: usize) -> u64 {
    (pfn.0 << 20 ^ word as u64 ^ key.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Signs a block: one word in each of its cache lines. Any context may call it.
pub fn sign(block: &mut KernelBlock, key: u64) {
    let pfn = block.pfn();
    let words = mm::content_mut(block);
    for word in (0..words.len()).step_by(STRIDE) {
        words[word] = expected(pfn, key, word);
    }
}

/// Reads a block back and counts it as checked. If a word is not what [`sign`] wrote, prints that
/// and counts the block as corrupted. Any context but NMI may call it.
pub fn check(block: &KernelBlock, key: u64) {
    let pfn = block.pfn();
    let words = mm::content(block);
    CHECKED.fetch_add(words.len() as u64 / WORDS_PER_FRAME, Relaxed);
    let wrong = (0..words.len())
        .step_by(STRIDE)
        .find(|&word| words[word] != expected(pfn, key, word));
    if let Some(word) = wrong {
        CORRUPTED.fetch_add(1, Relaxed);
        crate::warn!(
            "demo: frame {pfn} order {}: word {word} is {:#x}, its owner wrote {:#x}",
            block.order(),
            words[word],
            expected(pfn, key, word)
        );
    }
}

/// Returns the number of frames read back so far.
pub fn checked() -> u64 {
    CHECKED.load(Relaxed)
}

/// Returns the number of blocks that were not what their owner had written.
pub fn corrupted() -> u64 {
    CORRUPTED.load(Relaxed)
}
