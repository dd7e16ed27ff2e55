//! What happens at the allocator's schedule points: nothing, unless somebody set a hook.

#[cfg(feature = "lab")]
use crate::arch;
use core::sync::atomic::{AtomicU32, Ordering};
use tidemark_frames::Point;
#[cfg(feature = "lab")]
use tidemark_frames::Step;
use tidemark_sync::hook;
use tidemark_wire::LabPoint;

/// What is called at every schedule point, in the context that reaches it: locks may be held and
/// interrupts off, so it neither sleeps nor prints.
pub type Hook = fn(Point);

static HOOK: tidemark_sync::Hook<Hook> = hook!(fn(Point));
/// The CPU that rebuilds, plus one, or 0. Written by the writer, one at a time; read by reports only.
static REBUILDER: AtomicU32 = AtomicU32::new(0);

/// Keeps a hook in place; dropping it takes the hook away. A CPU that is inside the hook stays there.
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

/// The CPU that is between the two steps of a rebuild's counter, where it stays until the second. Any context.
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

/// A point outside the allocator: the console, the locks, the grace period. Only the laboratory looks.
#[inline(always)]
pub fn passed(point: LabPoint) {
    #[cfg(feature = "lab")]
    crate::lab::stage::step(point, 0);
    #[cfg(not(feature = "lab"))]
    let _ = point;
}

/// Whether a scenario of the laboratory runs, which decides by itself who prints and what a hang leads to. Any context.
#[inline(always)]
pub fn in_scenario() -> bool {
    #[cfg(feature = "lab")]
    return crate::lab::stage::is_open();
    #[cfg(not(feature = "lab"))]
    false
}

/// Tells a scenario that the running CPU's role finds the counter odd and waits.
#[cfg(feature = "lab")]
pub fn note_spin() {
    crate::lab::stage::step(
        LabPoint::Spins,
        u64::from(super::frames().rebuild_counter()),
    );
}

/// Tells a scenario that the watchdog found CPU `cpu` to hang, in the function around `address`.
pub fn note_hang(cpu: usize, address: u64) {
    #[cfg(feature = "lab")]
    for (point, detail) in [(LabPoint::Hang, cpu as u64), (LabPoint::HungAt, address)] {
        crate::lab::stage::note(tidemark_wire::Role::Watchdog, point, detail);
    }
    #[cfg(not(feature = "lab"))]
    let _ = (cpu, address);
}

/// Whether the CPUs that hang in a scenario wait for each other in a cycle, which the scenario's trace then shows.
pub fn hang_is_for_ever() -> bool {
    #[cfg(feature = "lab")]
    return crate::lab::hang_is_for_ever();
    #[cfg(not(feature = "lab"))]
    false
}
