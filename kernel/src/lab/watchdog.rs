//! The watchdog: each CPU's timer ticks, and whoever is awake looks at its neighbour's.
//!
//! "Whoever is awake" is the tick of another CPU, a waiter in its loop, a role that is held, or an NMI handler: so
//! two CPUs that wait for each other with interrupts off are found, too. A CPU without ticks is sent an
//! NMI, which writes down where it is, whatever it is doing. If it waits in a loop that the laboratory
//! knows, that loop is told to give up, and the run goes on.

use super::stage;
use crate::arch::context::{HardIrq, Nmi};
use crate::arch::entry::TrapFrame;
use crate::arch::{self, MAX_CPUS, nmi, percpu, time, timer};
use crate::panic;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use tidemark_wire::{LabPoint, Role};

/// A CPU whose timer has not ticked for this long is silent.
const SILENT_NS: u64 = 1_000_000_000;
/// A waiter that has not turned for this long was not running: its host thread was switched away.
const STARVED_NS: u64 = 100_000_000;
/// Turns of a wait between two looks at the neighbour.
const LOOK_EVERY: u32 = 256;
/// Return addresses that are kept of a silent CPU.
const CALLERS: usize = 12;

/// What is known of one CPU.
struct Watched {
    /// When it ticked last. Written by its own timer interrupt.
    ticked_ns: AtomicU64,
    /// When somebody last sent it the watchdog's NMI.
    asked_ns: AtomicU64,
    /// Turns of waits that the laboratory knows, and when the last one was. Its own.
    turns: AtomicU32,
    turned_ns: AtomicU64,
    /// Its waits are to end. Written by its own NMI.
    give_up: AtomicBool,
    /// When it was found to hang, or 0; then where: the instruction, then its callers.
    hung_ns: AtomicU64,
    at: [AtomicU64; CALLERS],
    /// Its registers then, in the order of [`REGISTERS`].
    registers: [AtomicU64; REGISTERS.len()],
}

/// The registers that are kept of a silent CPU.
pub const REGISTERS: [&str; 18] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip", "rflags",
];

static CPUS: [Watched; MAX_CPUS] = [const {
    Watched {
        ticked_ns: AtomicU64::new(0),
        asked_ns: AtomicU64::new(0),
        turns: AtomicU32::new(0),
        turned_ns: AtomicU64::new(0),
        give_up: AtomicBool::new(false),
        hung_ns: AtomicU64::new(0),
        at: [const { AtomicU64::new(0) }; CALLERS],
        registers: [const { AtomicU64::new(0) }; REGISTERS.len()],
    }
}; MAX_CPUS];

/// Whether the hooks are in place.
static WATCHES: AtomicBool = AtomicBool::new(false);

/// Starts to watch. Returns whether there was room for its hooks.
#[must_use]
pub fn start() -> bool {
    let now = time::now_ns();
    for cpu in &CPUS {
        cpu.ticked_ns.store(now, Relaxed);
    }
    let hooked = timer::add_hook(on_tick).and_then(|()| nmi::add_hook(on_nmi));
    WATCHES.store(hooked.is_ok(), Release);
    hooked.is_ok()
}

/// Whether the laboratory reports hangs, so that nobody else need.
pub fn watches() -> bool {
    WATCHES.load(Acquire)
}

fn on_tick(_irq: &HardIrq) {
    let me = arch::cpu_id().0;
    CPUS[me].ticked_ns.store(time::now_ns(), Relaxed);
    look();
}

/// Says that the running CPU is awake although its timer may not tick: it is held at a point. Any context.
pub fn awake() {
    CPUS[arch::cpu_id().0]
        .ticked_ns
        .store(time::now_ns(), Relaxed);
    look();
}

/// Looks at the neighbour, and sends it an NMI if it has been silent for too long. Any context.
pub fn look() {
    if !stage::is_open() {
        return;
    }
    let me = arch::cpu_id().0;
    let mask = percpu::online_mask();
    let others = (me + 1..MAX_CPUS).chain(0..me);
    let Some(neighbour) = others.into_iter().find(|cpu| mask >> cpu & 1 == 1) else {
        return;
    };
    let watched = &CPUS[neighbour];
    let now = time::now_ns();
    let silent = now.saturating_sub(watched.ticked_ns.load(Relaxed));
    let asked = now.saturating_sub(watched.asked_ns.load(Relaxed));
    if silent >= SILENT_NS && asked >= SILENT_NS / 4 && watched.hung_ns.load(Relaxed) == 0 {
        watched.asked_ns.store(now, Relaxed);
        nmi::send(arch::CpuId(neighbour));
    }
}

/// Sends the running CPU, which waits, an NMI if it is silent and its neighbour was found to hang: of
/// two CPUs the one that hung first has looked at the other too early, and looks no more.
fn look_at_self() {
    let me = arch::cpu_id().0;
    let others_hang = percpu::cpus_in(percpu::online_mask())
        .all(|cpu| cpu.0 == me || CPUS[cpu.0].hung_ns.load(Relaxed) != 0);
    let watched = &CPUS[me];
    let now = time::now_ns();
    let silent = now.saturating_sub(watched.ticked_ns.load(Relaxed));
    let asked = now.saturating_sub(watched.asked_ns.load(Relaxed));
    if others_hang && silent >= SILENT_NS && asked >= SILENT_NS / 4 {
        watched.asked_ns.store(now, Relaxed);
        nmi::send(arch::CpuId(me));
    }
}

/// On the CPU itself, whatever it is doing: writes down where, and ends a wait that would never end.
fn on_nmi(_nmi: &Nmi, frame: &TrapFrame) {
    if !stage::is_open() {
        return;
    }
    let me = arch::cpu_id().0;
    let watched = &CPUS[me];
    let now = time::now_ns();
    let silent = now.saturating_sub(watched.ticked_ns.load(Relaxed)) >= SILENT_NS;
    // A waiter whose host thread was switched away comes back with a loop that stood still.
    let turned = watched.turned_ns.load(Relaxed);
    let starved = turned != 0 && now.saturating_sub(turned) > STARVED_NS;
    if !silent || starved || watched.hung_ns.load(Relaxed) != 0 {
        return;
    }
    watched.hung_ns.store(now.max(1), Relaxed);
    let registers = [
        frame.rax,
        frame.rbx,
        frame.rcx,
        frame.rdx,
        frame.rsi,
        frame.rdi,
        frame.rbp,
        frame.rsp,
        frame.r8,
        frame.r9,
        frame.r10,
        frame.r11,
        frame.r12,
        frame.r13,
        frame.r14,
        frame.r15,
        frame.rip,
        frame.rflags,
    ];
    for (kept, register) in watched.registers.iter().zip(registers) {
        kept.store(register, Relaxed);
    }
    let mut place = watched.at.iter();
    let mut put = |address| {
        if let Some(place) = place.next() {
            place.store(address, Relaxed);
        }
    };
    put(frame.rip);
    panic::for_each_return(frame.rbp, &mut put);
    stage::note(Role::Watchdog, LabPoint::Hang, me as u64);
    // Two that wait for each other: the neighbour may have nobody else who looks at it.
    look();
    if turned != 0 {
        // Release: pairs with the Acquire in `turn`; who gives up finds the place written down.
        watched.give_up.store(true, Release);
    }
}

/// One turn of a wait for an even counter. Any context.
pub fn turn() -> ControlFlow<()> {
    core::hint::spin_loop();
    if !stage::is_open() {
        return ControlFlow::Continue(());
    }
    let watched = &CPUS[arch::cpu_id().0];
    if watched.give_up.load(Acquire) {
        stage::step(LabPoint::GaveUp, 0);
        return ControlFlow::Break(());
    }
    watched.turned_ns.store(time::now_ns(), Relaxed);
    let turns = watched.turns.fetch_add(1, Relaxed);
    if turns == 0 {
        let counter = crate::mm::frames().rebuild_counter();
        stage::step(LabPoint::Spins, u64::from(counter));
    }
    if turns.is_multiple_of(LOOK_EVERY) {
        look();
        look_at_self();
    }
    ControlFlow::Continue(())
}

/// The CPUs that were found to hang, the first one first, and whether they waited in a known loop.
pub fn hung() -> impl Iterator<Item = (usize, bool)> {
    let mut found: [(u64, usize); MAX_CPUS] = core::array::from_fn(|cpu| {
        let at = CPUS[cpu].hung_ns.load(Relaxed);
        (if at == 0 { u64::MAX } else { at }, cpu)
    });
    found.sort_unstable();
    found
        .into_iter()
        .take_while(|&(at, _)| at != u64::MAX)
        .map(|(_, cpu)| (cpu, CPUS[cpu].give_up.load(Relaxed)))
}

/// A hung CPU's registers, in the order of [`REGISTERS`].
pub fn registers_of(cpu: usize) -> impl Iterator<Item = (&'static str, u64)> {
    let registers = &CPUS[cpu].registers;
    REGISTERS
        .into_iter()
        .zip(registers.iter().map(|kept| kept.load(Relaxed)))
}

/// Where a hung CPU was: the instruction, then return addresses.
pub fn place_of(cpu: usize) -> impl Iterator<Item = u64> {
    let mut number = 0;
    CPUS[cpu]
        .at
        .iter()
        .map(|address| address.load(Relaxed))
        .take_while(|&address| address != 0)
        .map(move |address| {
            number += 1;
            // A return address lies behind its call, which may be the function's last instruction.
            if number > 1 { address - 1 } else { address }
        })
}
