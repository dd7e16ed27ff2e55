//! The schedule points of the allocator, and points elsewhere. At a point nothing happens, unless a
//! hook is set or the laboratory is built in. Any code may pass a point; this module depends on
//! none of that code.

#[cfg(feature = "lab")]
use crate::arch;
#[cfg(feature = "lab")]
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU32, Ordering};
use tidemark_frames::Point;
#[cfg(feature = "lab")]
use tidemark_frames::{Mistake, Step};
#[cfg(feature = "lab")]
use tidemark_sync::OnceRef;
use tidemark_sync::hook;
use tidemark_wire::LabPoint;

/// A function that is called at every schedule point, in the context that reaches it. Locks may be
/// held and interrupts off, so it neither sleeps nor prints.
pub type Hook = fn(Point);

static HOOK: tidemark_sync::Hook<Hook> = hook!(fn(Point));
/// The CPU that rebuilds, plus 1; 0 if none does. The one writer writes it; only reports read it.
static REBUILDER: AtomicU32 = AtomicU32::new(0);

/// Keeps a hook set; dropping it removes the hook. A CPU that is inside the hook then goes on in
/// it.
#[derive(Debug)]
#[must_use = "the hook goes when this is dropped"]
pub struct Hooked(());

/// Sets the hook.
///
/// # Panics
///
/// Panics if there is one already.
pub fn set_hook(hook: Hook) -> Hooked {
    let set = HOOK.claim(hook);
    assert!(set.is_ok(), "the schedule points have a hook already");
    Hooked(())
}

impl Drop for Hooked {
    fn drop(&mut self) {
        HOOK.clear();
    }
}

/// Calls the hook, if one is set. The platform calls this at each point. Any context may call it.
#[cfg(feature = "lab")]
#[inline]
pub fn reached(point: Point) {
    if point == Point::RebuildOdd {
        REBUILDER.store(arch::cpu_id().0 as u32 + 1, Ordering::Relaxed);
    }
    if let Some(hook) = HOOK.get() {
        call(hook, point);
    }
    if point == Point::RebuildEven {
        REBUILDER.store(0, Ordering::Relaxed);
    }
}

/// Calls a hook. Its time inside the writer's section does not count as the section's.
#[cfg(feature = "lab")]
#[inline]
fn call(hook: Hook, point: Point) {
    match point {
        Point::RebuildOdd | Point::RebuildEven | Point::AnnotateBegin | Point::AnnotateEnd => {
            arch::own_time::leaving_out(|| hook(point));
        }
        _ => hook(point),
    }
}

/// Returns the CPU that is between the two steps of a rebuild's counter. That CPU stays the same
/// until the second step. Any context may call it.
pub fn rebuilder() -> Option<usize> {
    (REBUILDER.load(Ordering::Relaxed) as usize).checked_sub(1)
}

/// A function that is called at every step of the fast path, in the context that reaches it. As a
/// rule that is inside a gated section, so the function neither sleeps nor prints, and its
/// allocations go to the zone. Its own actions may reach steps as well, and it must cope with that.
#[cfg(feature = "lab")]
pub type StepHook = fn(&'static Step);

#[cfg(feature = "lab")]
static STEP_HOOK: tidemark_sync::Hook<StepHook> = hook!(fn(&'static Step));

/// Keeps a hook set at the steps; dropping it removes the hook. A CPU that is inside the hook then
/// goes on in it.
#[cfg(feature = "lab")]
#[derive(Debug)]
#[must_use = "the hook goes when this is dropped"]
pub struct StepHooked(());

/// Sets the hook at the steps.
///
/// # Panics
///
/// Panics if there is one already.
#[cfg(feature = "lab")]
pub fn set_step_hook(hook: StepHook) -> StepHooked {
    let set = STEP_HOOK.claim(hook);
    assert!(set.is_ok(), "the steps have a hook already");
    StepHooked(())
}

#[cfg(feature = "lab")]
impl Drop for StepHooked {
    fn drop(&mut self) {
        STEP_HOOK.clear();
    }
}

/// Calls the steps' hook, if one is set. The platform calls this at each step. Any context may call
/// it.
#[cfg(feature = "lab")]
#[inline]
pub fn stepped(step: &'static Step) {
    if let Some(hook) = STEP_HOOK.get() {
        hook(step);
    }
}

/// The functions with which the laboratory reacts to what the rest of the kernel passes. Each may
/// be called in any context.
#[cfg(feature = "lab")]
#[derive(Debug)]
pub struct Laboratory {
    /// Notes a point outside the allocator.
    pub passed: fn(LabPoint),
    /// Returns whether a scenario runs.
    pub is_open: fn() -> bool,
    /// Notes that the running CPU's role finds the counter odd and waits.
    pub spins: fn(),
    /// Notes that a CPU was found to hang, in the function around an address.
    pub hangs: fn(usize, u64),
    /// Returns whether the CPUs that hang wait for each other in a cycle.
    pub hang_is_for_ever: fn() -> bool,
    /// Notes that the allocator declares OOM; returns whether that request is to fail.
    pub takes_oom: fn() -> bool,
    /// Returns whether the zonelist protocol is to make this mistake.
    pub is_planted: fn(Mistake) -> bool,
    /// Begins COM1's receive interrupt as a part of a role; returns the argument for `end_tty`.
    pub begin_tty: fn() -> Option<u8>,
    /// Ends that part.
    pub end_tty: fn(u8),
}

#[cfg(feature = "lab")]
static LABORATORY: OnceRef<'static, Laboratory> = OnceRef::new();

/// Registers the functions of the laboratory. It is called once, at boot.
#[cfg(feature = "lab")]
pub fn register(laboratory: &'static Laboratory) {
    let is_first = LABORATORY.set(laboratory).is_ok();
    debug_assert!(is_first, "there is a laboratory already");
}

/// Passes a point outside the allocator: the console, the locks, the grace period. Only the
/// laboratory reacts. Any context may call it.
#[inline(always)]
pub fn passed(point: LabPoint) {
    #[cfg(feature = "lab")]
    if let Some(laboratory) = LABORATORY.get() {
        (laboratory.passed)(point);
    }
    #[cfg(not(feature = "lab"))]
    let _ = point;
}

/// Returns whether a scenario of the laboratory runs. A scenario decides itself which code prints
/// and what follows a hang. Any context may call it.
#[inline(always)]
pub fn in_scenario() -> bool {
    #[cfg(feature = "lab")]
    return LABORATORY
        .get()
        .is_some_and(|laboratory| (laboratory.is_open)());
    #[cfg(not(feature = "lab"))]
    false
}

/// The function that a wait for an even counter calls in each of its turns.
#[cfg(feature = "lab")]
pub type Turn = fn() -> ControlFlow<()>;

#[cfg(feature = "lab")]
static TURN: tidemark_sync::Hook<Turn> = hook!(fn() -> ControlFlow<()>);

/// Sets the function that a wait for an even counter calls in each turn. Its result may make the
/// wait give up.
#[cfg(feature = "lab")]
pub fn set_turn(turn: Turn) {
    TURN.set(turn);
}

/// Does one turn of a wait for an even counter. Any context may call it.
#[cfg(feature = "lab")]
#[inline(always)]
pub fn turn() -> ControlFlow<()> {
    match TURN.get() {
        Some(turn) => turn(),
        None => {
            core::hint::spin_loop();
            ControlFlow::Continue(())
        }
    }
}

/// Tells a scenario that the running CPU's role finds the counter odd and waits.
#[cfg(feature = "lab")]
pub fn note_spin() {
    if let Some(laboratory) = LABORATORY.get() {
        (laboratory.spins)();
    }
}

/// Tells a scenario that the watchdog found CPU `cpu` to hang, in the function around `address`.
pub fn note_hang(cpu: usize, address: u64) {
    #[cfg(feature = "lab")]
    if let Some(laboratory) = LABORATORY.get() {
        (laboratory.hangs)(cpu, address);
    }
    #[cfg(not(feature = "lab"))]
    let _ = (cpu, address);
}

/// Returns whether the CPUs that hang in a scenario wait for each other in a cycle, as the
/// scenario's trace shows.
pub fn hang_is_for_ever() -> bool {
    #[cfg(feature = "lab")]
    return LABORATORY
        .get()
        .is_some_and(|laboratory| (laboratory.hang_is_for_ever)());
    #[cfg(not(feature = "lab"))]
    false
}

/// Tells a scenario that the allocator declares OOM. Returns whether that request is to fail
/// without a victim.
#[cfg(feature = "lab")]
pub fn takes_oom() -> bool {
    LABORATORY
        .get()
        .is_some_and(|laboratory| (laboratory.takes_oom)())
}

/// Returns whether the laboratory wants the zonelist protocol to make a mistake.
#[cfg(feature = "lab")]
pub fn is_planted(mistake: Mistake) -> bool {
    LABORATORY
        .get()
        .is_some_and(|laboratory| (laboratory.is_planted)(mistake))
}

/// The receive interrupt of COM1 as a part of a role. The part lasts until this is dropped.
#[cfg(feature = "lab")]
#[derive(Debug)]
pub struct TtyPart(Option<(&'static Laboratory, u8)>);

#[cfg(feature = "lab")]
impl TtyPart {
    /// Begins the part, if a scenario waits for a byte.
    pub fn begin() -> Self {
        let laboratory = LABORATORY.get();
        Self(laboratory.and_then(|laboratory| Some((laboratory, (laboratory.begin_tty)()?))))
    }
}

#[cfg(feature = "lab")]
impl Drop for TtyPart {
    fn drop(&mut self) {
        if let Some((laboratory, before)) = self.0 {
            (laboratory.end_tty)(before);
        }
    }
}
