//! Cpusets: the nodes that a thread's requests may use. The module also gives the role that a
//! thread has towards the memory reserves.

use crate::thread::{self, ThreadId};
use tidemark_frames::{Cpuset, MemallocRole, NodeMask};
use tidemark_sync::Task;

/// Confines a thread's requests to `nodes`; those without HARDWALL may fall back to `wall`. A
/// request that is under way looks again before it gives up. No memory is moved: the thread keeps
/// the frames that it has. The cpuset ends with the thread, and does not change when its nodes lose
/// their memory. Any context may call it.
pub fn confine(id: ThreadId, nodes: NodeMask, wall: NodeMask) {
    thread::set_cpuset(id, Some((nodes.0, wall.0)));
}

/// Removes a thread's cpuset. Any context may call it.
pub fn release(id: ThreadId) {
    thread::set_cpuset(id, None);
}

/// Returns the running thread's cpuset. It costs one load while no thread has one.
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

/// Returns what the running thread may take of the memory reserves.
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
