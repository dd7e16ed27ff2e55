//! The nodes that a task may use.

use crate::base::types::NodeMask;

/// The nodes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuset {
    /// Nodes that the task's requests use.
    pub nodes: NodeMask,
    /// Nodes that the task's requests without HARDWALL may fall back to; a superset of `nodes`.
    pub wall: NodeMask,
    /// A number that is different whenever the other fields have changed.
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
