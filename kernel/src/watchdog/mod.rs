//! The watchdog. Each CPU's timer ticks, and any CPU that is awake looks at its neighbour's ticks.
//!
//! A CPU is awake in a tick, in the turn of a waiter's loop, while a role of the laboratory is
//! held, or in an NMI handler. So CPUs that wait for each other with interrupts off are found, too.
//! A CPU without ticks is sent an NMI, and a second one a quarter of a second later. A CPU that its
//! host merely did not run ticks in between. The second NMI records where the CPU is, whatever it
//! is doing, and logs it.
//!
//! An NMI cannot interrupt the handler of an NMI, so a CPU in one does not answer. The neighbour
//! then tells a wait in such a handler to record by itself where it is. For any other code in such
//! a handler, only what the NMI interrupted is known.
//!
//! In a scenario of the laboratory nothing is logged meanwhile. Once the CPUs that were found wait
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

/// How long the timer of a CPU must not tick for the CPU to be silent, in a scenario. Hangs are
/// expected there, and CPUs few.
const SILENT_IN_SCENARIO_NS: u64 = 1_000_000_000;
/// How long a CPU is silent before it counts so, outside of scenarios.
pub const SILENT_NS: u64 = 2_000_000_000;
/// Silence after which one NMI is enough, if no neighbour has sent any: it is the host's, to a
/// machine in which nobody is awake.
const SURE_NS: u64 = 4_000_000_000;
/// Time between two NMIs to a silent CPU, and what must lie between the two that find a hang.
pub const ASK_AGAIN_NS: u64 = 250_000_000;
const CERTAIN_NS: u64 = 200_000_000;
/// Time after which a waiter that has not turned does not wait, or its host thread was switched
/// away.
const STARVED_NS: u64 = 100_000_000;
/// Number of turns of a wait, and of ticks, between two looks at the neighbour.
#[cfg(feature = "lab")]
const LOOK_EVERY_TURNS: u32 = 256;
const LOOK_EVERY_TICKS: u32 = 16;
/// Number of unanswered NMIs after which a CPU in an NMI's handler counts as stuck there. The
/// second number is the one after which the neighbour stops waiting for the CPU's own record.
const UNANSWERED: u32 = 2;
const UNANSWERED_AT_ALL: u32 = 4;

/// The state of one CPU as the watchdog knows it.
struct Watched {
    /// When the CPU last ticked, and how often it has. Its own timer interrupt writes them.
    ticked_ns: AtomicU64,
    ticks: AtomicU32,
    /// When the CPU was last sent the watchdog's NMI, by which CPU, and how often since its last
    /// tick.
    asked_ns: AtomicU64,
    asked_by: AtomicU32,
    asks: AtomicU32,
    /// How many times in a row the CPU had not taken the NMI by the time the next one was due.
    unanswered: AtomicU32,
    /// When the CPU last took an NMI from any source, and whether that one was the watchdog's. Only
    /// the CPU itself writes them.
    answered_ns: AtomicU64,
    is_asked: AtomicBool,
    /// What the CPU's last NMI interrupted: rip, rsp, rbp, rflags. Only the CPU itself writes them;
    /// others read them while it does not answer.
    interrupted: [AtomicU64; 4],
    /// The ticks (plus one) and the time at which the CPU's NMI first found it silent. Only the CPU
    /// itself writes them.
    suspected_at_tick: AtomicU32,
    suspected_ns: AtomicU64,
    /// Whether a neighbour found that the CPU is inside an NMI's handler. Its wait must then record
    /// by itself where it is.
    is_unreachable: AtomicBool,
    /// The turns of waits that the kernel knows, and when the last one since the last tick was.
    /// Only the CPU itself writes them.
    #[cfg(feature = "lab")]
    turns: AtomicU32,
    turned_ns: AtomicU64,
    /// Whether a scenario's trace has the CPU's first turn. Only the CPU itself writes it.
    #[cfg(feature = "lab")]
    has_spun: AtomicBool,
    /// Whether the CPU's waits are to end, because a scenario found what it wanted to find. The CPU
    /// that finds the hang writes it.
    gives_up: AtomicBool,
    /// The ticks (plus one) that the CPU had when it was last found to hang.
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

/// Starts to watch. Boot calls it once, when interrupts run.
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

/// Returns how often a CPU's timer has ticked, modulo 2^32. Any context may call it.
pub fn ticks(cpu: CpuId) -> u32 {
    CPUS[cpu.0].ticks.load(Relaxed)
}

/// Returns whether the NMI that the running CPU is in is the watchdog's, and so from no other
/// source. Only an NMI's handler may call it.
pub fn sent_this_nmi() -> bool {
    CPUS[arch::cpu_id().0].is_asked.load(Relaxed)
}

/// Returns the record of the last time that a CPU hung, if it did. Any context may call it.
pub fn found(cpu: CpuId) -> Option<&'static Found> {
    let found = &CPUS[cpu.0].found;
    found.is_there().then_some(found)
}

/// Returns the CPUs that were found to hang so far, the first one first.
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

    /// Returns whether the CPU was found to hang and has not ticked since. In a scenario, once is
    /// enough.
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

/// Notes that the running CPU is awake although its timer may not tick, because it is held at a
/// point. Any context may call it.
#[cfg(feature = "lab")]
pub fn awake() {
    let watched = &CPUS[arch::cpu_id().0];
    watched.ticked_ns.store(time::now_ns(), Relaxed);
    look();
}

/// Looks at the neighbour, the next CPU that is online. Any context may call it.
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
    // While the machine is at rest, CPUs are silent on purpose.
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
        // Release pairs with the Acquire in `turn`: which CPU asked, and when, is to be read there.
        watched.is_unreachable.store(true, Release);
        if unanswered >= UNANSWERED_AT_ALL {
            watched.find_from_outside(cpu, now);
        }
        return;
    }
    nmi::send(CpuId(cpu));
}

/// Returns whether the watchdog was planted deaf; its tests must then fail.
fn is_deaf() -> bool {
    options::get().plant == Some(options::Plant::DeafWatchdog)
}

/// Makes a silent waiter look at itself when every other CPU was found to hang. Of CPUs that wait
/// for each other, the one that hung first has looked at the others too early, and looks no more.
#[cfg(feature = "lab")]
fn look_at_self() {
    let me = arch::cpu_id();
    let others_hang = percpu::online().all(|cpu| cpu == me || CPUS[cpu.0].is_found());
    if others_hang {
        look_at(me.0);
    }
}

/// Records where the CPU is, whatever it is doing, and ends a wait that would never end. Runs on
/// that CPU.
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
    // CPUs may wait for each other, and the neighbour may have no other CPU that looks at it.
    look();
}

impl Watched {
    /// Notes that CPU `cpu` hangs, and reports it. Its registers and callers are recorded already.
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
                // Release pairs with the Acquire in `turn`: a waiter that gives up finds the place
                // recorded.
                waiter.gives_up.store(true, Release);
            }
        }
    }

    /// Finds a CPU that stays inside an NMI's handler and does not record its place: what that NMI
    /// interrupted is recorded.
    fn find_from_outside(&self, cpu: usize, now: u64) {
        let [rip, rsp, rbp, rflags] =
            [0, 1, 2, 3].map(|at: usize| self.interrupted[at].load(Relaxed));
        self.found.write_from_outside(rip, rsp, rbp, rflags);
        self.find(cpu, now, Seen::FromOutside, LabContext::Nmi);
    }
}

/// Does one turn of a wait for an even counter. Any context may call it.
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
