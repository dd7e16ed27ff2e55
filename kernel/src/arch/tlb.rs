//! Translations that other CPUs may have cached.

use super::context::Task;

/// Drops every CPU's translations of `len` bytes from `start` on, and waits for it. Interrupts on,
/// no spinlock held.
pub fn shootdown(start: u64, len: u64, task: &Task) {
    let _ = (start, len, task);
    todo!()
}
