//! What a request met on its way, and why it failed.

use crate::base::types::{NodeId, Order};

/// What one request met on its way; for counters by source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkInfo {
    /// The request entered the slow path.
    pub slow: bool,
    /// A begin of the protocol found its counter odd.
    pub odd: bool,
    /// A walk overlapped a rebuild: the counter was odd at its begin, or had changed at its end. A
    /// protocol that lets readers ignore the counter keeps one for this field.
    pub overlapped: bool,
    /// How often changed lists made the request begin again, or walk again in `snapshot`.
    pub retries: u32,
    /// How often a changed cpuset made the request begin again.
    pub cpuset_retries: u32,
    /// How often the request found the counter odd while it waited for an even one.
    pub spins: u32,
}

/// Why a request failed.
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
