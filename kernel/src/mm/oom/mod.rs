//! When reclaim has failed: a victim is chosen among the tasks with memory, and a report explains why.

mod pool;

pub use pool::{Choice, MAX_POOLS, OomPool, Registry};
