//! The watchdog. If a CPU's task does not go on, it names the CPU and ends the process.

use crate::{cpu, findings, report};
use std::{
    sync::atomic::Ordering::Relaxed,
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(50);
/// How much longer a run may take to meet everything that it must, on a busy machine.
const LONGER: Duration = Duration::from_secs(30);

/// Lets the CPUs work for a time, and longer until the run has met everything that it must. Then it
/// ends the run and waits for all threads. It does not return if a CPU hangs.
pub fn watch(threads: &[JoinHandle<()>], time: Duration, hang: Duration) {
    let started = Instant::now();
    let mut seen: Vec<(u64, Instant)> = cpu::all().iter().map(|_| (0, started)).collect();
    while threads.iter().any(|thread| !thread.is_finished()) {
        std::thread::sleep(EVERY);
        let (ran, has_all) = (started.elapsed(), report::not_exercised().is_empty());
        if ran >= time && (has_all || ran >= time + LONGER) {
            findings::stop();
        }
        for (cpu, (operations, since)) in cpu::all().iter().zip(&mut seen) {
            let now = cpu.operations.load(Relaxed);
            if now != *operations || threads[cpu.number].is_finished() {
                (*operations, *since) = (now, Instant::now());
            } else if since.elapsed() >= hang {
                let seconds = since.elapsed().as_secs();
                report::end_now(&format!(
                    "hang: cpu{} has not gone on for {seconds} s",
                    cpu.number
                ));
            }
        }
    }
}
