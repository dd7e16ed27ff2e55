//! The hook at the allocator's schedule points while the price is measured.
//!
//! Just before a rebuild, and again when the counter is odd, every CPU is sent an interrupt and an
//! NMI. The time in between varies, so that requests meet each step of the rebuild. In the second
//! half, a reader that walks while lists are rewritten is held until that is over. The same happens
//! to a reader whose virtual CPU the host does not run.

use super::{WRITER, readers};
use crate::arch::{self, percpu, time};
use crate::{mm, points};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use tidemark_frames::Point;

/// How long a reader is held at most. It is longer than a host keeps a virtual CPU from running.
const STALL_NS: u64 = 100_000_000;
/// Longest time between the first interrupts and the rebuild.
const SPREAD_NS: u64 = 40_000;

static OPEN: AtomicBool = AtomicBool::new(false);
static STALLS: AtomicBool = AtomicBool::new(false);
/// Number of rebuilds, from which the varying time is computed.
static TURN: AtomicU64 = AtomicU64::new(0);

/// Opens the window, in which requests are made. Readers are held if `stalls`.
pub fn open(stalls: bool) {
    STALLS.store(stalls, Relaxed);
    OPEN.store(true, Release);
}

/// Closes the window.
pub fn close() {
    // SeqCst pairs with the load in `is_open`: tasks announce themselves in `BUSY` before that
    // load.
    OPEN.store(false, SeqCst);
}

/// Returns whether requests are to be made. Any context may call it.
pub fn is_open() -> bool {
    OPEN.load(SeqCst)
}

/// Acts as the hook at the allocator's schedule points.
pub fn at(point: Point) {
    if !is_open() {
        return;
    }
    match point {
        Point::OfflineLeft | Point::OnlineCounted => {
            interrupt_everybody();
            let turn = TURN.fetch_add(1, Relaxed);
            // Multiples of the golden ratio fill the range evenly.
            let fraction = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            time::spin_ns((fraction * SPREAD_NS) >> 32);
        }
        Point::RebuildOdd => {
            interrupt_everybody();
            if mm::frames().variant().every_reader_waits() {
                // The writer's handler makes no request here, and counts that.
                arch::nmi::send(WRITER);
            }
        }
        Point::SlowWalk | Point::WalkEntry if STALLS.load(Relaxed) => stall(),
        _ => {}
    }
}

fn interrupt_everybody() {
    readers::call(percpu::online_mask());
    let others = percpu::online().filter(|&cpu| cpu != WRITER);
    others.for_each(arch::nmi::send);
}

/// Holds a reader while another CPU rewrites the lists.
fn stall() {
    let is_elsewhere = points::rebuilder().is_some_and(|cpu| cpu != arch::cpu_id().0);
    if is_elsewhere {
        time::spin_until(STALL_NS, || points::rebuilder().is_none());
    }
}
