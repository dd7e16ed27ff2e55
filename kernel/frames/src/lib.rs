//! The physical frame allocator: nodes, zones, watermarks, zonelists, per-CPU caches over a
//! lock-free core.
//!
//! It knows no hardware and prints nothing: what it needs of its surroundings it takes as a
//! [`Platform`].
//!
//! # The folders, and who owns what
//!
//! Each may use those before it, and a test holds them to that. What a method can reach is what its
//! type holds.
//!
//! | folder | type | what |
//! |---|---|---|
//! | `base` | | the vocabulary: frame numbers, requests, owners, [`Platform`], reports |
//! | `pageblock` | `Books` | 2 MiB pageblocks: bits, state, whose they are; the table of all books |
//! | `zone` | `Zones` | counters, watermarks, reserves, the search for a pageblock that can give |
//! | `cache` | `Caches` | what each CPU keeps: single frames, larger blocks, counts; frees |
//! | [`zonelist`] | `Zonelists` | fallback lists and their protocols, a file each; rebuilds |
//! | `frames` | [`Frames`] | holds `Caches` (which hold `Zones`, which hold `Books`) and `Zonelists` |
//! | `alloc` | [`Frames`] | one request: hot path, fast path, slow path, compaction, bulk |
//! | `hotplug` | [`Frames`] | set-up, memory that comes and leaves |
//! | `oracle` | [`Frames`] | recounts, and tables for people |
//!
//! # The road of one request
//!
//! A single frame that this CPU has: `alloc/fast` ([`Frames::alloc`]) → `alloc/hot` (the class says
//! which cache) → `cache/pcp` (the gated section opens) → `cache/stack` (a frame comes off) →
//! `base/owner` (its entry is labelled) → `cache/pcp` (the gated section closes).
//!
//! One that it has not: `alloc/hot` → `alloc/fast` (begins a walk) → `zone/above` (is any zone
//! above LOW?) → `alloc/list_walk` (the first one of the list) → `zone/high_atomic` and `zone` (is
//! it above LOW without the reserve?) → `cache/pcp` and `cache/batch` (a refill) → `zone/search`
//! (an pageblock of its kind) → `pageblock/bits` (bits are claimed) → `zone/cache_limit` (the zone
//! counts them) → `alloc/fast` (hands out).
//!
//! When no zone is above LOW: `alloc/slow`, which asks the protocol by `alloc/look`, walks by
//! `alloc/list_walk`, and has `alloc/reclaim`, `alloc/compact` and `alloc/high_atomic` find more.
//!
//! A free: [`Block`]'s drop → `cache/free` → `cache/stack`, or `cache/batch` →
//! `pageblock/pageblock` → `zone/cache_limit`.
//!
//! # In another kernel
//!
//! Implement [`Platform`]; hand the books' memory to [`Frames::new`] as a [`Storage`]; name the
//! nodes with [`Frames::set_topology`]; give each memory section its books with
//! [`Frames::add_section`]; bring in boot memory with [`Frames::add_boot_range`] and call
//! [`Frames::finish_boot`]. From then on [`Frames::alloc`] may be called in every context, with the
//! token that proves which (`tidemark_sync::{Task, HardIrq, Nmi}`); a [`Block`] that is dropped is
//! freed. Later memory comes and leaves by [`Frames::online_range`] and [`Frames::offline_range`].
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
        AllocReport, FreeError, FreeFault, MemallocRole, MigrateError, OomOutcome, Platform, Point,
        Spin, Step, Topology,
    },
    request::{Gfp, Request},
    types::{
        CpuId, FRAME_SIZE, MAX_CPUS, MAX_NODES, MAX_ZONES, NodeId, NodeMask, ORDERS, Order, Pfn,
        PfnRange, SectionNo, ZoneId, ZoneKind,
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
pub use pageblock::section_meta::{AddError, SECTION_FRAMES, SectionMeta, SectionSlot};
pub use zone::Zone;
pub use zonelist::{ListKind, ListSnapshot, Node, Readers, Variant, Writes, rebuild::RebuildStats};
