//! Memory management above the allocator: from the machine's memory map to `frames`, the page cache
//! as the owner of movable frames, reclaim, OOM, and the direct map.

pub mod carve;
pub mod free_errors;
pub mod nodes;
pub mod oom;
pub mod page_cache;
pub mod points;
