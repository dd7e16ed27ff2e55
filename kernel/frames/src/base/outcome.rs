//! What a request met on its way, and why it got nothing.

use crate::base::types::{NodeId, Order};

/// What one request met on its way; for counters by source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkInfo {
    /// It entered the slow path.
    pub slow: bool,
    /// The count was odd at (one of) its begins.
    pub odd: bool,
    /// The count was odd at a begin, or another one at the end: the walk overlapped a rebuild. A
    /// variant whose readers use no count keeps one for this.
    pub overlapped: bool,
    /// How often changed lists made it begin, or in `snapshot` walk, again.
    pub retries: u32,
    /// How often a changed cpuset made it begin again.
    pub cpuset_retries: u32,
    /// How often it found the count odd while it waited for an even one.
    pub spins: u32,
}

/// Why no block came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocError {
    /// No zone that the request may use had a block to give.
    NoMemory {
        /// The size wanted.
        order: Order,
    },
    /// The wanted node does not exist.
    NoNode(NodeId),
}
