//! What a request is to its walks, and to the zones that they come to.

use crate::{
    base::{
        owner::Entry,
        request::{Class, Gfp},
        types::{NodeId, NodeMask, Order, ZoneId},
    },
    pageblock::migrate_type::MigrateType,
    zonelist::{Eligible, ListKind, Node},
};
use tidemark_sync::ContextKind;

/// A request on its way: what it may use, and where its walks begin.
pub(crate) struct AllocContext<'m> {
    pub(crate) gfp: Gfp,
    pub(crate) order: Order,
    /// Its class, whatever its size.
    pub(crate) class: Class,
    /// What the block's entry will say.
    pub(crate) entry: Entry,
    /// What kind of context asks.
    pub(crate) context: ContextKind,
    pub(crate) node: NodeId,
    /// That node's lists.
    pub(crate) lists: &'m Node,
    pub(crate) kind: ListKind,
    /// Nodes that the caller permits.
    pub(crate) nodes: NodeMask,
    /// What the walks of the fast path may use: less if a cpuset is in force.
    pub(crate) eligible: Eligible,
}

/// What is taken out of a zone, and for whom.
#[derive(Clone, Copy)]
pub(crate) struct ZoneRequest {
    pub(crate) order: Order,
    /// What the block's entry will say.
    pub(crate) entry: Entry,
    pub(crate) migrate_type: MigrateType,
    pub(crate) context: ContextKind,
    /// Usable zones of the list that were passed over before this one.
    pub(crate) passed: usize,
}

impl ZoneRequest {
    /// Returns what is wanted of this zone.
    #[inline]
    pub(crate) fn within(self, zone: ZoneId) -> Self {
        Self {
            migrate_type: self.migrate_type.within(zone),
            ..self
        }
    }
}

impl AllocContext<'_> {
    /// Returns what the walk takes from a zone after `passed` others.
    #[inline]
    pub(crate) fn wanted(&self, passed: usize) -> ZoneRequest {
        ZoneRequest {
            order: self.order,
            entry: self.entry,
            migrate_type: MigrateType::of(self.gfp),
            context: self.context,
            passed,
        }
    }
}
