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
pub use list::{ListKind, ListSnapshot, Node};
pub(crate) use order::node_orders;
use protocol::write_counted;
pub(crate) use protocol::{BeginCookie, Protocol, Reader, RetryCheck};
pub(crate) use published::{Generation, Lists, Published};
pub(crate) use variant::{Chosen, with_protocol};
pub use variant::{Interrupts, Readers, Rules, Variant, Writes};

use rebuild::{RebuildTimes, Rebuilt};

use crate::base::{platform::Platform, types::NodeId};

/// Every node's lists, the protocol in force, and what the rebuilds took.
pub(crate) struct Zonelists<'m, P: Platform> {
    nodes: &'m [Node],
    chosen: Chosen<P>,
    published: Published,
    times: RebuildTimes,
    rebuilt: Rebuilt,
}

impl<'m, P: Platform> Zonelists<'m, P> {
    pub(crate) fn new(nodes: &'m [Node], variant: Variant) -> Self {
        Self {
            nodes,
            chosen: Chosen::new(variant),
            published: Published::new(),
            times: RebuildTimes::new(),
            rebuilt: Rebuilt::new(),
        }
    }

    /// Returns the protocol in force.
    #[inline]
    pub(crate) fn protocol(&self) -> &dyn Protocol<P> {
        self.chosen.protocol()
    }

    /// Returns the protocol in force, as the type that it is.
    #[inline]
    pub(crate) fn chosen(&self) -> &Chosen<P> {
        &self.chosen
    }

    /// Returns every node's lists, by its number.
    #[inline]
    pub(crate) fn nodes(&self) -> &'m [Node] {
        self.nodes
    }

    #[inline]
    pub(crate) fn published(&self) -> &Published {
        &self.published
    }

    /// Counts rebuilds, for what is remembered of a list.
    #[inline]
    pub(crate) fn rebuilt(&self) -> &Rebuilt {
        &self.rebuilt
    }

    /// Returns a node's list as it is now. Pinned.
    ///
    /// # Panics
    ///
    /// Panics if the node is beyond the storage.
    pub(crate) fn snapshot(&self, node: NodeId, list: ListKind) -> ListSnapshot {
        let generation = self.published.current();
        let node = &self.nodes[node.0 as usize];
        node.list(generation.side(), list).snapshot()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
