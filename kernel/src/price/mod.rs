//! The price of a protocol (`mode=price`). It is the share of requests racing a rebuild that fail
//! although a fresh walk would have served them.
//!
//! Only one zone has memory. It moves to the front of its node's list whenever the movable memory
//! there leaves. 4 MiB of movable memory leave and come back, by the allocator's own offline and
//! online and without the host. So thousands of rebuilds take only seconds.

mod counts;
mod readers;
mod window;

use crate::arch::{CpuId, context::Task, ipi, percpu, time};
use crate::demo::balloon;
use crate::hotplug::{self, MAX_SLOTS, SlotPhase};
use crate::mm::{self, page_cache};
use crate::points;
use crate::thread::{self, Placement, Priority, ThreadId, quiesce};
use crate::{info, link, warn};
use tidemark_frames::{Pfn, PfnRange, ZoneId, ZoneKind};
use tidemark_wire::{PriceContext, ToHost};

/// The CPU on which the lists are rebuilt: that of the first thread.
const WRITER: CpuId = CpuId(0);
/// Frames that leave and come back: the smallest number that can.
const PAIR_FRAMES: u64 = 1024;
/// How long the zones may take to shrink, and how long one removal may take.
const WAIT_NS: u64 = 5_000_000_000;
const LOOK_NS: u64 = 1_000_000;
/// Number of removals after which a line is printed. A guest that prints nothing for long is taken
/// to hang.
const TOLD_EVERY: u32 = 250;

/// The result of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both halves were measured, and the allocator's records are consistent.
    Measured,
    /// Something is missing; the log says what.
    Failed,
}

/// The reason why nothing was measured.
type Obstacle = &'static str;

/// Measures `removals` removals and as many arrivals, and reports the result to the host. The first
/// half has free readers, the second half readers that are held inside their walks.
pub fn run(task: &Task, removals: u32) -> Verdict {
    let measured = measure(task, removals);
    if let Err(obstacle) = measured {
        warn!("price: {obstacle}");
    }
    mm::frames().drain_all(task);
    let sound = matches!(
        quiesce::at_rest(task, || mm::frames().validate_at_rest()),
        Ok(Ok(_))
    );
    if !sound {
        warn!("price: the allocator is out of order afterwards");
    }
    if measured.is_ok() && sound {
        Verdict::Measured
    } else {
        Verdict::Failed
    }
}

/// Returns the movable memory of a DIMM that is online: its zone and its frames.
fn movable_memory() -> Option<(ZoneId, PfnRange)> {
    (0..MAX_SLOTS)
        .filter(|&slot| hotplug::phase(slot) == SlotPhase::Online)
        .filter_map(|slot| {
            let view = hotplug::view(slot);
            Some((view.zone?, view.range?))
        })
        .find(|(zone, _)| zone.kind() == ZoneKind::Movable)
}

fn measure(task: &Task, removals: u32) -> Result<(), Obstacle> {
    let frames = mm::frames();
    let (zone, range) = movable_memory().ok_or("no DIMM is movable memory")?;
    let pair = PfnRange::new(range.start, Pfn(range.start.0 + PAIR_FRAMES));
    let rest = PfnRange::new(pair.end, range.end);
    let offline = |range| {
        let left = frames.offline_range(range, time::now_ns() + WAIT_NS, task);
        left.map_err(|_| "memory did not leave")
    };
    let online = |range| {
        let came = frames.online_range(range, zone, task);
        came.map_err(|_| "memory did not come back")
    };
    page_cache::drop_all(task);
    offline(rest)?;
    balloon::init();
    readers::hook_in().map_err(|_| "the handlers could not be hooked in")?;
    let mut threads = [None; crate::arch::MAX_CPUS + 1];
    let mut places = threads.iter_mut();
    let mut start = |place, priority, entry| -> Result<(), Obstacle> {
        let id = thread::spawn("price", place, priority, entry, 0);
        let slot = places.next().ok_or("too many threads")?;
        *slot = Some(id.map_err(|_| "no slot for a thread")?);
        Ok(())
    };
    start(Placement::Any, Priority::High, balloon::thread)?;
    for cpu in percpu::online().filter(|&cpu| cpu != WRITER) {
        start(Placement::Cpu(cpu), Priority::Normal, readers::task)?;
    }
    balloon::squeeze(None);
    let deadline = time::now_ns() + WAIT_NS;
    while !balloon::is_tight() && time::now_ns() < deadline {
        thread::sleep_ns(task, LOOK_NS);
    }
    let result = if balloon::is_tight() {
        [false, true].into_iter().try_for_each(|stalls| {
            half(task, stalls, removals, || {
                offline(pair)?;
                readers::wait_for_requests(task);
                online(pair).map(drop)
            })
        })
    } else {
        Err("the zones did not come down")
    };
    readers::finish();
    balloon::finish();
    join_all(&mut threads, task);
    online(rest)?;
    result
}

fn join_all(threads: &mut [Option<ThreadId>], task: &Task) {
    for id in threads.iter_mut().filter_map(Option::take) {
        if thread::join(task, id).is_err() {
            warn!("price: a thread did not end");
        }
    }
}

/// Measures one half, and reports it to the host.
fn half(
    task: &Task,
    stalls: bool,
    removals: u32,
    out_and_back: impl Fn() -> Result<(), Obstacle>,
) -> Result<(), Obstacle> {
    let before = mm::frames().rebuild_stats().count;
    let hooked = points::set_hook(window::at);
    window::open(stalls);
    let done = (1..=removals).try_for_each(|removal| {
        if removal.is_multiple_of(TOLD_EVERY) {
            info!("price: {removal} of {removals} removals");
        }
        out_and_back()
    });
    window::close();
    drop(hooked);
    readers::wait_for_tasks(task);
    // A handler that found the window open has ended when this has run on its CPU.
    ipi::call_on_others(ipi::CallKind::Call, |_, _| (), 0, task);
    let rebuilds = mm::frames().rebuild_stats().count - before;
    for context in PriceContext::ALL {
        let row = counts::take(context, stalls, rebuilds);
        info!(
            "price: {} {}: {} of {} racing requests failed that a second one was served for; {} requests, {} short, {} left out, {rebuilds} rebuilds",
            context.name(),
            if stalls { "stalled" } else { "as they come" },
            row.failed,
            row.overlapped,
            row.requests,
            row.short,
            row.left_out,
        );
        link::send(task, &ToHost::Price(row));
    }
    done
}
