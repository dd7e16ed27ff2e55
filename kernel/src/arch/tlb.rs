//! Removal of translations that other CPUs may have cached.

use super::context::{HardIrq, Task};
use super::ipi::{self, CallKind};
use super::{paging, preempt};

/// A range of addresses.
struct Range {
    start: u64,
    len: u64,
}

/// Most pages that are dropped one by one; for more, all translations are dropped.
const PAGE_BY_PAGE: u64 = 32;

fn flush(range: &Range) {
    // A large page may be cached in pieces. Dropping page by page is for 4 KiB pages only, and
    // cheap only for a few.
    if range.len / 4096 > PAGE_BY_PAGE {
        paging::flush_local();
    } else {
        for page in (range.start & !0xfff..range.start + range.len).step_by(4096) {
            x86_64::instructions::tlb::flush(x86_64::VirtAddr::new_truncate(page));
        }
    }
}

fn flush_call(_irq: &HardIrq, range: usize) {
    // SAFETY: `shootdown` waits until this call is over, so the range is still there.
    flush(unsafe { &*(range as *const Range) });
}

/// Drops every CPU's cached translations of `len` bytes from the virtual address `start` on, and
/// waits for all CPUs. It is called with interrupts on and no spinlock held.
pub fn shootdown(start: u64, len: u64, task: &Task) {
    let range = Range { start, len };
    let _pin = preempt::pin();
    flush(&range);
    ipi::call_on_others(CallKind::Tlb, flush_call, (&raw const range) as usize, task);
}
