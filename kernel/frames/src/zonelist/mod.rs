//! The fallback lists and the protocols that say who may look at them, one file a variant.

mod gfp_seqlock;
mod list;
mod none;
mod order;
mod protocol;
mod published;
pub(crate) mod rebuild;
mod seed;
mod seqlock;
mod seqlock_annotated;
mod seqlock_irqoff;
mod seqlock_irqsave;
mod seqlock_recheck;
mod snapshot;
mod variant;

pub(crate) use list::{Eligible, List};
pub use list::{ListKind, Node};
pub(crate) use order::node_orders;
use protocol::write_counted;
pub(crate) use protocol::{Begun, Chosen, Look, Protocol, Reader, with_protocol};
pub(crate) use published::{Generation, Lists, Published};
pub use variant::Variant;

use crate::{
    base::{
        platform::{Pinned, Platform},
        types::NodeId,
    },
    frames::Frames,
    oracle::stats::ListSnapshot,
};

impl<P: Platform> Frames<'_, P> {
    /// The protocol in force.
    #[inline]
    pub(crate) fn protocol(&self) -> &dyn Protocol<P> {
        self.zonelists.protocol()
    }

    /// A node's zonelist as it is now.
    ///
    /// # Panics
    ///
    /// Panics if the node is beyond the storage.
    pub fn zonelist(&self, node: NodeId, list: ListKind) -> ListSnapshot {
        let _pinned = Pinned::new(&self.platform);
        let generation = self.published.current();
        let node = &self.storage.nodes[node.0 as usize];
        node.list(generation.side(), list).snapshot()
    }

    /// The count that observers see: odd while a rebuild is under way.
    pub fn rebuild_counter(&self) -> u32 {
        self.protocol().observe().value()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
