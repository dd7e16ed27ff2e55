//! What happens at the allocator's schedule points while the price is measured.
//!
//! Just before a rebuild, and again when the count is odd, every CPU is sent an interrupt and an
//! NMI; the time in between varies, so that requests meet each step of the rebuild. In the second
//! half a reader that comes to a walk while lists are rewritten stays there until that is over, as
//! one does whose virtual CPU is not run.

use super::{WRITER, readers};
use crate::arch::{self, percpu, time};
use crate::{mm, points};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use tidemark_frames::Point;

/// How long a reader is held at most: longer than a host keeps a virtual CPU from running.
const STALL_NS: u64 = 100_000_000;
/// The longest time between the first interrupts and the rebuild.
const SPREAD_NS: u64 = 40_000;

static OPEN: AtomicBool = AtomicBool::new(false);
static STALLS: AtomicBool = AtomicBool::new(false);
/// Counts the rebuilds; what the spread is drawn from.
static TURN: AtomicU64 = AtomicU64::new(0);

/// Lets requests be made, and readers be held if `stalls`.
pub fn open(stalls: bool) {
    STALLS.store(stalls, Relaxed);
    OPEN.store(true, Release);
}

/// Ends that.
pub fn close() {
    // SeqCst: pairs with the load in `is_open`, of which the tasks say beforehand that it comes.
    OPEN.store(false, SeqCst);
}

/// Whether requests are to be made. Any context.
pub fn is_open() -> bool {
    OPEN.load(SeqCst)
}

/// The hook at the allocator's schedule points.
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
                // Its handler makes no request, and counts that.
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
