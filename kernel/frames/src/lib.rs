//! The physical frame allocator: nodes, zones, watermarks, zonelists, per-CPU caches over a
//! lock-free core.
//!
//! It knows no hardware and prints nothing: what it needs of its surroundings it takes as a
//! [`Platform`].
//!
//! # The folders, and what each owns
//!
//! A folder may use those before it, and a test holds them to that. A method can reach what its
//! type holds, and no more.
//!
//! | folder | type | what |
//! |---|---|---|
//! | `base` | | the vocabulary: frame numbers, requests, owners, [`Platform`], reports |
//! | `pageblock` | `Books` | pageblocks of 2 MiB: bits, state, flags; the table of memory sections |
//! | `zone` | `Zones` | free counters, watermarks, reserves, the search for a pageblock that can give |
//! | `cache` | `Caches` | what each CPU keeps: single frames, larger blocks, counts; frees |
//! | [`zonelist`] | `Zonelists` | fallback lists and their protocols, a file each; rebuilds |
//! | `frames` | [`Frames`] | holds `Caches` (which hold `Zones`, which hold `Books`) and `Zonelists` |
//! | `alloc` | [`Frames`] | one request: hot path, fast path, slow path, compaction, bulk |
//! | `hotplug` | [`Frames`] | set-up, memory that comes and leaves |
//! | `oracle` | [`Frames`] | recounts, and tables for people |
//!
//! # Contexts are arguments
//!
//! A function that has to stay on its CPU takes an `OnCpu` (`base/pin`), one that works inside the
//! CPU's gated section an `Inside` (`cache/inside`), which the function that ends the section
//! consumes; what changes sizes, watermarks, lists or spans takes the hot-plug lock as its holder
//! has it, a `Resizing` (`base/resizing`). The first two have no size.
//!
//! # The road of one request
//!
//! A single frame that this CPU has: `alloc/hot` ([`Frames::alloc`]) → `cache/inside` (the gated
//! section opens) → `cache/one` (a frame comes off its stack, and is labelled) → `cache/inside`
//! (the section ends).
//!
//! One that it has not: `alloc/hot` → `alloc/fast` (what the request is to its walks) →
//! `zone/above` (is any zone above LOW?) → `alloc/list_walk` (the first one of the list) →
//! `zone/high_atomic` (is it above its watermark without the reserve?) → `cache/pcp` (its cache) →
//! `cache/one` (enters, finds that empty) → `cache/batch` (a refill) → `zone/search` (a pageblock
//! of the request's kind) → `pageblock/bits` (bits are claimed) → `zone/counter` (the zone's free
//! count loses them) → `alloc/fast` (hands out).
//!
//! When no zone is above LOW: `alloc/slow`, one `SlowPath` for the request, which asks the protocol
//! by `alloc/look`, walks by `alloc/list_walk` within `alloc/limits`, and goes round in
//! `alloc/slow_rounds`, with `alloc/reclaim`, `alloc/compact` and `alloc/high_atomic` to find more.
//!
//! A free: [`Block`]'s drop → `cache/free` → `cache/one`, or `cache/batch` → `pageblock/bits` →
//! `zone/counter`.
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
