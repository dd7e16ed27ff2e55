//! The allocator as its callers see it.

use crate::{
    alloc::hot::Rebuilt,
    base::platform::Platform,
    cache::{blocks::PLACES, cpu::CpuCaches, pcp::Drains},
    pageblock::{home::CACHES, memory::BlockSlot},
    zone::{Zone, above::AboveLow, room::Room},
    zonelist::{Chosen, Node, Published, rebuild::RebuildTimes},
};
use tidemark_sync::atomic::{AtomicBool, AtomicU32};

/// The memory that the allocator works in.
#[derive(Debug, Clone, Copy)]
pub struct Storage<'m> {
    /// One place a block of 128 MiB, up to the highest block that may ever be plugged in.
    pub blocks: &'m [BlockSlot<'m>],
    /// One a CPU.
    pub cpus: &'m [CpuCaches],
    /// One a node.
    pub nodes: &'m [Node],
    /// Four a node.
    pub zones: &'m [Zone],
}

/// The frame allocator. Everything but set-up and hot-plug may be called in any context.
pub struct Frames<'m, P: Platform> {
    pub(crate) platform: P,
    pub(crate) storage: Storage<'m>,
    pub(crate) zonelists: Chosen<P>,
    pub(crate) published: Published,
    pub(crate) rebuilds: RebuildTimes,
    /// By number of the cache: how much a CPU may keep in it.
    pub(crate) rooms: [Room; CACHES],
    /// By place of the cache: the same of larger blocks.
    pub(crate) block_rooms: [Room; PLACES],
    pub(crate) above_low: AboveLow,
    pub(crate) rebuilt: Rebuilt,
    pub(crate) drains: Drains,
    /// Whether hot-plug, or set-up, is under way.
    pub(crate) resizing: AtomicBool,
    /// Compactions that have, or are about to have, areas isolated.
    pub(crate) compacting: AtomicU32,
}
