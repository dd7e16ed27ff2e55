//! Judges runs: turns a record into a verdict, and the verdict into text.

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
pub mod words;
