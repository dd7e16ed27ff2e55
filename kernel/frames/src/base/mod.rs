//! The vocabulary: what everything else is said in.

pub(crate) mod mistake;
pub(crate) mod mutant;
pub(crate) mod outcome;
pub(crate) mod owner;
pub(crate) mod platform;
pub(crate) mod request;
pub(crate) mod types;
