//! Where a CPU hangs: an NMI finds out, on the CPU itself, when its timer has stood still.

use super::registers::Registers;
use super::{Named, write_backtrace};
use crate::arch::context::{HardIrq, Nmi};
use crate::arch::entry::TrapFrame;
use crate::arch::{MAX_CPUS, nmi, percpu, time, timer};
use crate::console;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A CPU whose timer has not ticked for this long is silent.
const SILENT_NS: u64 = 1_000_000_000;

/// When each CPU ticked last, and how often it has. Written by its own timer interrupt, read by its NMI and by the heartbeat.
static LAST_TICK_NS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
static TICKS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

pub(super) fn init() {
    let hooked = timer::add_hook(on_tick).and_then(|()| nmi::add_hook(on_nmi));
    if let Err(error) = hooked {
        crate::warn!("no report of silent CPUs: {error:?}");
    }
}

/// How often a CPU's timer has ticked, modulo 2^32.
pub fn ticks(cpu: percpu::CpuId) -> u32 {
    TICKS[cpu.0].load(Ordering::Relaxed)
}

fn on_tick(_irq: &HardIrq) {
    let cpu = percpu::cpu_id().0;
    LAST_TICK_NS[cpu].store(time::now_ns(), Ordering::Relaxed);
    TICKS[cpu].fetch_add(1, Ordering::Relaxed);
}

fn on_nmi(_nmi: &Nmi, frame: &TrapFrame) {
    #[cfg(feature = "lab")]
    if crate::lab::watchdog::watches() {
        return;
    }
    let cpu = percpu::cpu_id();
    let last = LAST_TICK_NS[cpu.0].load(Ordering::Relaxed);
    let silent_ns = time::now_ns().saturating_sub(last);
    if last == 0 || silent_ns < SILENT_NS {
        return;
    }
    // Reported again only after another silent second.
    LAST_TICK_NS[cpu.0].store(time::now_ns(), Ordering::Relaxed);
    crate::warn!(
        "hang: cpu{} has not ticked for {} ms, at {}\n{}{}",
        cpu.0,
        silent_ns / 1_000_000,
        Named(frame.rip),
        Registers(frame),
        Backtrace(frame.rbp),
    );
    console::write_out_from_hang();
}

struct Backtrace(u64);

impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f;
        write_backtrace(&mut text as &mut dyn Write, self.0)
    }
}
