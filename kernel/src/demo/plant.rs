//! Faults planted on purpose, so that each verdict can be seen to turn red.

use super::sources;
use crate::arch::{context::Task, interrupts, without_interrupts};
use crate::mm::{self, page_cache};
use crate::options::{self, Plant};
use crate::{console, warn};
use tidemark_frames::{Order, Owner, OwnerKind, Request, WalkInfo};

/// Plants the faults that must be there while the cycles run.
pub fn at_start(task: &Task) {
    match options::get().plant {
        Some(Plant::LostFrame) => {
            let request =
                Request::kernel(Order::ZERO).owned_by(Owner::new(OwnerKind::Task, 0xdead));
            if let Ok(block) = mm::frames().alloc(task, &request.with(tidemark_frames::Gfp::DMA32))
            {
                warn!("planted: frame {} is given up", block.pfn());
                // The handle is dropped on purpose: that is the fault.
                drop(block.leak());
            }
        }
        Some(Plant::AtomicFailure) => {
            warn!("planted: an atomic request that no zone may serve");
            sources::plant_failure();
        }
        _ => {}
    }
}

/// Returns whether a handler's request is to count as failed although it was served: it is if it
/// began at an odd counter.
pub fn fails(walk: &WalkInfo) -> bool {
    walk.odd && options::get().plant == Some(Plant::OddFailures)
}

/// Plants the faults that must be there once the cycles have run, or ends the machine in the way
/// asked for.
pub fn at_end() {
    match options::get().plant {
        Some(Plant::Panic) => panic!("planted: a panic"),
        Some(Plant::Hang) => {
            warn!("planted: this CPU spins with interrupts off");
            without_interrupts(|| {
                loop {
                    core::hint::spin_loop();
                }
            });
        }
        Some(Plant::TripleFault) => {
            warn!("planted: a triple fault");
            console::flush(console::Share::All);
            triple_fault();
        }
        _ => {}
    }
}

/// Plants the faults that the last check must find, at a time when no code removes pages any more.
pub fn before_check(task: &Task) {
    if options::get().plant == Some(Plant::CorruptPage) {
        warn!("planted: a page of the file is overwritten");
        // Reclaim may have left no page in memory, and then there would be nothing to find.
        if page_cache::read(0, task).is_err() || page_cache::corrupt_one(task).is_none() {
            warn!("planted: no page to overwrite");
        }
    }
}

/// Ends the machine by a triple fault: an exception without a table to find its handler in.
fn triple_fault() -> ! {
    interrupts::disable();
    let none = x86_64::structures::DescriptorTablePointer {
        limit: 0,
        base: x86_64::VirtAddr::zero(),
    };
    // SAFETY: the machine is meant to reset here, so no code runs afterwards.
    unsafe { x86_64::instructions::tables::lidt(&none) };
    x86_64::instructions::interrupts::int3();
    crate::arch::port::halt_forever()
}
