//! The physical frame allocator: nodes, zones, watermarks, zonelists, per-CPU caches over a
//! lock-free core.
//!
//! There is no buddy system and there are no free lists. A pageblock of 2 MiB is a line of bits and
//! half a word of state, and a search looks for a pageblock that has what a request needs. A
//! function that does what one of Linux does has the latter's name as a `doc(alias)`. The crate
//! knows no hardware and prints nothing. Its surroundings are the trait [`Platform`].
//!
//! # The folders and their types
//!
//! A folder may use those before it, and a test checks this. A method reaches what its type owns.
//!
//! | folder | type | what |
//! |---|---|---|
//! | `base` | | the vocabulary: frame numbers, requests, owners, [`Platform`], reports |
//! | `pageblock` | `Books` | pageblocks of 2 MiB: bits, state, flags; the table of memory sections |
//! | `zone` | `Zones` | free counters, watermarks, reserves, the search for a pageblock |
//! | `cache` | `Caches` | each CPU's caches of single frames and larger blocks, counters; frees |
//! | [`zonelist`] | `Zonelists` | fallback lists and their protocols, a file each; rebuilds |
//! | `frames` | [`Frames`] | holds `Caches` (which hold `Zones`, which hold `Books`) and `Zonelists` |
//! | `alloc` | [`Frames`] | one request: hot path, fast path, slow path, compaction, bulk |
//! | `hotplug` | [`Frames`] | set-up, memory that comes and leaves |
//! | `oracle` | [`Frames`] | recounts, and tables for people |
//!
//! # Contexts are arguments
//!
//! * A function that must stay on its CPU takes an `OnCpu` (`base/pin`), which has no size.
//! * A function that works inside the CPU's gated section takes an `Inside` (`cache/inside`), which
//!   has no size either. The function that ends the section consumes it.
//! * A function that changes sizes, watermarks, lists or spans takes a `Resizing`
//!   (`base/resizing`): the hot-plug lock, while it is held.
//!
//! # What an interrupt or an NMI meets
//!
//! A handler allocates and frees by the same functions, at any step. If it finds its CPU's gate
//! open, it has interrupted a gated section, and goes past the caches to the zone's pageblocks. So
//! its request can fail while this CPU's caches have frames. Otherwise it runs a gated section of
//! its own, from begin to end. Pageblock states, bits and counters change by single atomic steps,
//! and a handler comes between two of them. A handler has no task: it never reclaims, and of the
//! protocols only those with `Variant::every_reader_waits` let it wait (H2-NMI, in [`zonelist`]).
//!
//! A free takes no lock and asks no protocol. An NMI that comes
//!
//! | while the interrupted free | finds, and does |
//! |---|---|
//! | has not entered its gate, or has left it | the gate closed: it uses the caches, and leaves the gate as it was |
//! | is inside its gate | the gate open: it frees into pageblocks, and allocates from them |
//! | has written the entry, and not put the block into its cache | a block that is nowhere yet: no search sees it |
//! | has cleared its bits, and not raised the pageblock's count | fewer frames counted than there are: none is handed out twice |
//! | has raised the pageblock's count, and not the zone's | the frame, which it may take if the zone's counter suffices without it; another CPU that isolates the pageblock now takes that counter below zero for a moment |
//! | follows a crossing of a watermark (`zone/sides`) | a turn to take: its own look comes later and stands |
//! | closes its gate | one step, which also tests whether a drain became due |
//! | has closed its gate, and not paid what is owed | the debt: its own section may pay all of it, and the free then finds nothing owed |
//!
//! Where watermarks are tested is a table in `zone/watermark_floor`; what writes a pageblock's
//! state and flags is one in `pageblock/state`; what a further zonelist protocol owes is in
//! [`zonelist`].
//!
//! # The road of one request
//!
//! A single frame that is in this CPU's cache:
//!
//! 1. `alloc/hot`: [`Frames::alloc`].
//! 2. `cache/inside`: the gated section begins.
//! 3. `cache/one`: a frame is popped, and its entry written.
//! 4. `cache/inside`: the gated section ends.
//!
//! A single frame that is not:
//!
//! 1. `alloc/hot`, `cache/inside`, `cache/one`: as above, but the stack is empty.
//! 2. `alloc/fast`: the request becomes an `AllocContext`.
//! 3. `zone/above`: is any zone above LOW?
//! 4. `alloc/list_walk`: the first such zone of the list.
//! 5. `zone/high_atomic`: is it above its watermark without the reserve?
//! 6. `cache/pcp`, `cache/one`: its cache, which is empty.
//! 7. `cache/batch`: a refill.
//! 8. `zone/search`: a pageblock of the request's kind.
//! 9. `pageblock/bits`: bits are claimed.
//! 10. `zone/counter`: the zone's counter loses the frames.
//! 11. `alloc/fast`: the frame's entry is written.
//!
//! When no zone above LOW had a block, `alloc/slow` makes a `SlowPath` of the request. It runs the
//! protocol's checks in `alloc/look`, and walks by `alloc/list_walk` within `alloc/limits`. Its
//! rounds are in `alloc/slow_rounds`, and use `alloc/reclaim`, `alloc/compact` and
//! `alloc/high_atomic`.
//!
//! A free begins with the drop of a [`Block`]. It goes through `cache/free` to `cache/one`, or to
//! `cache/batch`, `pageblock/bits` and `zone/counter`.
//!
//! # In another kernel
//!
//! 1. Implement [`Platform`].
//! 2. Pass memory for the books to [`Frames::new`], as a [`Storage`].
//! 3. Name the nodes with [`Frames::set_topology`].
//! 4. Give each memory section its books with [`Frames::add_section`].
//! 5. Add boot memory with [`Frames::add_boot_range`], and call [`Frames::finish_boot`].
//!
//! From then on [`Frames::alloc`] may be called in every context, with the token that proves which
//! one it is (`tidemark_sync::{Task, HardIrq, Nmi}`). A [`Block`] that is dropped is freed. Later
//! memory comes and leaves by [`Frames::online_range`] and [`Frames::offline_range`].
//!
//! `examples/other_kernel.rs` is such a kernel: a process that takes signals as its interrupts.
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
