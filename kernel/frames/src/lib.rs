//! The physical frame allocator: nodes, zones, marks, zonelists, per-CPU caches over a lock-free core.
//!
//! It knows no hardware and prints nothing: what it needs of its surroundings it takes as a
//! [`Platform`].
//!
//! # The folders
//!
//! Each may use those before it: `base` (the vocabulary), `pageblock` (2 MiB: bits, state, books), `zone`
//! (counters, marks, search), `cache` (what each CPU has for itself), [`zonelist`] (lists, protocols,
//! rebuild), `alloc` (one request), `hotplug` (memory that comes and leaves), `oracle` (recounts and
//! tables). `frames` holds them together.
//!
//! # In another kernel
//!
//! Implement [`Platform`]; hand the books' memory to [`Frames::new`] as a [`Storage`]; name the nodes
//! with [`Frames::set_topology`]; give each block of 128 MiB its books with [`Frames::add_block`];
//! bring in boot memory with [`Frames::add_boot_range`] and call [`Frames::finish_boot`]. From then
//! on [`Frames::alloc`] may be called in every context, with the token that proves which
//! (`tidemark_sync::{Task, HardIrq, Nmi}`); a [`Block`] that is dropped is freed. Later memory comes
//! and leaves by [`Frames::online_range`] and [`Frames::offline_range`].
//!
//! `examples/other_kernel.rs` is such a kernel: a process whose interrupt is a signal.
//! `cargo run -p tidemark-frames --example other_kernel`
#![cfg_attr(not(any(test, loom)), no_std)]
#![cfg_attr(not(test), forbid(unsafe_code))]

mod alloc;
mod base;
mod cache;
mod frames;
mod hotplug;
mod oracle;
mod pageblock;
#[cfg(all(test, not(loom)))]
mod testing;
mod zone;
pub mod zonelist;

pub use alloc::block::Block;
pub use base::{
    cpuset::Cpuset,
    handle::FrameHandle,
    mistake::Mistake,
    outcome::{AllocError, WalkInfo},
    owner::{FrameState, Owner, OwnerKind},
    platform::{
        AllocReport, FreeError, FreeFault, MigrateError, OomOutcome, Platform, Point, Spin,
        Standing, Step, Topology,
    },
    request::{Gfp, Request},
    types::{
        BlockNo, CpuId, FRAME_SIZE, MAX_CPUS, MAX_NODES, MAX_ZONES, NodeId, NodeMask, ORDERS,
        Order, Pfn, PfnRange, ZoneId, ZoneKind,
    },
};
pub use cache::{
    cpu::{CpuCaches, PerCpu},
    events::{CONTEXTS, DISTANCES, ZoneEvents},
};
pub use frames::{Frames, Storage};
pub use hotplug::{OfflineError, OfflineStats, OnlineError, OnlineStats};
pub use oracle::{
    stats::{CacheInfo, ZoneInfo},
    validate::{Census, Inconsistency},
};
pub use pageblock::memory::{AddError, BLOCK_FRAMES, BlockMeta, BlockSlot};
pub use zone::Zone;
pub use zonelist::{ListKind, ListSnapshot, Node, Variant, rebuild::RebuildStats};
