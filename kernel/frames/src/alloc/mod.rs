//! One request, from the call to its block.

pub(crate) mod block;
pub(crate) mod bulk;
pub(crate) mod compact;
pub(crate) mod context;
pub(crate) mod cpuset;
pub(crate) mod fast;
pub(crate) mod high_atomic;
pub(crate) mod hot;
pub(crate) mod limits;
pub(crate) mod list_walk;
pub(crate) mod look;
pub(crate) mod reclaim;
pub(crate) mod slow;
mod slow_rounds;
pub(crate) mod steal;
