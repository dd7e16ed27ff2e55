//! The page cache: movable frames that hold pages of a synthetic file.

mod content;
mod slot;

pub use content::{Mismatch, WORDS, check, fill};
pub use slot::{Locked, PageSlot, Word};
