//! Code that looks at the whole allocator: recounts, and tables for people.

pub(crate) mod buddy;
pub(crate) mod stats;
pub(crate) mod validate;
