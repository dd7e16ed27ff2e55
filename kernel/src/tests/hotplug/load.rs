//! DIMMs leave and return while every CPU allocates.

use super::super::support::{
    SOON_NS, dimms, ensure,
    everywhere::Team,
    frames::{OWNER, sign, unsigned},
    want,
};
use crate::{
    arch::context::{HardIrq, Task},
    hotplug,
    mm::{self, page_cache},
    selftest::{Outcome, Report},
};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use tidemark_frames::{Gfp, Order, Request};

static STOP: AtomicBool = AtomicBool::new(false);
static ROUNDS: AtomicU64 = AtomicU64::new(0);
static BROKEN: AtomicU64 = AtomicU64::new(0);

static SCI_MADE: AtomicU64 = AtomicU64::new(0);
static SCI_FAILED: AtomicU64 = AtomicU64::new(0);

/// The system control interrupt of the very events allocates, too.
fn on_sci(irq: &HardIrq) {
    SCI_MADE.fetch_add(1, SeqCst);
    let request = Request::atomic(Order::ZERO).with(Gfp::NOWARN);
    match mm::frames().alloc(irq, &request.owned_by(OWNER)) {
        Ok(block) => sign(&block, 0),
        Err(_) => {
            SCI_FAILED.fetch_add(1, SeqCst);
        }
    }
}

/// Allocates, signs, checks and frees on one CPU, in tasks and as an interrupt would, and reads
/// pages.
fn load(task: &Task, cpu: usize) {
    let mut page = cpu as u32;
    let wrong = |wrong: bool| {
        if wrong {
            BROKEN.fetch_add(1, SeqCst);
        }
    };
    while !STOP.load(SeqCst) {
        let order = Order::new((ROUNDS.fetch_add(1, SeqCst) % 4) as u8).unwrap_or(Order::ZERO);
        for request in [Request::kernel(order), Request::atomic(Order::ZERO)] {
            if let Ok(block) = mm::frames().alloc(task, &request.owned_by(OWNER)) {
                sign(&block, cpu as u64);
                wrong(unsigned(&block, cpu as u64).is_some());
            }
        }
        page = page.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let pages = page_cache::pages().min(4_000);
        wrong(page_cache::read((page >> 8) % pages, task).is_err());
    }
}

pub(super) fn dimms_leave_and_return_under_load(task: &Task, report: &mut Report) -> Outcome {
    if let Some(reason) = dimms::missing() {
        return Outcome::Skip(reason);
    }
    STOP.store(false, SeqCst);
    for count in [&SCI_MADE, &SCI_FAILED] {
        count.store(0, SeqCst);
    }
    hotplug::set_sci_hook(Some(on_sci));
    ROUNDS.store(0, SeqCst);
    BROKEN.store(0, SeqCst);
    let team = want!(report, Team::start(task, "test-load", load), "no threads");
    let mut failed = None;
    let mut events = 0;
    'cycles: for cycle in 0..2 {
        for dimm in dimms::online() {
            events += 2;
            if let Err(why) = dimm.pull(task).and_then(|_| dimm.plug(task)) {
                failed = Some((cycle, dimm.slot, why));
                break 'cycles;
            }
        }
    }
    hotplug::set_sci_hook(None);
    STOP.store(true, SeqCst);
    let ended = team.join(task, SOON_NS);
    if let Some((cycle, slot, why)) = failed {
        report.note(format_args!("cycle {cycle}, dimm{slot}: {why}"));
        return Outcome::Fail;
    }
    ensure!(report, ended, "the threads did not end");
    ensure!(
        report,
        BROKEN.load(SeqCst) == 0,
        "{} signatures or pages",
        BROKEN.load(SeqCst)
    );
    ensure!(
        report,
        ROUNDS.load(SeqCst) > 100,
        "{} rounds only",
        ROUNDS.load(SeqCst)
    );
    let [made, failed] = [&SCI_MADE, &SCI_FAILED].map(|count| count.load(SeqCst));
    ensure!(
        report,
        made >= events,
        "{events} events, {made} requests by the SCI"
    );
    ensure!(
        report,
        failed == 0,
        "{failed} of {made} requests by the SCI failed"
    );
    let verified = page_cache::verify_all(task);
    ensure!(report, verified.corrupted == 0, "{verified:?}");
    Outcome::Pass
}
