//! Memory management above the allocator: from the machine's memory map to `frames`. It also has
//! the page cache as the owner of movable frames, reclaim, OOM, and the direct map.

pub mod boot;
pub mod carve;
pub mod cpuset;
pub mod direct_map;
pub mod free_errors;
pub mod nodes;
pub mod oom;
pub mod oracle;
pub mod page_cache;
mod pile;
pub mod platform;
pub mod reclaim;
pub mod report;
pub mod warnings;

pub use boot::{check_size, init, start};
pub use direct_map::{KernelBlock, content, content_mut};
pub use pile::{Pile, between_min_and_low, quiet, unmovable};
pub use platform::Kernel;

use nodes::Nodes;
use tidemark_frames::{AllocError, Frames, Gfp, NodeId, Order, Owner, Request};
use tidemark_sync::Task;

/// The kernel's allocator.
pub type KernelFrames = Frames<'static, Kernel>;

static FRAMES: spin::Once<KernelFrames> = spin::Once::new();
static NODES: spin::Once<Nodes> = spin::Once::new();

/// Returns the frame allocator. Any context may call it.
///
/// # Panics
///
/// Panics before [`init`].
pub fn frames() -> &'static KernelFrames {
    FRAMES.get().expect("frames are used before mm::init")
}

/// Returns the frame allocator, if it exists already. The routine that ends the machine needs this
/// form. Any context may call it.
pub fn try_frames() -> Option<&'static KernelFrames> {
    FRAMES.get()
}

/// Returns the machine's nodes. Any context may call it.
///
/// # Panics
///
/// Panics before [`init`].
pub fn machine_nodes() -> &'static Nodes {
    NODES.get().expect("nodes are asked for before mm::init")
}

/// Returns the nodes that have zonelists of their own: all of the machine's.
pub fn nodes_with_lists() -> impl Iterator<Item = NodeId> {
    (0..machine_nodes().len() as u8).map(NodeId)
}

/// Allocates memory that the kernel keeps for good or for long. The block lies below 4 GiB, so
/// never on a DIMM that may be asked to leave.
///
/// # Errors
///
/// Returns an [`AllocError`] if no block can be had.
pub fn alloc_longlived(order: Order, owner: Owner, task: &Task) -> Result<KernelBlock, AllocError> {
    let request = Request::kernel(order).with(Gfp::DMA32).owned_by(owner);
    frames().alloc(task, &request)
}
