//! Cpusets: the nodes that a thread's requests may use; and what a thread is to the memory
//! reserves.

use crate::thread::{self, ThreadId};
use tidemark_frames::{Cpuset, MemallocRole, NodeMask};
use tidemark_sync::Task;

/// Confines a thread's requests to `nodes`; those without HARDWALL may fall back to `wall`. A
/// request that is under way looks again before it gives up. Nobody is moved: what the thread has,
/// stays. The cpuset ends with the thread, and does not change when its nodes lose their memory.
/// Any context.
pub fn confine(id: ThreadId, nodes: NodeMask, wall: NodeMask) {
    thread::set_cpuset(id, Some((nodes.0, wall.0)));
}

/// Takes a thread's cpuset away. Any context.
pub fn release(id: ThreadId) {
    thread::set_cpuset(id, None);
}

/// The running thread's cpuset: one load where no thread has one.
#[inline]
pub(super) fn current(_task: &Task) -> Option<Cpuset> {
    if thread::any_cpuset() {
        from(thread::current_memory())
    } else {
        None
    }
}

#[cold]
fn from(memory: thread::Memory) -> Option<Cpuset> {
    let (nodes, wall, generation) = memory.cpuset()?;
    Some(Cpuset {
        nodes: NodeMask(nodes),
        wall: NodeMask(wall),
        generation,
    })
}

/// What the running thread may take of the reserves.
#[inline]
pub(super) fn memalloc_role(_task: &Task) -> MemallocRole {
    let memory = thread::current_memory();
    if memory.reclaims() {
        MemallocRole::Reclaimer
    } else if memory.is_victim() {
        MemallocRole::Victim
    } else {
        MemallocRole::Ordinary
    }
}
