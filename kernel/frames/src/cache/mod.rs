//! What each CPU has for itself: caches of single frames and of larger blocks, and counters.

pub(crate) mod batch;
pub(crate) mod blocks;
pub(crate) mod cpu;
pub(crate) mod events;
pub(crate) mod free;
pub(crate) mod pcp;
pub(crate) mod stack;
