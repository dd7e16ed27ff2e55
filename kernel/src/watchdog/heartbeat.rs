//! The heartbeat: a thread that reports to the host, every 100 ms, that the guest lives and which
//! CPU does not.

use crate::arch::context::Task;
use crate::arch::{MAX_CPUS, percpu, time};
use crate::console::{self, Share};
use crate::thread::{self, Placement, Priority};
use crate::{link, mm, points};
use tidemark_wire::ToHost;

/// Time between two heartbeats, in nanoseconds.
const PERIOD_NS: u64 = 100_000_000;
/// Number of heartbeats without a tick after which a CPU is called silent.
const SILENT_BEATS: u8 = 10;

/// Starts the thread.
pub fn start() {
    if let Err(error) = thread::spawn("heartbeat", Placement::Any, Priority::High, beat, 0) {
        crate::warn!("link: no heartbeat: {error:?}");
    }
}

fn beat(task: &Task, _argument: usize) {
    let mut watch = Watch::new();
    let mut seq = 0;
    loop {
        let silent = percpu::online().map(|cpu| (cpu.0 as u16, super::ticks(cpu)));
        link::send(
            task,
            &ToHost::Heartbeat {
                seq,
                now_ns: time::now_ns(),
                silent_cpu: watch.look(silent),
            },
        );
        // A silent CPU cannot write out what it stored. In a scenario of the laboratory, the
        // scenario decides which code prints.
        if !points::in_scenario() {
            mm::warnings::flush();
            console::flush(Share::All);
        }
        seq = seq.wrapping_add(1);
        thread::sleep_ns(task, PERIOD_NS);
    }
}

/// The tick count of each CPU, and the number of beats for which it has stood still.
#[derive(Debug)]
struct Watch {
    last: [(u32, u8); MAX_CPUS],
}

impl Watch {
    const fn new() -> Self {
        Watch {
            last: [(0, 0); MAX_CPUS],
        }
    }

    /// Takes every CPU's count; returns the first that has not moved for [`SILENT_BEATS`] looks.
    fn look(&mut self, counts: impl Iterator<Item = (u16, u32)>) -> Option<u16> {
        let mut silent = None;
        for (cpu, count) in counts {
            let (last, still) = &mut self.last[usize::from(cpu)];
            *still = if *last == count {
                still.saturating_add(1)
            } else {
                0
            };
            *last = count;
            if *still >= SILENT_BEATS && silent.is_none() {
                silent = Some(cpu);
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_silent_after_ten_beats_without_a_tick() {
        let mut watch = Watch::new();
        assert_eq!(watch.look([(0, 1), (5, 1)].into_iter()), None);
        for beat in 1..10 {
            assert_eq!(watch.look([(0, 1 + beat), (5, 1)].into_iter()), None);
        }
        assert_eq!(watch.look([(0, 11), (5, 1)].into_iter()), Some(5));
        assert_eq!(watch.look([(0, 12), (5, 2)].into_iter()), None);
    }
}
