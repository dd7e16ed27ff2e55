//! The stage: which thread or handler plays which role, and what happens when a role reaches a
//! point.

use super::schedule::{self, Action, Moment, Place, Rule};
use super::trace::Trace;
use super::{play, waits};
use crate::arch::{self, MAX_CPUS, interrupts, ipi, nmi, percpu, time};
use crate::thread::{self, ThreadId};
use crate::watchdog;
use crate::{mm, points};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::*};
use tidemark_frames::Point;
use tidemark_wire::{AtCounter, EntryRead, LabContext, LabPoint, Party, Role, Stay, ZoneName};

/// How long a role is held for another one at most: many times what the other needs on a busy host.
const HOLD_NS: u64 = 20_000_000_000;
/// Number of begins of one request, or of rounds from one begin, after which it counts as going
/// round.
pub const ROUNDS: u32 = 64;
/// Number of rounds of a request of which every step is written down. Of later rounds only the
/// first step is.
const ROUNDS_IN_FULL: u32 = 4;

const POINTS: usize = LabPoint::ALL.len();

/// Whether a scenario runs: points are recorded and rules fire.
static OPEN: AtomicBool = AtomicBool::new(false);
/// Pointer to the rules, the `&'static [Rule]` of a scenario.
static RULES: AtomicPtr<&'static [Rule]> = AtomicPtr::new(core::ptr::null_mut());
/// The number of the thread that plays each role, plus 1; 0 for none.
static THREADS: [AtomicU32; Role::COUNT] = [const { AtomicU32::new(0) }; Role::COUNT];
/// The role of the handler that runs on each CPU: its number plus 1, 0 for none. Only the CPU
/// itself uses its entry.
static HANDLER: [AtomicU8; MAX_CPUS] = [const { AtomicU8::new(0) }; MAX_CPUS];
/// How often each role reached each point.
static COUNTS: [[AtomicU32; POINTS]; Role::COUNT] =
    [const { [const { AtomicU32::new(0) }; POINTS] }; Role::COUNT];

/// The point that each role reached last, plus 1; 0 for none. A role is in one place at a time.
static LAST: [AtomicU8; Role::COUNT] = [const { AtomicU8::new(0) }; Role::COUNT];
/// Where each role was last: its CPU plus 1, and its context in the second byte; 0 for nowhere.
static WHERE: [AtomicU32; Role::COUNT] = [const { AtomicU32::new(0) }; Role::COUNT];
/// The number of the play that is under way.
static PLAY: AtomicU32 = AtomicU32::new(0);

/// The steps that happened.
pub static TRACE: Trace = Trace::new();

/// Number of runs of the handlers of the laboratory's interrupt and NMI, on any CPU.
pub static HANDLED: AtomicU64 = AtomicU64::new(0);

/// Opens the stage for a scenario; dropping it closes it.
#[must_use = "the stage closes when this is dropped"]
pub struct Stage {
    _hooked: points::Hooked,
}

impl Stage {
    /// Opens the stage with these rules for a play, numbered from 0. Counts start anew; the trace
    /// goes on.
    pub fn open(rules: &'static &'static [Rule], play: u32) -> Self {
        for count in COUNTS.iter().flatten() {
            count.store(0, Relaxed);
        }
        for ((thread, last), place) in THREADS.iter().zip(&LAST).zip(&WHERE) {
            thread.store(0, Relaxed);
            last.store(0, Relaxed);
            place.store(0, Relaxed);
        }
        PLAY.store(play, Relaxed);
        note(Role::Watchdog, LabPoint::Act, play.into());
        play::note_memory();
        // Release pairs with the Acquire in `step_as`.
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

/// Returns whether a scenario runs. Any context may call it.
pub fn is_open() -> bool {
    OPEN.load(Acquire)
}

/// Makes the calling thread play a role until the stage closes.
pub fn play_as(role: Role) {
    let me = thread::current().map_or(0, |id: ThreadId| id.number() + 1);
    THREADS[role as usize].store(me, Relaxed);
}

/// Makes another thread play a role, in place of the one so far.
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

/// Begins a handler's part on this CPU; returns the argument for [`end_handler`]. Interrupts are
/// off.
pub fn begin_handler(role: Role) -> u8 {
    HANDLER[arch::cpu_id().0].swap(role as u8 + 1, Relaxed)
}

/// Ends a handler's part.
pub fn end_handler(before: u8) {
    HANDLER[arch::cpu_id().0].store(before, Relaxed);
}

/// Returns the role that runs here: that of the handler, otherwise that of the thread. If a handler
/// plays none and interrupts a thread that does, its points count as the thread's.
pub(super) fn role_here() -> Option<Role> {
    let handler = HANDLER[arch::cpu_id().0].load(Relaxed);
    if handler != 0 {
        return Some(Role::of(u64::from(handler) - 1));
    }
    let me = thread::current()?.number() + 1;
    let number = THREADS.iter().position(|role| role.load(Relaxed) == me)?;
    Some(Role::of(number as u64))
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

/// Returns how often a role has reached a point in this scenario. Any context may call it.
pub fn count(place: Place) -> u32 {
    // Acquire pairs with the Release in `step_as`: what the role did before is visible.
    COUNTS[place.0 as usize][place.1 as usize].load(Acquire)
}

/// Returns where a role was last; nothing if it has not been anywhere. Any context may call it.
pub fn whereabouts(role: Role) -> Option<Party> {
    let place = WHERE[role as usize].load(Acquire);
    let cpu = (place as u8).checked_sub(1)?;
    let context = LabContext::of(u64::from(place >> 8));
    Some(Party { role, cpu, context })
}

/// Returns whether this is the point that a role reached last. Any context may call it.
pub fn is_at((role, point): Place) -> bool {
    LAST[role as usize].load(Acquire) == point as u8 + 1
}

/// Acts as the hook at the allocator's schedule points.
fn at(point: Point) {
    if let Some(role) = role_here() {
        let (point, detail) = lab_point(point);
        step_as(role, point, detail);
    }
}

/// Takes a point outside the allocator, or something that a role does. Any context may call it.
pub fn step(point: LabPoint, detail: u64) {
    if is_open()
        && let Some(role) = role_here()
    {
        step_as(role, point, detail);
    }
}

/// Writes a step down without counting it as reached.
pub fn note(role: Role, point: LabPoint, detail: u64) {
    let (cpu, context) = (arch::cpu_id().0, context_here());
    if role != Role::Watchdog {
        let place = (cpu as u32 + 1) | ((context as u32) << 8);
        WHERE[role as usize].store(place, Release);
    }
    TRACE.push(time::now_ns() / 1000, cpu, context, role, point, detail);
}

/// Returns whether a step is written down. Of entries in a row only the first is. Of a request that
/// goes round, the first rounds are written down in full, and then only each round's first step.
fn is_written(role: Role, point: LabPoint, last: Option<LabPoint>) -> bool {
    use LabPoint::{
        EntryRead, RebuildEntry, SlowBegin, SlowCheckNopage, SlowCheckOom, SlowRetry, SlowWalk,
        SlowWalked, WalkEntry,
    };
    let rounds = count((role, SlowBegin)) + count((role, SlowRetry));
    match point {
        RebuildEntry => last != Some(RebuildEntry),
        WalkEntry => !matches!(last, Some(WalkEntry | EntryRead)) && rounds <= ROUNDS_IN_FULL,
        // All entries of the first walk are written down, so that its list can be seen.
        EntryRead => {
            let is_first = last == Some(WalkEntry) && rounds <= ROUNDS_IN_FULL;
            is_first || (rounds <= 1 && count((role, SlowWalked)) == 0)
        }
        SlowWalk | SlowWalked | SlowCheckOom | SlowCheckNopage => rounds <= ROUNDS_IN_FULL,
        SlowBegin | SlowRetry => rounds <= 2 * ROUNDS,
        _ => true,
    }
}

fn step_as(role: Role, point: LabPoint, detail: u64) {
    // Release pairs with the Acquire in `is_at`.
    let last = LAST[role as usize].swap(point as u8 + 1, Release);
    let last = usize::from(last).checked_sub(1);
    let last = last.and_then(|last| LabPoint::ALL.get(last).copied());
    if is_written(role, point, last) {
        note(role, point, detail);
    }
    // Release pairs with the Acquire in `count`, for roles that are held until this step.
    let nth = COUNTS[role as usize][point as usize].fetch_add(1, Release) + 1;
    // SAFETY: only `Stage::open` stores here, and only references that live for good.
    let Some(rules) = (unsafe { RULES.load(Acquire).as_ref() }) else {
        return;
    };
    for action in schedule::firing(rules, (role, point), nth) {
        act(role, point, action);
    }
    if point == LabPoint::SlowBegin && role == Role::Reader && nth.is_multiple_of(ROUNDS) {
        waits::look_at_rounds(nth);
    }
}

fn act(role: Role, at: LabPoint, action: Action) {
    match action {
        Action::Hold(until) => hold(role, at, until),
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

fn hold(role: Role, at: LabPoint, until: &'static [Moment]) {
    let reached = || {
        let mut moments = until.iter();
        moments.find(|&&(role, point, nth)| count((role, point)) >= nth)
    };
    let stay = |until: LabPoint| Stay { at, until }.pack();
    let first = until.first().map_or(LabPoint::Act, |&(_, point, _)| point);
    // The stay is noted even if the other role was quicker: a window demands that this role goes on
    // after it.
    note(role, LabPoint::Held, stay(first));
    time::spin_until(HOLD_NS, || {
        watchdog::awake();
        reached().is_some()
    });
    match reached() {
        Some(&(_, point, _)) => note(role, LabPoint::Released, stay(point)),
        None => note(role, LabPoint::TimedOut, stay(first)),
    }
}

fn in_vain(role: Role, at: LabPoint, until: LabPoint) {
    note(role, LabPoint::TimedOut, Stay { at, until }.pack());
}

/// Sends this CPU the laboratory's interrupt. With interrupts on it is taken here. With interrupts
/// off the CPU's APIC says that it is pending; it is taken when the writer turns them on.
fn interrupt(role: Role) {
    let before = HANDLED.load(Acquire);
    let taken = || HANDLED.load(Acquire) != before;
    let is_on = interrupts::interrupts_enabled();
    note(role, LabPoint::IrqRaised, u64::from(is_on));
    play::raise();
    // Under multi-threaded emulation an interrupt is not taken at the very next instruction.
    if is_on {
        if !time::spin_until(HOLD_NS, taken) {
            in_vain(role, LabPoint::IrqRaised, LabPoint::IrqTaken);
        }
    } else if time::spin_until(HOLD_NS, ipi::is_work_requested) && !taken() {
        note(role, LabPoint::IrqPending, 0);
    } else {
        in_vain(role, LabPoint::IrqRaised, LabPoint::IrqPending);
    }
}

fn interrupt_by_nmi(role: Role) {
    let before = HANDLED.load(Acquire);
    let here = arch::cpu_id();
    note(role, LabPoint::NmiSent, here.0 as u64);
    play::expect_nmi(here);
    nmi::send(here);
    if !time::spin_until(HOLD_NS, || HANDLED.load(Acquire) != before) {
        in_vain(role, LabPoint::NmiSent, LabPoint::NmiTaken);
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
        Point::EntryRead { at, index, zone } => {
            let zone = ZoneName(zone.index() as u8);
            return (LabPoint::EntryRead, EntryRead { at, index, zone }.pack());
        }
        Point::NoteEntry => LabPoint::NoteEntry,
        Point::FirstNoted { zone } => return (LabPoint::FirstNoted, zone.index() as u64),
        Point::OfflineIsolated => LabPoint::OfflineIsolated,
        Point::OfflineScanned => LabPoint::OfflineScanned,
        Point::OfflineLeft => LabPoint::OfflineLeft,
        Point::OfflineDone => LabPoint::OfflineDone,
        Point::OnlineCounted => LabPoint::OnlineCounted,
        Point::OnlineDone => LabPoint::OnlineDone,
    };
    let is_slow = matches!(
        lab,
        LabPoint::SlowBegin
            | LabPoint::SlowWalk
            | LabPoint::SlowWalked
            | LabPoint::SlowRetry
            | LabPoint::SlowCheckOom
            | LabPoint::SlowCheckNopage
    );
    let detail = AtCounter {
        counter: mm::frames().rebuild_counter(),
        serves: is_slow && play::fresh_walk_serves(),
    };
    (lab, detail.pack())
}
