//! The watchdog: each CPU's timer ticks, and whoever is awake looks at its neighbour's.
//!
//! "Whoever is awake" is the tick of another CPU, a waiter in its loop, a role of the laboratory
//! that is held, or an NMI handler: so CPUs that wait for each other with interrupts off are found,
//! too. A CPU without ticks is sent an NMI, and a second one a quarter of a second later: a CPU
//! that was merely not run by its host ticks in between. The second one writes down where it is,
//! whatever it is doing, and logs it.
//!
//! One thing no NMI interrupts: an NMI's handler. Its CPU does not answer; a wait in such a handler
//! is told by the neighbour to write down by itself where it is, and of any other one what it
//! interrupted is known.
//!
//! In a scenario of the laboratory nothing is logged meanwhile; once the CPUs that were found wait
//! for each other in a cycle, the loops that the kernel knows are told to give up, and the run goes
//! on.

mod found;
pub mod heartbeat;
mod report;

pub use found::{Found, Seen, Waits};
#[cfg(feature = "lab")]
pub use report::{Details, Function};

use crate::arch::context::{HardIrq, Nmi};
use crate::arch::entry::TrapFrame;
use crate::arch::{self, CpuId, MAX_CPUS, nmi, percpu, time, timer};
use crate::options;
use crate::points;
use crate::thread::quiesce;
#[cfg(feature = "lab")]
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use tidemark_wire::LabContext;
#[cfg(feature = "lab")]
use tidemark_wire::LabPoint;

/// A CPU whose timer has not ticked for this long is silent; in a scenario, where hangs are
/// expected and CPUs few.
const SILENT_IN_SCENARIO_NS: u64 = 1_000_000_000;
/// How long a CPU is silent before it counts so, outside of scenarios.
pub const SILENT_NS: u64 = 2_000_000_000;
/// Silence after which one NMI is enough, if no neighbour has sent any: it is the host's, to a
/// machine in which nobody is awake.
const SURE_NS: u64 = 4_000_000_000;
/// Time between two NMIs to a silent CPU, and what must lie between the two that find a hang.
pub const ASK_AGAIN_NS: u64 = 250_000_000;
const CERTAIN_NS: u64 = 200_000_000;
/// A waiter that has not turned for this long does not wait, or its host thread was switched away.
const STARVED_NS: u64 = 100_000_000;
/// Turns of a wait, and ticks, between two looks at the neighbour.
#[cfg(feature = "lab")]
const LOOK_EVERY_TURNS: u32 = 256;
const LOOK_EVERY_TICKS: u32 = 16;
/// NMIs without an answer after which the CPU counts as being inside an NMI's handler, if it is in
/// one; and after which it is not waited for to say where.
const UNANSWERED: u32 = 2;
const UNANSWERED_AT_ALL: u32 = 4;

/// What is known of one CPU.
struct Watched {
    /// When it ticked last, and how often it has. Written by its own timer interrupt.
    ticked_ns: AtomicU64,
    ticks: AtomicU32,
    /// When it was last sent the watchdog's NMI, by whom, and how often it was since it ticked.
    asked_ns: AtomicU64,
    asked_by: AtomicU32,
    asks: AtomicU32,
    /// How often in a row it has not taken it until the next one was due.
    unanswered: AtomicU32,
    /// When it took an NMI last, of anybody's, and whether that was the watchdog's. Its own.
    answered_ns: AtomicU64,
    is_asked: AtomicBool,
    /// What its last NMI interrupted: rip, rsp, rbp, rflags. Its own; read while it does not
    /// answer.
    interrupted: [AtomicU64; 4],
    /// The ticks (plus one) and the time at which its NMI found it silent for the first time. Its
    /// own.
    suspected_at_tick: AtomicU32,
    suspected_ns: AtomicU64,
    /// A neighbour found that it is inside an NMI's handler: its wait has to say itself where it
    /// is.
    is_unreachable: AtomicBool,
    /// Turns of waits that the kernel knows, and when the last one since the last tick was. Its
    /// own.
    #[cfg(feature = "lab")]
    turns: AtomicU32,
    turned_ns: AtomicU64,
    /// Whether a scenario's trace has its first turn. Its own.
    #[cfg(feature = "lab")]
    has_spun: AtomicBool,
    /// Its waits are to end: a scenario found what it wanted to find. Its own.
    gives_up: AtomicBool,
    /// The ticks (plus one) that it had when it was last found to hang.
    found_at_tick: AtomicU32,
    found: Found,
}

static CPUS: [Watched; MAX_CPUS] = [const {
    Watched {
        ticked_ns: AtomicU64::new(0),
        ticks: AtomicU32::new(0),
        asked_ns: AtomicU64::new(0),
        asked_by: AtomicU32::new(0),
        asks: AtomicU32::new(0),
        unanswered: AtomicU32::new(0),
        answered_ns: AtomicU64::new(0),
        is_asked: AtomicBool::new(false),
        interrupted: [const { AtomicU64::new(0) }; 4],
        suspected_at_tick: AtomicU32::new(0),
        suspected_ns: AtomicU64::new(0),
        is_unreachable: AtomicBool::new(false),
        #[cfg(feature = "lab")]
        turns: AtomicU32::new(0),
        turned_ns: AtomicU64::new(0),
        #[cfg(feature = "lab")]
        has_spun: AtomicBool::new(false),
        gives_up: AtomicBool::new(false),
        found_at_tick: AtomicU32::new(0),
        found: Found::new(),
    }
}; MAX_CPUS];

/// Whether the hooks are in place.
static WATCHES: AtomicBool = AtomicBool::new(false);

/// Starts to watch; interrupts run. Once.
pub fn start() {
    let now = time::now_ns();
    for cpu in &CPUS {
        cpu.ticked_ns.store(now, Relaxed);
    }
    #[cfg(feature = "lab")]
    points::set_turn(turn);
    match timer::add_hook(on_tick).and_then(|()| nmi::add_hook(on_nmi)) {
        Ok(()) => WATCHES.store(true, Release),
        Err(error) => crate::warn!("no watch over silent CPUs: {error:?}"),
    }
}

/// How often a CPU's timer has ticked, modulo 2^32. Any context.
pub fn ticks(cpu: CpuId) -> u32 {
    CPUS[cpu.0].ticks.load(Relaxed)
}

/// Whether the NMI that the running CPU is in is the watchdog's, and so nobody else's. In an NMI's
/// handler.
pub fn sent_this_nmi() -> bool {
    CPUS[arch::cpu_id().0].is_asked.load(Relaxed)
}

/// What was found of a CPU that hung, if one did; the last time. Any context.
pub fn found(cpu: CpuId) -> Option<&'static Found> {
    let found = &CPUS[cpu.0].found;
    found.is_there().then_some(found)
}

/// The CPUs that were found to hang so far, the first one first.
#[cfg(feature = "lab")]
pub fn hung() -> impl Iterator<Item = (usize, &'static Found)> {
    let mut found: [(u64, usize); MAX_CPUS] =
        core::array::from_fn(|cpu| (CPUS[cpu].found.at_ns().unwrap_or(u64::MAX), cpu));
    found.sort_unstable();
    found
        .into_iter()
        .take_while(|&(at, _)| at != u64::MAX)
        .map(|(_, cpu)| (cpu, &CPUS[cpu].found))
}

impl Watched {
    fn silent_ns(&self, now: u64) -> u64 {
        now.saturating_sub(self.ticked_ns.load(Relaxed))
    }

    fn is_silent(&self, now: u64) -> bool {
        let limit = if points::in_scenario() {
            SILENT_IN_SCENARIO_NS
        } else {
            SILENT_NS
        };
        self.silent_ns(now) >= limit
    }

    /// Whether it was found to hang and has not ticked since. In a scenario once is enough.
    fn is_found(&self) -> bool {
        let at_tick = self.found_at_tick.load(Relaxed);
        at_tick == self.ticks.load(Relaxed).wrapping_add(1)
            || (at_tick != 0 && points::in_scenario())
    }

    fn waits(&self, now: u64) -> bool {
        let turned = self.turned_ns.load(Relaxed);
        turned != 0 && now.saturating_sub(turned) <= STARVED_NS
    }
}

fn on_tick(_irq: &HardIrq) {
    let watched = &CPUS[arch::cpu_id().0];
    watched.ticked_ns.store(time::now_ns(), Relaxed);
    watched.asks.store(0, Relaxed);
    watched.turned_ns.store(0, Relaxed);
    watched.is_unreachable.store(false, Relaxed);
    let ticks = watched.ticks.load(Relaxed).wrapping_add(1);
    watched.ticks.store(ticks, Relaxed);
    if ticks.is_multiple_of(LOOK_EVERY_TICKS) {
        look();
    }
}

/// Says that the running CPU is awake although its timer may not tick: it is held at a point. Any
/// context.
#[cfg(feature = "lab")]
pub fn awake() {
    let watched = &CPUS[arch::cpu_id().0];
    watched.ticked_ns.store(time::now_ns(), Relaxed);
    look();
}

/// Looks at the neighbour, the next CPU that is online. Any context.
fn look() {
    let me = arch::cpu_id().0;
    let mask = percpu::online_mask() & !percpu::mask_of(CpuId(me));
    if mask == 0 {
        return;
    }
    let above = mask & u64::MAX.checked_shl(me as u32 + 1).unwrap_or(0);
    let neighbour = if above == 0 { mask } else { above }.trailing_zeros();
    look_at(neighbour as usize);
}

/// Sends a CPU an NMI if it has been silent for too long.
fn look_at(cpu: usize) {
    let watched = &CPUS[cpu];
    let now = time::now_ns();
    let asked = now.saturating_sub(watched.asked_ns.load(Relaxed));
    if !watched.is_silent(now) || asked < ASK_AGAIN_NS || watched.is_found() {
        return;
    }
    // At rest CPUs are silent on purpose.
    if !WATCHES.load(Acquire) || quiesce::nmis_held() || is_deaf() {
        return;
    }
    let before = watched.asked_ns.swap(now, Relaxed);
    watched.asked_by.store(arch::cpu_id().0 as u32, Relaxed);
    let is_first = watched.asks.fetch_add(1, Relaxed) == 0;
    let unanswered = if is_first || watched.answered_ns.load(Relaxed) >= before {
        0
    } else {
        watched.unanswered.load(Relaxed) + 1
    };
    watched.unanswered.store(unanswered, Relaxed);
    if unanswered >= UNANSWERED && nmi::is_in(CpuId(cpu)) {
        // Release: pairs with the Acquire in `turn`; who asked, and when, is to be read there.
        watched.is_unreachable.store(true, Release);
        if unanswered >= UNANSWERED_AT_ALL {
            watched.find_from_outside(cpu, now);
        }
        return;
    }
    nmi::send(CpuId(cpu));
}

/// Whether the watchdog was planted deaf: its tests must then fail.
fn is_deaf() -> bool {
    options::get().plant == Some(options::Plant::DeafWatchdog)
}

/// What a waiter does about itself if it is silent and everybody else was found to hang: of CPUs
/// that wait for each other the one that hung first has looked at the others too early, and looks
/// no more.
#[cfg(feature = "lab")]
fn look_at_self() {
    let me = arch::cpu_id();
    let others_hang = percpu::online().all(|cpu| cpu == me || CPUS[cpu.0].is_found());
    if others_hang {
        look_at(me.0);
    }
}

/// On the CPU itself, whatever it is doing: writes down where, and ends a wait that would never
/// end.
fn on_nmi(_nmi: &Nmi, frame: &TrapFrame) {
    let me = arch::cpu_id().0;
    let watched = &CPUS[me];
    let now = time::now_ns();
    for (kept, register) in
        watched
            .interrupted
            .iter()
            .zip([frame.rip, frame.rsp, frame.rbp, frame.rflags])
    {
        kept.store(register, Relaxed);
    }
    let before = watched.answered_ns.swap(now, Relaxed);
    let is_asked = watched.asked_ns.load(Relaxed) >= before.max(1);
    watched.is_asked.store(is_asked, Relaxed);
    watched.is_unreachable.store(false, Relaxed);
    if !WATCHES.load(Acquire)
        || quiesce::nmis_held()
        || !watched.is_silent(now)
        || watched.is_found()
    {
        return;
    }
    // A waiter whose host thread was switched away comes back with a loop that stood still.
    if points::in_scenario() && watched.turned_ns.load(Relaxed) != 0 && !watched.waits(now) {
        return;
    }
    let tick = watched.ticks.load(Relaxed).wrapping_add(1);
    let suspected_ns = watched.suspected_ns.load(Relaxed);
    let is_first = watched.suspected_at_tick.swap(tick, Relaxed) != tick;
    let is_the_hosts = watched.asks.load(Relaxed) == 0 && watched.silent_ns(now) >= SURE_NS;
    if is_first && !is_the_hosts {
        watched.suspected_ns.store(now, Relaxed);
        return look();
    }
    if !is_the_hosts && now.saturating_sub(suspected_ns) < CERTAIN_NS {
        return;
    }
    let context = if percpu::in_irq() {
        LabContext::Interrupt
    } else {
        LabContext::Task
    };
    watched.found.write_from_nmi(frame);
    watched.find(me, now, Seen::ByNmi, context);
    // CPUs that wait for each other: the neighbour may have nobody else who looks at it.
    look();
}

impl Watched {
    /// Notes that CPU `cpu` hangs, its registers and callers being written down, and says so.
    fn find(&self, cpu: usize, now: u64, seen: Seen, context: LabContext) {
        let waits = match (self.waits(now), points::rebuilder()) {
            (false, _) => Waits::No,
            (true, Some(writer)) if writer == cpu && context != LabContext::Task => {
                Waits::ForWhatItInterrupted
            }
            (true, writer) => Waits::ForRebuild { on: writer },
        };
        let (silent_ns, by) = (self.silent_ns(now), self.asked_by.load(Relaxed) as usize);
        self.found.finish(now, silent_ns, by, seen, context, waits);
        let tick = self.ticks.load(Relaxed).wrapping_add(1);
        self.found_at_tick.store(tick, Relaxed);
        if !points::in_scenario() {
            return report::tell(cpu, &self.found);
        }
        points::note_hang(cpu, report::place(&self.found));
        // A wait that is not for ever ends by itself.
        if points::hang_is_for_ever() {
            for waiter in CPUS.iter().filter(|waiter| waiter.found.is_there()) {
                // Release: pairs with the Acquire in `turn`; who gives up finds the place written
                // down.
                waiter.gives_up.store(true, Release);
            }
        }
    }

    /// Of a CPU that stays inside an NMI's handler and does not say where: what it interrupted.
    fn find_from_outside(&self, cpu: usize, now: u64) {
        let [rip, rsp, rbp, rflags] =
            [0, 1, 2, 3].map(|at: usize| self.interrupted[at].load(Relaxed));
        self.found.write_from_outside(rip, rsp, rbp, rflags);
        self.find(cpu, now, Seen::FromOutside, LabContext::Nmi);
    }
}

/// One turn of a wait for an even counter. Any context.
#[cfg(feature = "lab")]
#[inline(never)]
pub fn turn() -> ControlFlow<()> {
    core::hint::spin_loop();
    let watched = &CPUS[arch::cpu_id().0];
    if points::in_scenario() && watched.gives_up.load(Acquire) {
        points::passed(LabPoint::GaveUp);
        return ControlFlow::Break(());
    }
    watched.turned_ns.store(time::now_ns(), Relaxed);
    let turns = watched.turns.load(Relaxed);
    watched.turns.store(turns.wrapping_add(1), Relaxed);
    if points::in_scenario() && !watched.has_spun.swap(true, Relaxed) {
        points::note_spin();
    }
    if turns.is_multiple_of(LOOK_EVERY_TURNS) {
        look();
        look_at_self();
        if watched.is_unreachable.load(Acquire) && percpu::in_nmi() && !watched.is_found() {
            watched.found.write_from_within();
            let cpu = arch::cpu_id().0;
            watched.find(cpu, time::now_ns(), Seen::FromWithin, LabContext::Nmi);
        }
    }
    ControlFlow::Continue(())
}
