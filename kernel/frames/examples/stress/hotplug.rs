//! The task of the last CPU. It lets memory leave and come back in another zone, rebuilds the
//! zonelists, and runs the oracle while all CPUs work.

use crate::{
    args::Exchange,
    counts::COUNTS,
    cpu::{self, Cpu, Doing},
    findings::{self, Finding, found},
    machine::frames,
    memory::{FRAMES_THAT_STAY, PLUGGED, PLUGGED_ZONES, range_of},
    pages, switches,
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tidemark_frames::{NodeId, NodeMask, Platform, SECTION_FRAMES, ZoneId};
use tidemark_sync::Task;

/// How long an offline tries, in nanoseconds. Owners free the range's frames within that time.
const PATIENCE_NS: u64 = 200_000_000;
/// Present frames when the thread has ended.
static PRESENT: AtomicU64 = AtomicU64::new(0);

/// The zone of a memory section; without one it has left.
struct Plugged {
    at: [Option<ZoneId>; PLUGGED.len()],
    last: [ZoneId; PLUGGED.len()],
}

/// Works until the run is stopped.
pub fn work(task: &Task, exchange: Exchange) {
    let cpu = cpu::here();
    let zones = PLUGGED.map(|(_, zone)| zone);
    let mut plugged = Plugged {
        at: zones.map(Some),
        last: zones,
    };
    let mut cycle = 0;
    while !findings::is_stopped() {
        cycle += 1;
        switches::set_exchange(exchange, cycle);
        confine(cpu);
        plugged.cycle(task, cpu);
        cpu.doing(Doing::Rebuild);
        for _ in 0..4 {
            frames().rebuild(task);
        }
        pages::read(task, cpu.random(), 300);
        look(cpu);
        cpu.doing(Doing::Nothing);
        cpu.goes_on();
    }
    switches::set_cpuset(None);
    let blocks = plugged.at.iter().flatten().count() * SECTION_FRAMES;
    PRESENT.store(FRAMES_THAT_STAY + blocks as u64, Relaxed);
}

/// Returns the number of present frames after the run.
pub fn present() -> u64 {
    PRESENT.load(Relaxed)
}

/// Confines the tasks to a node now and then, with a wall of that node or of all.
fn confine(cpu: &Cpu) {
    let node = NodeMask::only(NodeId(cpu.random().below(2) as u8));
    switches::set_cpuset(match cpu.random().below(10) {
        0 => Some((node, NodeMask::ALL)),
        1 => Some((node, node)),
        _ => None,
    });
}

/// Runs the part of the oracle that holds at any time.
fn look(cpu: &Cpu) {
    cpu.doing(Doing::Validate);
    COUNTS.validated.add(1);
    if let Err(inconsistency) = frames().validate() {
        found(Finding::Invalid(inconsistency));
    }
    let high_atomic = frames().zones().map(|zone| zone.high_atomic).sum();
    COUNTS.high_atomic.at_least(high_atomic);
}

impl Plugged {
    /// Lets one memory section leave, or come. At times two are away.
    fn cycle(&mut self, task: &Task, cpu: &Cpu) {
        let which = cpu.random().below(PLUGGED.len());
        let range = range_of(PLUGGED[which].0);
        if self.at[which].is_some() {
            cpu.doing(Doing::Offline);
            let deadline_ns = frames().platform().now_ns() + PATIENCE_NS;
            if frames().offline_range(range, deadline_ns, task).is_err() {
                return COUNTS.stayed.add(1);
            }
            COUNTS.offlined.add(1);
            self.at[which] = None;
            let away = self.at.iter().filter(|at| at.is_none()).count();
            if away < 3 && cpu.random().one_in(4) {
                return;
            }
        }
        cpu.doing(Doing::Online);
        let zone = cpu.random().pick(&PLUGGED_ZONES);
        match frames().online_range(range, zone, task) {
            Ok(_) => {
                COUNTS.zone_changes.add(u64::from(zone != self.last[which]));
                self.at[which] = Some(zone);
                self.last[which] = zone;
            }
            Err(_) => found(Finding::NotOnline("its range is refused")),
        }
    }
}
