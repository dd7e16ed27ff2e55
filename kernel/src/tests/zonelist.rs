//! The fallback lists, and the protocol in force between their readers and their writer.

mod recheck;

use super::support::{
    SOON_NS, ensure,
    everywhere::{Jobs, others},
    frames::{OWNER, Pile, between_min_and_low, quiet, sign, take_all_down, unmovable, unsigned},
    tests, want,
};
use crate::{
    arch::{
        MAX_CPUS,
        context::{HardIrq, Nmi, Task},
        cpu_id, interrupts, nmi, percpu, time,
    },
    mm, points,
    selftest::{Group, Outcome, Report},
};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use recheck::{
    a_request_that_may_wait_looks_again_before_it_fails,
    a_request_that_may_wait_looks_again_before_oom,
    a_task_goes_round_for_as_long_as_the_counter_is_odd,
    a_task_that_began_at_an_odd_counter_goes_round_and_gets_its_frame,
    an_atomic_request_does_not_look_again,
};
use tidemark_frames::{FrameHandle, Gfp, ListKind, Order, Point, Request, WalkInfo, ZoneId};
use tidemark_sync::Context;

/// The group.
pub const GROUP: Group = Group {
    name: "zonelist",
    tests: tests![
        lists_hold_every_populated_zone_nearest_node_first,
        a_rebuild_moves_the_counter_by_two_and_changes_nothing_else,
        atomic_requests_complete_while_the_counter_is_odd,
        an_atomic_request_does_not_look_again,
        a_request_that_may_wait_looks_again_before_it_fails,
        a_request_that_may_wait_looks_again_before_oom,
        a_task_that_began_at_an_odd_counter_goes_round_and_gets_its_frame,
        a_task_goes_round_for_as_long_as_the_counter_is_odd,
    ],
};

/// Why a test about what a protocol does not do is skipped.
const READERS_WAIT: &str = "in this protocol readers wait for an even counter";
const READERS_NEVER_LOOK: &str = "in this protocol readers never look again";
const READERS_KEEP_NO_COUNTER: &str = "in this protocol readers keep no counter";

/// Rebuilds the lists as hot-plug does, over the same zones.
fn rebuild(task: &Task) {
    mm::frames().rebuild(task);
}

fn lists_hold_every_populated_zone_nearest_node_first(_: &Task, report: &mut Report) -> Outcome {
    let frames = mm::frames();
    let nodes = mm::machine_nodes();
    let populated = frames.zones().count();
    for node in mm::nodes_with_lists() {
        let distance =
            |zone: ZoneId| nodes.distance(usize::from(node.0), usize::from(zone.node().0));
        let list = frames.zonelist(node, ListKind::Fallback);
        ensure!(
            report,
            list.iter().count() == populated,
            "node {node}: {} of {populated} zones",
            list.iter().count()
        );
        for zone in frames.zones() {
            let times = list.iter().filter(|&listed| listed == zone.id).count();
            ensure!(
                report,
                times == 1,
                "node {node}: {} is there {times} times",
                zone.id
            );
        }
        for (zone, next) in list.iter().zip(list.iter().skip(1)) {
            if zone.node() == next.node() {
                ensure!(
                    report,
                    zone.kind() > next.kind(),
                    "node {node}: {zone} before {next}"
                );
            } else {
                ensure!(
                    report,
                    distance(zone) <= distance(next),
                    "node {node}: {zone} at {} before {next} at {}",
                    distance(zone),
                    distance(next)
                );
                let back = list.iter().skip_while(|&listed| listed != next);
                let again = back.into_iter().any(|listed| listed.node() == zone.node());
                ensure!(
                    report,
                    !again,
                    "node {node}: node {} is there twice",
                    zone.node()
                );
            }
        }
        let own = frames.zonelist(node, ListKind::NoFallback);
        let expected = list.iter().filter(|zone| zone.node() == node);
        ensure!(
            report,
            own.iter().eq(expected),
            "node {node}: NOFALLBACK is not its own zones"
        );
    }
    Outcome::Pass
}

fn a_rebuild_moves_the_counter_by_two_and_changes_nothing_else(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    let frames = mm::frames();
    let lists = || mm::nodes_with_lists().map(|node| frames.zonelist(node, ListKind::Fallback));
    let mut before = [None; tidemark_frames::MAX_NODES];
    for (place, list) in before.iter_mut().zip(lists()) {
        *place = Some(list);
    }
    let (counter, stats) = (frames.rebuild_counter(), frames.rebuild_stats());
    ensure!(report, counter % 2 == 0, "the counter is {counter} at rest");
    rebuild(task);
    ensure!(
        report,
        frames.rebuild_counter() == counter.wrapping_add(2),
        "{counter} became {}",
        frames.rebuild_counter()
    );
    ensure!(
        report,
        frames.rebuild_stats().count == stats.count + 1,
        "not counted as one"
    );
    ensure!(
        report,
        lists()
            .map(Some)
            .eq(before.into_iter().take(lists().count())),
        "the lists are others"
    );
    Outcome::Pass
}

/// What a handler's request met, in a word: 0 until it is done.
#[derive(Clone, Copy)]
struct Met(u64);

impl Met {
    const DONE: u64 = 1;
    const GOT: u64 = 2;
    const SLOW: u64 = 4;
    const ODD: u64 = 8;
    const OVERLAPPED: u64 = 16;
    /// The counter was odd still when the request was over.
    const ODD_AFTER: u64 = 32;
    const RETRIED: u64 = 64;

    /// What the mission demands of every handler.
    const AS_PROMISED: u64 =
        Self::DONE | Self::GOT | Self::SLOW | Self::ODD | Self::OVERLAPPED | Self::ODD_AFTER;

    fn of(got: bool, walk: &WalkInfo) -> Self {
        let odd_after = mm::frames().rebuild_counter() % 2 == 1;
        let bit = |holds: bool, bit| if holds { bit } else { 0 };
        Self(
            Self::DONE
                | bit(got, Self::GOT)
                | bit(walk.slow, Self::SLOW)
                | bit(walk.odd, Self::ODD)
                | bit(walk.overlapped, Self::OVERLAPPED)
                | bit(odd_after, Self::ODD_AFTER)
                | bit(walk.retries > 0, Self::RETRIED),
        )
    }
}

/// What each CPU's handlers met, and the frames that they got: interrupt, then NMI.
static MET: [[AtomicU64; 2]; MAX_CPUS] = [const { [const { AtomicU64::new(0) }; 2] }; MAX_CPUS];
static GOT: [[AtomicU64; 2]; MAX_CPUS] = [const { [const { AtomicU64::new(0) }; 2] }; MAX_CPUS];
const TAG: u64 = 0x7164_6d61;

fn request_in_handler(context: &impl Context, which: usize) {
    let cpu = cpu_id().0;
    let request = Request::atomic(Order::ZERO)
        .with(Gfp::NOWARN)
        .owned_by(OWNER);
    let mut walk = WalkInfo::default();
    let block = mm::frames().alloc_traced(context, &request, &mut walk).ok();
    let met = Met::of(block.is_some(), &walk);
    if let Some(block) = block {
        sign(&block, TAG);
        GOT[cpu][which].store(block.leak().into_raw(), SeqCst);
    }
    MET[cpu][which].store(met.0, SeqCst);
}

fn in_interrupt(irq: &HardIrq) {
    request_in_handler(irq, 0);
}

fn in_nmi(nmi: &Nmi) {
    request_in_handler(nmi, 1);
}

/// The writer's CPU, plus one, once the hook has run; the hook's work of this test.
static WRITER: AtomicU32 = AtomicU32::new(0);
static WRITER_HAD_INTERRUPTS: AtomicBool = AtomicBool::new(false);
static WORK: spin::Once<crate::arch::ipi::WorkId> = spin::Once::new();

fn forget_the_last_round() {
    for word in MET.iter().chain(&GOT).flatten() {
        word.store(0, SeqCst);
    }
    WRITER.store(0, SeqCst);
}

/// Stands inside the rebuild until every handler is done, or for as long as [`SOON_NS`].
fn interrupt_the_writer(point: Point) {
    let Some(&work) = WORK.get() else { return };
    if point != Point::RebuildOdd {
        return;
    }
    let here = cpu_id();
    WRITER_HAD_INTERRUPTS.store(interrupts::interrupts_enabled(), SeqCst);
    crate::arch::ipi::raise(others(), work);
    nmi::send(here);
    let done = |cpu: usize, which: usize| MET[cpu][which].load(SeqCst) != 0;
    // An NMI is not taken at the very next instruction under emulation in threads.
    time::spin_until(SOON_NS, || {
        done(here.0, 1) && percpu::cpus_in(others()).all(|cpu| done(cpu.0, 0))
    });
    WRITER.store(here.0 as u32 + 1, SeqCst);
}

/// This test is the mission in a nutshell. The counter is odd, and its writer waits, with
/// interrupts off where the protocol says so. Interrupt handlers on all other CPUs and an NMI
/// handler on the writer's CPU make atomic requests that reach the slow path. Each request
/// completes before the counter is even again.
fn atomic_requests_complete_while_the_counter_is_odd(task: &Task, report: &mut Report) -> Outcome {
    let variant = mm::frames().variant();
    if variant.every_reader_waits() {
        return Outcome::Skip(READERS_WAIT);
    }
    for round in 0..20 {
        forget_the_last_round();
        let jobs = want!(report, Jobs::set(in_nmi, in_interrupt), "no room for hooks");
        WORK.call_once(|| jobs.work());
        quiet(task);
        let mut pile = Pile::new();
        take_all_down(task, unmovable, between_min_and_low, &mut pile);
        let counter = mm::frames().rebuild_counter();
        let hooked = points::set_hook(interrupt_the_writer);
        rebuild(task);
        drop(hooked);
        let even = mm::frames().rebuild_counter();
        drop(pile);
        let writer = WRITER.load(SeqCst);
        ensure!(report, writer != 0, "the rebuild did not come by");
        let writer = writer as usize - 1;
        let (off, had) = (
            variant.writes_with_interrupts_off(),
            WRITER_HAD_INTERRUPTS.load(SeqCst),
        );
        ensure!(report, off != had, "the writer has interrupts on: {had}");
        ensure!(
            report,
            even == counter.wrapping_add(2),
            "{counter} became {even}"
        );
        let interrupts = percpu::online()
            .filter(|cpu| cpu.0 != writer)
            .map(|cpu| (cpu.0, 0));
        let mut failed = None;
        for (cpu, which) in interrupts.chain([(writer, 1)]) {
            let met = MET[cpu][which].load(SeqCst);
            if met != Met::AS_PROMISED {
                failed = Some((cpu, which, met));
            }
            if let Some(handle) = FrameHandle::from_raw(GOT[cpu][which].load(SeqCst)) {
                let block = want!(
                    report,
                    mm::frames().adopt(handle),
                    "cpu{cpu}: no such block"
                );
                ensure!(
                    report,
                    unsigned(&block, TAG).is_none(),
                    "cpu{cpu}: the signature is gone"
                );
            }
        }
        if let Some((cpu, which, met)) = failed {
            report.note(format_args!(
                "round {round}, cpu{cpu}, {}: {met:#b}, not {:#b}",
                ["interrupt", "NMI"][which],
                Met::AS_PROMISED
            ));
            return Outcome::Fail;
        }
    }
    Outcome::Pass
}
