//! The information about threads for reports and backtraces.

use core::ops::Range;

use super::{
    ThreadId,
    table::{MAX_THREADS, State, thread},
};
use crate::arch::{CpuId, paging};

/// A thread as reports show it. It was true a moment ago.
#[derive(Clone, Copy, Debug)]
pub struct ThreadInfo {
    /// Its identity.
    pub id: ThreadId,
    name: [u8; 16],
    /// What the thread was doing.
    pub state: State,
    /// Its CPU.
    pub cpu: CpuId,
    /// Time for which it had run, up to the last switch away from it, in nanoseconds.
    pub cpu_time_ns: u64,
    /// Saved stack pointer of a thread that does not run; 0 for one that does. A caller checks it
    /// against [`stack_bounds_of`] before following it.
    pub rsp: u64,
}

impl ThreadInfo {
    /// Returns the name, at most 16 bytes.
    pub fn name(&self) -> &str {
        let length = self.name.iter().position(|&byte| byte == 0).unwrap_or(16);
        core::str::from_utf8(&self.name[..length]).unwrap_or("?")
    }
}

/// Calls `f` for every thread. It takes no lock. Any context may call it, an NMI included.
pub fn for_each_thread(mut f: impl FnMut(ThreadInfo)) {
    for slot in 0..MAX_THREADS as u16 {
        let thread = thread(slot);
        let state = thread.state();
        if matches!(state, State::Free | State::New) {
            continue;
        }
        f(ThreadInfo {
            id: ThreadId::new(slot),
            name: thread.name_bytes(),
            state,
            cpu: thread.home(),
            cpu_time_ns: thread
                .cpu_time_ns
                .load(core::sync::atomic::Ordering::Relaxed),
            rsp: match state {
                State::Running => 0,
                _ => thread.rsp.load(core::sync::atomic::Ordering::Relaxed),
            },
        });
    }
}

/// Returns what a thread is doing and on which CPU; nothing once it has ended. Any context may call
/// it.
pub fn state_of(id: ThreadId) -> Option<(State, CpuId)> {
    let it = thread(id.slot());
    id.is_alive().then(|| (it.state(), it.home()))
}

/// Returns the bounds of the known, mapped stack that `address` lies in. It is a thread's stack, or
/// one of the processor's own (boot, application processor, interrupt). Any context may call it.
pub fn stack_bounds_of(address: u64) -> Option<Range<u64>> {
    let stack = paging::stack_of(address)?;
    Some(stack.bottom..stack.top)
}
