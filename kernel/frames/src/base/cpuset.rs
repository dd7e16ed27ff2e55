//! The nodes that a task may use.

use crate::base::types::NodeMask;

/// The nodes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuset {
    /// Nodes that its requests use.
    pub nodes: NodeMask,
    /// Nodes that its requests without HARDWALL may fall back to; a superset of `nodes`.
    pub wall: NodeMask,
    /// Another number whenever the rest has changed.
    pub generation: u32,
}

impl Cpuset {
    /// No restriction.
    pub const UNCONFINED: Self = Self {
        nodes: NodeMask::ALL,
        wall: NodeMask::ALL,
        generation: 0,
    };
}
