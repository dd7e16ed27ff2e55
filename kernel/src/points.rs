//! What happens at the allocator's schedule points, and at points elsewhere: nothing, unless
//! somebody set a hook, or the laboratory is built in and looks. Everything may pass a point;
//! points know nobody.

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

/// What is called at every schedule point, in the context that reaches it: locks may be held and
/// interrupts off, so it neither sleeps nor prints.
pub type Hook = fn(Point);

static HOOK: tidemark_sync::Hook<Hook> = hook!(fn(Point));
/// The CPU that rebuilds, plus one, or 0. Written by the writer, one at a time; read by reports
/// only.
static REBUILDER: AtomicU32 = AtomicU32::new(0);

/// Keeps a hook in place; dropping it takes the hook away. A CPU that is inside the hook stays
/// there.
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

/// Calls the hook, if there is one: what the platform does at a point. Any context.
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

/// Calls a hook. What it does inside the writer's section is not counted as the section's.
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

/// The CPU that is between the two steps of a rebuild's counter, where it stays until the second.
/// Any context.
pub fn rebuilder() -> Option<usize> {
    (REBUILDER.load(Ordering::Relaxed) as usize).checked_sub(1)
}

/// What is called at every step of the fast path, in the context that reaches it: inside a section
/// of its CPU's cache as a rule, so it neither sleeps nor prints, and what it allocates goes to the
/// zone. It must bear being reached by what it does itself.
#[cfg(feature = "lab")]
pub type StepHook = fn(&'static Step);

#[cfg(feature = "lab")]
static STEP_HOOK: tidemark_sync::Hook<StepHook> = hook!(fn(&'static Step));

/// Keeps a hook at the steps; dropping it takes the hook away. A CPU that is inside stays there.
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

/// Calls the steps' hook, if there is one: what the platform does at a step. Any context.
#[cfg(feature = "lab")]
#[inline]
pub fn stepped(step: &'static Step) {
    if let Some(hook) = STEP_HOOK.get() {
        hook(step);
    }
}

/// What the laboratory does about what the rest of the kernel passes. Any context, each of them.
#[cfg(feature = "lab")]
#[derive(Debug)]
pub struct Laboratory {
    /// Takes a point outside the allocator.
    pub passed: fn(LabPoint),
    /// Tells whether a scenario runs.
    pub is_open: fn() -> bool,
    /// Takes that the running CPU's role finds the counter odd and waits.
    pub spins: fn(),
    /// Takes that a CPU was found to hang, in the function around an address.
    pub hangs: fn(usize, u64),
    /// Tells whether the CPUs that hang wait for each other in a cycle.
    pub hang_is_for_ever: fn() -> bool,
    /// Takes that the allocator declares OOM; tells whether that request is to fail.
    pub takes_oom: fn() -> bool,
    /// Tells whether the zonelist protocol is to make this mistake.
    pub is_planted: fn(Mistake) -> bool,
    /// Begins COM1's receive interrupt as a role's part; returns what `end_tty` takes.
    pub begin_tty: fn() -> Option<u8>,
    /// Ends that part.
    pub end_tty: fn(u8),
}

#[cfg(feature = "lab")]
static LABORATORY: OnceRef<'static, Laboratory> = OnceRef::new();

/// Lets the laboratory know what the kernel passes from now on. Once, at boot.
#[cfg(feature = "lab")]
pub fn register(laboratory: &'static Laboratory) {
    let is_first = LABORATORY.set(laboratory).is_ok();
    debug_assert!(is_first, "there is a laboratory already");
}

/// Passes a point outside the allocator: the console, the locks, the grace period. Only the
/// laboratory looks. Any context.
#[inline(always)]
pub fn passed(point: LabPoint) {
    #[cfg(feature = "lab")]
    if let Some(laboratory) = LABORATORY.get() {
        (laboratory.passed)(point);
    }
    #[cfg(not(feature = "lab"))]
    let _ = point;
}

/// Tells whether a scenario of the laboratory runs, which decides by itself who prints and what a
/// hang leads to. Any context.
#[inline(always)]
pub fn in_scenario() -> bool {
    #[cfg(feature = "lab")]
    return LABORATORY
        .get()
        .is_some_and(|laboratory| (laboratory.is_open)());
    #[cfg(not(feature = "lab"))]
    false
}

/// What a wait for an even counter does in each of its turns.
#[cfg(feature = "lab")]
pub type Turn = fn() -> ControlFlow<()>;

#[cfg(feature = "lab")]
static TURN: tidemark_sync::Hook<Turn> = hook!(fn() -> ControlFlow<()>);

/// Sets what a wait for an even counter does in each turn; it may tell the wait to give up.
#[cfg(feature = "lab")]
pub fn set_turn(turn: Turn) {
    TURN.set(turn);
}

/// Does one turn of a wait for an even counter. Any context.
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

/// Tells whether the CPUs that hang in a scenario wait for each other in a cycle, which the
/// scenario's trace then shows.
pub fn hang_is_for_ever() -> bool {
    #[cfg(feature = "lab")]
    return LABORATORY
        .get()
        .is_some_and(|laboratory| (laboratory.hang_is_for_ever)());
    #[cfg(not(feature = "lab"))]
    false
}

/// Tells a scenario that the allocator declares OOM; returns whether that request is to fail, and
/// nobody is killed.
#[cfg(feature = "lab")]
pub fn takes_oom() -> bool {
    LABORATORY
        .get()
        .is_some_and(|laboratory| (laboratory.takes_oom)())
}

/// Tells whether the laboratory wants the zonelist protocol to make a mistake.
#[cfg(feature = "lab")]
pub fn is_planted(mistake: Mistake) -> bool {
    LABORATORY
        .get()
        .is_some_and(|laboratory| (laboratory.is_planted)(mistake))
}

/// COM1's receive interrupt as a role's part; it lasts until this is dropped.
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
