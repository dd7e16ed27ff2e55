//! `AllocContext` and `ZoneRequest`: a request as its walks, and as the zones see it.

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

/// A request as its walks see it: what it may use, and which list it walks.
#[doc(alias = "alloc_context")]
pub(crate) struct AllocContext<'m> {
    pub(crate) gfp: Gfp,
    pub(crate) order: Order,
    /// The class that the request would have at order 0.
    pub(crate) class: Class,
    /// The entry that the block will get.
    pub(crate) entry: Entry,
    /// The kind of context of the request.
    pub(crate) context: ContextKind,
    pub(crate) node: NodeId,
    /// The lists of `node`.
    pub(crate) lists: &'m Node,
    pub(crate) kind: ListKind,
    /// Nodes that the caller permits.
    pub(crate) nodes: NodeMask,
    /// The zones that the walks of the fast path may use, within the task's cpuset.
    pub(crate) eligible: Eligible,
}

/// A request as a zone sees it.
#[derive(Clone, Copy)]
pub(crate) struct ZoneRequest {
    pub(crate) order: Order,
    /// The entry that the block will get.
    pub(crate) entry: Entry,
    pub(crate) migrate_type: MigrateType,
    pub(crate) context: ContextKind,
    /// Usable zones of the list that were passed over before this one.
    pub(crate) passed: usize,
}

impl ZoneRequest {
    /// Returns the request for this zone, with the migrate type that it has there.
    #[inline]
    pub(crate) fn within(self, zone: ZoneId) -> Self {
        Self {
            migrate_type: self.migrate_type.within(zone),
            ..self
        }
    }
}

impl AllocContext<'_> {
    /// Returns the request for a zone that comes after `passed` other usable ones.
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
