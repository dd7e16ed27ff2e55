//! The side that readers read, and the writer's view of all lists.

use super::list::{Format, Node, Side};
use crate::{
    base::{
        mistake::Mistake,
        mutant::{self, Mutant},
        platform::{Platform, Point},
        types::NodeId,
    },
    zone::Zone,
};
use core::cell::Cell;
use tidemark_sync::atomic::{AtomicU32, Ordering};

/// The number of published lists. Protocols that write in place keep the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u32);

impl Generation {
    /// The lists that boot writes.
    pub(crate) const FIRST: Self = Self(0);

    /// Returns the side of these lists. Lists that are on one side one after the other have
    /// different numbers.
    #[inline]
    pub(crate) fn side(self) -> Side {
        Side(self.0 as usize & 1)
    }

    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// The number of the lists in force. A walk loads this word in every protocol, so that it need not
/// ask for the protocol.
#[derive(Debug)]
pub(crate) struct Published(AtomicU32);

impl Published {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Returns the lists in force. Each walk loads the number again, pinned, and does not use it
    /// after the pin.
    #[inline]
    pub(crate) fn current(&self) -> Generation {
        // Acquire pairs with the release in `publish`: the entries that are read next are those of
        // this publication or newer.
        Generation(self.0.load(Ordering::Acquire))
    }

    /// Puts the spare side in force, in place of `current`. The caller holds the writers' lock.
    #[inline]
    pub(super) fn publish(&self, current: Generation) {
        // Release pairs with the acquire in `current`: every entry of the spare side is visible
        // before it is in force.
        let release = mutant::weakened(Mutant::RelaxedPublish, Ordering::Release);
        self.0.store(current.next().0, release);
    }
}

/// All lists, for the writer of a protocol. It holds the hot-plug lock.
pub struct Lists<'a, P> {
    pub(crate) platform: &'a P,
    pub(crate) nodes: &'a [Node],
    pub(crate) zones: &'a [Zone],
    pub(crate) published: &'a Published,
    /// How long the writer had interrupts off, measured inside its lock; `None` if it leaves them
    /// on.
    pub(crate) irq_off_ns: Cell<Option<u64>>,
}

impl<P: Platform> Lists<'_, P> {
    /// Rewrites the side that readers read.
    pub(super) fn rewrite_in_place(&self) {
        let rewrite =
            || self.change(|| self.write(self.published.current().side(), Format::TwoWords));
        if self.platform.planted(Mistake::DeferredLate) {
            self.platform.with_console_deferred(&mut || rewrite());
        } else {
            rewrite();
        }
    }

    /// Runs `work` with the console of this CPU deferred.
    pub(super) fn deferring_console(&self, work: &mut dyn FnMut()) {
        let planted = |mistake| self.platform.planted(mistake);
        if planted(Mistake::NotDeferred) || planted(Mistake::DeferredLate) {
            work();
        } else {
            self.platform.with_console_deferred(work);
        }
    }

    /// Builds the lists on the side that readers read already: see [`Mistake::PublishedEarly`].
    pub(super) fn build_published(&self) {
        self.write(self.published.current().side(), Format::OneWord);
    }

    /// Builds the lists on the spare side, which no walk reads.
    pub(super) fn build_spare(&self) {
        self.write(self.published.current().next().side(), Format::OneWord);
    }

    /// Puts the spare side in force by one store, for all nodes.
    pub(super) fn publish_spare(&self) {
        let current = self.published.current();
        self.change(|| self.published.publish(current));
    }

    /// Runs the part of the writer that has interrupts off, and measures it.
    pub(super) fn timed(&self, work: impl FnOnce()) {
        let begun_ns = self.platform.own_ns();
        work();
        let taken_ns = self.platform.own_ns().saturating_sub(begun_ns);
        self.irq_off_ns.set(Some(taken_ns));
    }

    /// Runs a change that readers see, between the schedule points of a rebuild.
    fn change(&self, change: impl FnOnce()) {
        self.platform.point(Point::RebuildOdd);
        change();
        self.platform.point(Point::RebuildEven);
    }

    fn write(&self, side: Side, format: Format) {
        for (number, node) in self.nodes.iter().enumerate() {
            node.write(NodeId(number as u8), side, format, self.zones, |point| {
                self.platform.point(point);
            });
        }
    }
}

#[cfg(all(test, loom))]
#[path = "published_loom.rs"]
mod models;
