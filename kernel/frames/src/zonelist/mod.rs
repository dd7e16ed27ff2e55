//! The zonelists, and the protocols between the requests that read them and the rebuild that writes
//! them. Each protocol has a file.
//!
//! Comments name hazards by number. With Linux's `zonelist_update_seq` they are:
//!
//! * H1: a walk starts at a remembered position, and the list becomes shorter. The task calls OOM
//!   with memory free.
//! * H2: an interrupt on the writer's CPU waits for an even counter, for ever. H2-NMI: an NMI does.
//! * H3: a reader waits while it holds the serial port, for which the writer waits to print.
//! * H4: the writer's lock may sleep, but is taken with interrupts off. It needs a kernel whose
//!   spinlocks sleep; ours do not.
//! * H5: the lock validator prints while the counter is odd, which leads to H3.
//! * H6: a more urgent reader preempts the writer and goes round. It needs such a kernel, too.
//! * H7: a reader pairs an entry's old index with its new zone.
//! * H8: the test for progress finds memory, and the walk from a stale start never does.
//! * H9: entries are read before the counter, which only weakly ordered memory shows.
//! * H10: the entry at which walks start has become another zone's.
//!
//! # A further protocol
//!
//! Write `zonelist/<name>.rs`, declare it below, and give it a row in `zonelist/variant.rs`. The
//! row has its name, its origin and what its readers and writer do; the options, the command line
//! and the laboratory take it from there. The tests that list what each protocol does (`tests.rs`
//! here, `host/src/commands/lab/expected.rs`) then ask for it. `kernel/expected-skips.txt` needs a
//! row for each self-test that the protocol cannot show. `seed.rs` is a model for one that writes
//! in place, `snapshot.rs` for one that writes beside.
//!
//! The type is generic over the platform, has a `new` without arguments, and implements `Protocol`:
//! `begin`, `look`, `rebuild` and `observe`; if it differs there, also `look_at_retry`,
//! `remembers_start`, `prepare` and `finish`. `rebuild` has these duties:
//!
//! 1. While readers may see what it stores, it stays on its CPU (a `Pinned`, or interrupts off) and
//!    holds a writers' lock of rank `ZonelistUpdate`. The hot-plug lock is held all along.
//! 2. It announces `Point::AnnotateBegin` and `Point::AnnotateEnd` where Linux calls the lock
//!    validator for the counter; if Linux's version does not, around its spinlock.
//! 3. It writes by `Lists::rewrite_in_place`, or by `Lists::build_spare` and
//!    `Lists::publish_spare`, and has `Lists::timed` measure what it does with interrupts off.
//! 4. `Protocol::observe` is odd from the first store to the last one.
//!
//! `write_counted` does the second and the third for a writer with a counter. A mistake that is to
//! show that the laboratory finds it is a row of `base/mistake`, and the protocol asks for it.

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
mod seqlock_irqoff_recheck;
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

/// Every node's lists, the protocol in force, and the rebuilds' number and times.
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

    /// Returns the protocol in force, with its own type.
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

    /// Returns the number of finished rebuilds.
    #[inline]
    pub(crate) fn rebuilt(&self) -> &Rebuilt {
        &self.rebuilt
    }

    /// Returns a copy of a node's list. The caller is pinned.
    ///
    /// # Panics
    ///
    /// Panics if the allocator has no node of this number.
    pub(crate) fn snapshot(&self, node: NodeId, list: ListKind) -> ListSnapshot {
        let generation = self.published.current();
        let node = &self.nodes[node.0 as usize];
        node.list(generation.side(), list).snapshot()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
