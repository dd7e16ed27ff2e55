//! A short piece of text that options carry.

use tidemark_wire::PATTERN_BYTES;

/// A short piece of text, at most [`PATTERN_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    bytes: [u8; PATTERN_BYTES],
    len: u8,
}

impl Pattern {
    /// Matches everything.
    pub const EMPTY: Pattern = Pattern {
        bytes: [0; PATTERN_BYTES],
        len: 0,
    };

    pub(super) fn new(text: &str) -> Option<Self> {
        let mut pattern = Self::EMPTY;
        pattern
            .bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        pattern.len = text.len() as u8;
        Some(pattern)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("")
    }
}
