//! Pageblocks of 2 MiB: bits, state and flags of each, and the table of the memory sections' books.

pub(crate) mod bits;
pub(crate) mod books;
pub(crate) mod flags;
pub(crate) mod migrate_type;
pub(crate) mod runs;
pub(crate) mod section_meta;
pub(crate) mod state;
