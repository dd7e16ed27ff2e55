//! The physical frame allocator: nodes, zones, marks, zonelists, per-CPU caches over a lock-free core.
//!
//! It knows no hardware and prints nothing: what it needs of its surroundings it takes as a
//! [`Platform`]. An allocation's journey reads top-down: `alloc` (request, fast path) → `slow`
//! → [`zonelist`] → [`zone`] → `pcp` → `search` → `area`.
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

mod above;
mod alloc;
mod area;
mod batch;
mod block;
mod blocks;
mod buddy;
mod bulk;
mod compact;
mod cpu;
mod cpuset;
pub mod events;
mod evict;
#[cfg(all(test, not(loom)))]
mod explore_tests;
mod floor;
mod free;
mod high_atomic;
mod home;
mod hot;
pub mod hotplug;
#[cfg(all(test, not(loom)))]
mod known_failures_tests;
#[cfg(all(test, not(loom)))]
mod leaving_tests;
mod look;
mod marks;
mod memory;
mod mistake;
mod mobility;
#[cfg(all(test, not(loom)))]
mod model_tests;
mod mutant;
mod offline;
mod owner;
mod passing;
mod pcp;
mod platform;
mod reach;
mod rebuild;
mod reclaim;
mod request;
mod room;
mod runs;
mod search;
mod setup;
mod sides;
mod slow;
mod stack;
mod state;
mod stats;
#[cfg(all(test, not(loom)))]
mod testing;
mod types;
pub mod validate;
mod whole;
#[cfg(all(test, not(loom)))]
mod whole_tests;
pub mod zone;
pub mod zonelist;

pub use alloc::{AllocError, Frames, Storage, WalkInfo};
pub use block::{Block, FrameHandle};
pub use buddy::ORDERS;
pub use cpu::CpuCaches;
pub use cpuset::Cpuset;
pub use events::{CONTEXTS, DISTANCES, ZoneEvents};
pub use hotplug::{OfflineError, OfflineStats, OnlineError, OnlineStats};
pub use memory::{AddError, BLOCK_FRAMES, BlockMeta, BlockSlot};
pub use mistake::Mistake;
pub use owner::{FrameState, Owner, OwnerKind};
pub use platform::{
    AllocReport, FreeError, FreeFault, MigrateError, OomOutcome, Platform, Point, Spin, Standing,
    Step, Topology,
};
pub use request::{Gfp, Request};
pub use stats::{CacheInfo, ListSnapshot, RebuildStats, ZoneInfo};
pub use types::{
    BlockNo, CpuId, FRAME_SIZE, MAX_CPUS, MAX_NODES, MAX_ZONES, NodeId, NodeMask, Order, Pfn,
    PfnRange, ZoneId, ZoneKind,
};
pub use validate::{Census, Inconsistency};
pub use zone::Zone;
pub use zonelist::{ListKind, Node, Variant};
