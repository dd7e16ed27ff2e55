//! 2 MiB of memory: its bits, its state, whose it is, and the table of the memory's books.

pub(crate) mod bits;
pub(crate) mod books;
pub(crate) mod flags;
pub(crate) mod migrate_type;
pub(crate) mod runs;
pub(crate) mod section_meta;
pub(crate) mod state;
