//! The stage: who plays which role, and what happens when one of them reaches a point.

use super::play;
use super::schedule::{self, Action, Place, Rule};
use super::trace::Trace;
use crate::arch::{self, MAX_CPUS, irqs, nmi, percpu, time};
use crate::mm::{self, points};
use crate::thread::{self, ThreadId};
use crate::watchdog;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::*};
use tidemark_frames::Point;
use tidemark_wire::{LabContext, LabPoint, Role};

/// How long a role is held for another one at most: many times what the other needs on a host that is
/// busy with everything else.
const HOLD_NS: u64 = 8_000_000_000;
/// How long the interrupt is given when the CPU does not take interrupts.
const PENDING_NS: u64 = 3_000_000;

const POINTS: usize = LabPoint::ALL.len();

/// Whether a scenario runs: points are recorded and rules fire.
static OPEN: AtomicBool = AtomicBool::new(false);
/// The rules, as a pointer to the `&'static [Rule]` of a scenario.
static RULES: AtomicPtr<&'static [Rule]> = AtomicPtr::new(core::ptr::null_mut());
/// The thread of each role: its number plus one, 0 for none.
static THREADS: [AtomicU32; Role::COUNT] = [const { AtomicU32::new(0) }; Role::COUNT];
/// The role of the handler that runs on a CPU: its number plus one, 0 for none. Its CPU's own.
static HANDLER: [AtomicU8; MAX_CPUS] = [const { AtomicU8::new(0) }; MAX_CPUS];
/// How often each role reached each point.
static COUNTS: [[AtomicU32; POINTS]; Role::COUNT] =
    [const { [const { AtomicU32::new(0) }; POINTS] }; Role::COUNT];

/// The point that each role reached last, plus one. A role is in one place at a time.
static LAST: [AtomicU8; Role::COUNT] = [const { AtomicU8::new(0) }; Role::COUNT];

/// What happened.
pub static TRACE: Trace = Trace::new();

/// Handlers of the laboratory's interrupt and NMI that have run, on any CPU.
pub static HANDLED: AtomicU64 = AtomicU64::new(0);

const ROLES: [Role; Role::COUNT] = [Role::Reader, Role::Writer, Role::Feeder, Role::Watchdog];

/// Opens the stage for a scenario; dropping it closes it.
#[must_use = "the stage closes when this is dropped"]
pub struct Stage {
    _hooked: points::Hooked,
}

impl Stage {
    /// Opens it with these rules. Counts start anew; the trace goes on.
    pub fn open(rules: &'static &'static [Rule]) -> Self {
        for count in COUNTS.iter().flatten() {
            count.store(0, Relaxed);
        }
        for (thread, last) in THREADS.iter().zip(&LAST) {
            thread.store(0, Relaxed);
            last.store(0, Relaxed);
        }
        note(Role::Watchdog, LabPoint::Act, 0);
        // Release: pairs with the Acquire in `rules`.
        RULES.store(core::ptr::from_ref(rules).cast_mut(), Release);
        OPEN.store(true, Release);
        Stage {
            _hooked: points::set_hook(at),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        OPEN.store(false, Release);
    }
}

/// Whether a scenario runs. Any context.
pub fn is_open() -> bool {
    OPEN.load(Acquire)
}

/// Makes the calling thread play a role until the stage closes.
pub fn play_as(role: Role) {
    let me = thread::current().map_or(0, |id: ThreadId| id.number() + 1);
    THREADS[role as usize].store(me, Relaxed);
}

/// Makes another thread play a role, instead of who did.
pub fn hand_over(role: Role, to: ThreadId) {
    THREADS[role as usize].store(to.number() + 1, Relaxed);
}

/// Runs `f` as a handler that plays a role, whatever it interrupted. Interrupts are off.
pub fn in_handler<R>(role: Role, f: impl FnOnce() -> R) -> R {
    let before = begin_handler(role);
    let result = f();
    end_handler(before);
    result
}

/// Begins a handler's part on this CPU; returns what [`end_handler`] wants. Interrupts are off.
pub fn begin_handler(role: Role) -> u8 {
    HANDLER[arch::cpu_id().0].swap(role as u8 + 1, Relaxed)
}

/// Ends a handler's part.
pub fn end_handler(before: u8) {
    HANDLER[arch::cpu_id().0].store(before, Relaxed);
}

/// The role that runs here: the handler's, else the thread's. A handler that plays none, over a
/// thread that does, has its points counted as the thread's.
pub(super) fn role_here() -> Option<Role> {
    let handler = HANDLER[arch::cpu_id().0].load(Relaxed);
    if handler != 0 {
        return ROLES.get(usize::from(handler) - 1).copied();
    }
    let me = thread::current()?.number() + 1;
    ROLES
        .into_iter()
        .find(|&role| THREADS[role as usize].load(Relaxed) == me)
}

fn context_here() -> LabContext {
    if percpu::in_nmi() {
        LabContext::Nmi
    } else if percpu::in_irq() {
        LabContext::Interrupt
    } else {
        LabContext::Task
    }
}

/// How often a role has reached a point in this scenario. Any context.
pub fn count(place: Place) -> u32 {
    // Acquire: pairs with the Release in `step_as`; what the role did before is visible.
    COUNTS[place.0 as usize][place.1 as usize].load(Acquire)
}

/// The hook at the allocator's schedule points.
fn at(point: Point) {
    if let Some(role) = role_here() {
        let (point, detail) = lab_point(point);
        step_as(role, point, detail);
    }
}

/// A point outside the allocator, or something that a role does. Any context.
pub fn step(point: LabPoint, detail: u64) {
    if is_open()
        && let Some(role) = role_here()
    {
        step_as(role, point, detail);
    }
}

/// Writes a step down without counting it as reached.
pub fn note(role: Role, point: LabPoint, detail: u64) {
    let cpu = arch::cpu_id().0;
    TRACE.push(
        time::now_ns() / 1000,
        cpu,
        context_here(),
        role,
        point,
        detail,
    );
}

fn step_as(role: Role, point: LabPoint, detail: u64) {
    // Of entries that follow each other the first is written down; the others are counted.
    let last = LAST[role as usize].swap(point as u8 + 1, Relaxed);
    let is_entry = matches!(point, LabPoint::WalkEntry | LabPoint::RebuildEntry);
    if !is_entry || last != point as u8 + 1 {
        note(role, point, detail);
    }
    // Release: pairs with the Acquire in `count`, for those who are held until now.
    let nth = COUNTS[role as usize][point as usize].fetch_add(1, Release) + 1;
    // SAFETY: only `Stage::open` stores here, and only references that live for good.
    let Some(rules) = (unsafe { RULES.load(Acquire).as_ref() }) else {
        return;
    };
    for action in schedule::firing(rules, (role, point), nth) {
        act(role, action);
    }
}

fn act(role: Role, action: Action) {
    match action {
        Action::Hold(until) => hold(role, until),
        Action::Interrupt => interrupt(role),
        Action::Nmi => interrupt_by_nmi(role),
        Action::Print => print(role),
        Action::FreeSpare => {
            let frames = play::free_spare();
            note(role, LabPoint::MemoryFreed, frames);
        }
        Action::StopFeeding => play::stop_feeding(),
    }
}

fn hold(role: Role, until: &'static [Place]) {
    let reached = || until.iter().any(|&place| count(place) > 0);
    let first = until.first().map_or(0, |place| place.1 as u64);
    // Also if the other was quicker: that this role goes on after it is what a window asks for.
    note(role, LabPoint::Held, first);
    let met = time::spin_until(HOLD_NS, || {
        watchdog::awake();
        reached()
    });
    let after = if met {
        LabPoint::Released
    } else {
        LabPoint::TimedOut
    };
    note(role, after, first);
}

/// Sends this CPU the laboratory's interrupt. With interrupts on it is taken here; with interrupts
/// off it stays pending, and is taken when the writer turns them on.
fn interrupt(role: Role) {
    let before = HANDLED.load(Acquire);
    note(role, LabPoint::IrqRaised, 0);
    play::raise();
    let taken = || HANDLED.load(Acquire) != before;
    let patience = if irqs::interrupts_enabled() {
        HOLD_NS
    } else {
        PENDING_NS
    };
    // Under emulation in threads an interrupt is not taken at the very next instruction.
    if !time::spin_until(patience, taken) {
        note(role, LabPoint::IrqPending, 0);
        COUNTS[role as usize][LabPoint::IrqPending as usize].fetch_add(1, Release);
    }
}

fn interrupt_by_nmi(role: Role) {
    let before = HANDLED.load(Acquire);
    let here = arch::cpu_id();
    note(role, LabPoint::NmiSent, here.0 as u64);
    play::expect_nmi(here);
    nmi::send(here);
    if !time::spin_until(HOLD_NS, || HANDLED.load(Acquire) != before) {
        note(role, LabPoint::TimedOut, LabPoint::NmiTaken as u64);
    }
}

fn print(role: Role) {
    note(role, LabPoint::Print, 0);
    crate::info!("lab: the writer prints");
}

fn lab_point(point: Point) -> (LabPoint, u64) {
    let lab = match point {
        Point::RebuildOdd => LabPoint::RebuildOdd,
        Point::RebuildEntry => LabPoint::RebuildEntry,
        Point::RebuildEven => LabPoint::RebuildEven,
        Point::AnnotateBegin => LabPoint::AnnotateBegin,
        Point::AnnotateEnd => LabPoint::AnnotateEnd,
        Point::SlowBegin => LabPoint::SlowBegin,
        Point::SlowWalk => LabPoint::SlowWalk,
        Point::SlowWalked => LabPoint::SlowWalked,
        Point::SlowRetry => LabPoint::SlowRetry,
        Point::SlowCheckOom => LabPoint::SlowCheckOom,
        Point::SlowCheckNopage => LabPoint::SlowCheckNopage,
        Point::WalkEntry => LabPoint::WalkEntry,
        Point::OfflineIsolated => LabPoint::OfflineIsolated,
        Point::OfflineScanned => LabPoint::OfflineScanned,
        Point::OfflineLeft => LabPoint::OfflineLeft,
        Point::OfflineDone => LabPoint::OfflineDone,
        Point::OnlineCounted => LabPoint::OnlineCounted,
        Point::OnlineDone => LabPoint::OnlineDone,
    };
    let detail = match lab {
        LabPoint::SlowRetry => u64::from(play::fresh_walk_finds()),
        _ => u64::from(mm::frames().rebuild_counter()),
    };
    (lab, detail)
}
