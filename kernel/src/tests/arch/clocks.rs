//! The clock against another one, against itself on other CPUs, and the tick.

use super::super::support::{MS, SOON_NS, ensure, eventually};
use crate::{
    arch::{
        context::{HardIrq, Task},
        ipi::{self, CallKind},
        own_time, percpu, time, timer, vectors, without_interrupts,
    },
    selftest::{Outcome, Report},
};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use x86_64::instructions::port::Port;

/// Frequency of the legacy timer, which the clock is not calibrated against where there is a PM
/// timer.
const PIT_HZ: u64 = 1_193_182;
/// How long the two are compared; the legacy timer goes round in 54.9 ms.
const COMPARED_NS: u64 = 40 * MS;

/// Starts channel 2 of the legacy timer at 0xffff, counting down and round.
fn pit_start() {
    let mut gate = Port::<u8>::new(0x61);
    // SAFETY: channel 2 drives the speaker only, which stays off; nobody uses it after boot.
    unsafe {
        let closed = gate.read() & !3;
        gate.write(closed);
        Port::<u8>::new(0x43).write(0b1011_0000);
        Port::<u8>::new(0x42).write(0xff);
        Port::<u8>::new(0x42).write(0xff);
        gate.write(closed | 1);
    }
}

fn pit_count() -> u16 {
    let mut channel2 = Port::<u8>::new(0x42);
    // SAFETY: latches and reads the counter that `pit_start` started.
    unsafe {
        Port::<u8>::new(0x43).write(0b1000_0000);
        u16::from_le_bytes([channel2.read(), channel2.read()])
    }
}

/// The legacy timer between two readings of the clock, as close to each other as a busy host
/// allows.
fn both_clocks() -> (u64, u16) {
    (0..50)
        .map(|_| {
            let before = time::now_ns();
            let count = pit_count();
            let took = time::now_ns() - before;
            (took, before + took / 2, count)
        })
        .min_by_key(|&(took, ..)| took)
        .map_or((0, 0), |(_, clock_ns, count)| (clock_ns, count))
}

pub(super) fn a_cpus_own_time_leaves_its_instruments_out(_: &Task, report: &mut Report) -> Outcome {
    const EACH_NS: u64 = 2 * MS;
    let (own_ns, wall_ns) = without_interrupts(|| {
        let wall = time::now_ns();
        let own = own_time::now_ns();
        own_time::leaving_out(|| {
            time::spin_ns(EACH_NS / 2);
            // One inside another, as an NMI in a hook, counts once.
            own_time::leaving_out(|| time::spin_ns(EACH_NS / 2));
        });
        time::spin_ns(EACH_NS);
        (own_time::now_ns() - own, time::now_ns() - wall)
    });
    ensure!(
        report,
        own_ns >= EACH_NS && own_ns + EACH_NS <= wall_ns,
        "{own_ns} ns of its own in {wall_ns} ns; {EACH_NS} were spun, and as many left out"
    );
    Outcome::Pass
}

pub(super) fn the_clock_agrees_with_the_legacy_timer(_: &Task, report: &mut Report) -> Outcome {
    for _ in 0..20 {
        let (start, end) = without_interrupts(|| {
            pit_start();
            let start = both_clocks();
            time::spin_ns(COMPARED_NS);
            (start, both_clocks())
        });
        let measured = end.0 - start.0;
        let expected = u64::from(start.1.wrapping_sub(end.1)) * 1_000_000_000 / PIT_HZ;
        if measured.abs_diff(expected) * 100 < expected {
            return Outcome::Pass;
        }
        // The host may have held this CPU until the legacy timer had gone round; a clock that runs
        // wrong is wrong every time.
        report.note(format_args!(
            "the clock says {measured} ns, the timer {expected}"
        ));
    }
    Outcome::Fail
}

pub(super) fn the_clock_does_not_step_back_between_cpus(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    static NOW: AtomicU64 = AtomicU64::new(0);
    fn read(_: &HardIrq, _: usize) {
        NOW.store(time::now_ns(), SeqCst);
    }
    for round in 0..20 {
        for cpu in percpu::online() {
            let before = time::now_ns();
            ipi::call_on(percpu::mask_of(cpu), CallKind::Call, read, 0, task);
            let after = time::now_ns();
            let there = NOW.load(SeqCst);
            // What a CPU reads lies between two readings here, up to a microsecond of skew.
            ensure!(
                report,
                before <= there + 1_000 && there <= after + 1_000,
                "round {round}: {before} here, {there} on cpu{}, {after} here",
                cpu.0
            );
        }
    }
    Outcome::Pass
}

pub(super) fn every_cpu_ticks(task: &Task, report: &mut Report) -> Outcome {
    let hz = u64::from(timer::hz());
    for cpu in percpu::online() {
        let ticks = || percpu::of(cpu).taken(vectors::TIMER);
        let (before, start) = (ticks(), time::now_ns());
        let enough = eventually(task, SOON_NS, || ticks().wrapping_sub(before) >= 10);
        ensure!(
            report,
            enough,
            "cpu{} ticked {} times",
            cpu.0,
            ticks().wrapping_sub(before)
        );
        // A tick may be late on a busy host, never early: ten periods take nine at least.
        let most = (time::now_ns() - start) * hz / 1_000_000_000 + 2;
        let taken = u64::from(ticks().wrapping_sub(before));
        ensure!(
            report,
            taken <= most * 2,
            "cpu{}: {taken} ticks where {most} were due",
            cpu.0
        );
    }
    Outcome::Pass
}
