//! Judges runs: what a record says about one, and how that is told.

pub mod diagnose;
pub mod json;
pub mod ktap;
pub mod points;
pub mod price;
pub mod promise;
pub mod report;
pub mod skips;
pub mod symbols;
pub mod tally;
pub mod verdict;
