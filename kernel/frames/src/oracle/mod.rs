//! What looks at the whole: recounts, and tables for people.

pub(crate) mod buddy;
pub(crate) mod stats;
pub(crate) mod validate;
