//! The oracle: recounts everything from the bits and names the first inconsistency.

use crate::{Frames, OwnerKind, Pfn, Platform, ZoneId};

/// What the oracle found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inconsistency {
    /// A count differs from what was counted.
    Count {
        /// Name of the count.
        what: &'static str,
        /// The zone concerned.
        zone: ZoneId,
        /// What the counter says.
        says: i64,
        /// What was counted.
        counted: i64,
    },
    /// A frame's books contradict each other.
    Frame {
        /// What is wrong.
        what: &'static str,
        /// The frame.
        at: Pfn,
    },
    /// A zonelist is not what the populated zones and distances demand.
    List {
        /// What is wrong.
        what: &'static str,
        /// The node whose list it is.
        node: crate::NodeId,
        /// Index of the entry.
        entry: usize,
    },
}

/// What the oracle counted, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Frames that the allocator manages.
    pub managed: u64,
    /// Free ones.
    pub free: u64,
    /// In CPUs' caches.
    pub cached: u64,
    /// Allocated ones.
    pub allocated: u64,
    /// Allocated ones without an owner.
    pub ownerless: u64,
    /// Allocated ones by kind of owner; see [`Census::owned`].
    by_owner: [u64; OwnerKind::ALL.len()],
}

impl Census {
    /// Allocated frames of owners of this kind.
    pub fn owned(&self, kind: OwnerKind) -> u64 {
        self.by_owner[kind as usize]
    }
}

impl<P: Platform> Frames<'_, P> {
    /// Checks everything. Exact only at rest: nobody else is inside the allocator.
    ///
    /// # Errors
    ///
    /// The first inconsistency found.
    pub fn validate_at_rest(&self) -> Result<Census, Inconsistency> {
        todo!()
    }

    /// Checks what must hold at any time, while others allocate.
    ///
    /// # Errors
    ///
    /// The first inconsistency found.
    pub fn validate(&self) -> Result<(), Inconsistency> {
        todo!()
    }
}
