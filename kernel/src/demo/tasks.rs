//! The tasks that allocate, write, read back and free while everything else goes on.

use super::{
    balloon,
    counts::{self, Ending},
    random::Random,
    signature,
    sources::fresh_walk_serves,
};
use crate::arch::{context::Task, time};
use crate::mm::{self, KernelBlock, page_cache};
use crate::thread;
use core::sync::atomic::{AtomicBool, Ordering::*};
use tidemark_frames::{Order, Owner, OwnerKind, Request, WalkInfo};
use tidemark_wire::Source;

/// Most blocks that one task holds. It frees those in a leaving DIMM within a few milliseconds:
/// they are short-lived, but not movable.
const HELD: usize = 16;
/// Number of pages of the file that one round reads.
const PAGES_A_ROUND: u32 = 4;
const ROUND_NS: u64 = 1_000_000;
/// Order of the largest block that a task asks for.
const MAX_ORDER: u64 = 3;

static OVER: AtomicBool = AtomicBool::new(false);

/// Makes the tasks free everything and end.
pub fn finish() {
    OVER.store(true, Release);
}

/// Returns the owner of a task's blocks.
fn owner(cpu: usize) -> Owner {
    Owner::new(OwnerKind::Task, cpu as u32)
}

/// Runs as one task; started once for each CPU.
pub fn worker(task: &Task, cpu: usize) {
    let mut random = Random::new(crate::options::get().seed, cpu as u64 + 1);
    let mut held: [Option<KernelBlock>; HELD] = [const { None }; HELD];
    while !OVER.load(Acquire) {
        for _ in 0..HELD / 4 {
            let slot = random.below(HELD as u64) as usize;
            if let Some(block) = held[slot].take() {
                signature::check(&block, cpu as u64);
            } else {
                held[slot] = take(task, cpu, &mut random);
            }
        }
        for _ in 0..PAGES_A_ROUND {
            let page = random.below(u64::from(page_cache::pages())) as u32;
            // A page that cannot be read now is asked for again in another round. The request for
            // its frame has been counted.
            let _ = page_cache::read(page, task);
        }
        thread::sleep_until(task, time::now_ns() + ROUND_NS);
    }
    for block in held.into_iter().flatten() {
        signature::check(&block, cpu as u64);
    }
}

fn take(task: &Task, cpu: usize, random: &mut Random) -> Option<KernelBlock> {
    // Half of the requests are for one frame, a quarter for two, and so on.
    let order = u64::from(random.next().trailing_zeros()).min(MAX_ORDER);
    let order = Order::new(order as u8).unwrap_or(Order::ZERO);
    let mut walk = WalkInfo::default();
    let request = Request::kernel(order).owned_by(owner(cpu));
    let (begun, squeezed) = (
        balloon::squeezes(),
        balloon::is_announced(balloon::squeezes()),
    );
    match mm::frames().alloc_traced(task, &request, &mut walk) {
        Ok(mut block) => {
            counts::count(Source::Task, &walk, Ending::Served);
            signature::sign(&mut block, cpu as u64);
            Some(block)
        }
        Err(_) => {
            // A squeeze may have come, and gone again, while the request was under way.
            let squeezed = squeezed || balloon::is_announced(begun);
            // There may have been no block of several frames then, although there is one by now.
            let ending = if squeezed && order != Order::ZERO {
                Ending::FailedAsAnnounced
            } else if fresh_walk_serves(task, &request, &walk) {
                Ending::FreshWalkServes
            } else if squeezed {
                Ending::FailedAsAnnounced
            } else {
                Ending::Failed
            };
            counts::count(Source::Task, &walk, ending);
            None
        }
    }
}
