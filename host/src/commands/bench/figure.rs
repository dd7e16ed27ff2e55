//! Holds what the benchmark on this machine measured of one workload.

/// The cost of one allocator for an operation of one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub workload: String,
    pub allocator: String,
    pub median: f64,
    pub min: f64,
    pub max: f64,
}
