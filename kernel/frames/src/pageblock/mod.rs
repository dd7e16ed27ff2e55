//! 2 MiB of memory: its bits, its state, whose it is, and the table of the memory's books.

pub(crate) mod area;
pub(crate) mod books;
pub(crate) mod home;
pub(crate) mod memory;
pub(crate) mod migrate_type;
pub(crate) mod runs;
pub(crate) mod state;
