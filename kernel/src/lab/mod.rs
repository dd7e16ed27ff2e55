//! The laboratory: one hazard, reached on purpose in the protocol that was chosen at boot.
//!
//! A scenario is a list of rules ([`schedule`]) over the points that its roles reach ([`stage`]): a
//! role is held at a point until another reached its own, or is sent a real interrupt or NMI there. What
//! happened is a trace ([`trace`]); a verdict counts only if the trace shows reader and writer inside
//! the hazard's window. A CPU that hangs is found by the [`watchdog`].

mod hazards;
pub mod play;
pub mod schedule;
pub mod stage;
pub mod trace;

pub use hazards::WRITER;

use crate::arch::context::Task;
use crate::console::{self, Share};
use crate::watchdog::{self, Found, Function, Waits};
use crate::{info, link, mm, warn};
use core::fmt::Write;
use schedule::Place;
use stage::TRACE;
use tidemark_wire::{Ask, Hazard, LabContext, LabPoint, LabResult, LabVerdict, Role, Text, ToHost};

/// Times that a report is sent at most.
const REPORTS: u32 = 4;

/// How a run went, in words.
pub type How = Text<160>;

/// What a scenario found.
pub type Finding = (LabVerdict, How);

/// Says how in words.
macro_rules! how {
    ($($text:tt)*) => {{
        let mut how = $crate::lab::How::new();
        // It cuts and never fails.
        let _ = ::core::fmt::Write::write_fmt(&mut how, format_args!($($text)*));
        how
    }};
}
use how;

/// Runs the hazard's scenario and reports. Returns whether there is a verdict and the allocator is
/// in order afterwards.
pub fn run(task: &Task, hazard: Hazard) -> bool {
    info!(
        "lab: {} in {}",
        hazard.name(),
        mm::frames().variant().name()
    );
    // From here on the scenario decides who prints.
    console::flush(Share::All);
    let (mut verdict, mut how) = match play::init().and_then(|()| hazards::run(task, hazard)) {
        Ok(finding) => finding,
        Err(obstacle) => (LabVerdict::NotReached, how!("{obstacle}")),
    };
    if TRACE.steps().any(|step| step.point == LabPoint::TimedOut) && verdict != LabVerdict::Fails {
        (verdict, how) = (LabVerdict::NotReached, how!("a role was held in vain"));
    }
    tell_hangs();
    play::release(task);
    let counted = mm::oracle::recount(task);
    if let Err(unsound) = counted {
        warn!("lab: {unsound}");
    }
    let sound = counted.is_ok();
    info!("lab: {verdict:?}: {}", how.as_str());
    let result = LabResult {
        hazard,
        verdict,
        how,
        steps: TRACE.taken(),
        dropped: TRACE.dropped(),
        sound,
    };
    if !report(task, result) {
        warn!("lab: the host has not heard all of it");
    }
    sound && verdict != LabVerdict::NotReached
}

/// Tells the host until it has heard everything: a port that is emulated on a busy machine may drop
/// bytes. Returns whether it has.
fn report(task: &Task, result: LabResult) -> bool {
    (0..REPORTS).any(|_| {
        for step in TRACE.steps() {
            link::send(task, &ToHost::LabStep(step));
        }
        link::send(task, &ToHost::LabResult(result));
        link::ask(task, Ask::LabHeard) == Ok(true)
    })
}

/// The allocator declares OOM. Returns whether that is the reader's, which then fails: nobody is killed.
pub fn on_oom() -> bool {
    let ours = stage::is_open() && stage::role_here() == Some(Role::Reader);
    if ours {
        let premature = play::fresh_walk_finds();
        stage::step(LabPoint::OomDeclared, u64::from(premature));
    }
    ours
}

/// The places of the trace from step `from` on.
fn places(from: u32) -> impl Iterator<Item = Place> {
    TRACE
        .steps()
        .skip(from as usize)
        .map(|step| (step.role, step.point))
}

/// Whether the trace from step `from` on shows one of these windows; if none, the first place that
/// the last of them lacks.
fn shows(from: u32, windows: &[&[Place]]) -> Result<(), Place> {
    let mut lacks = Ok(());
    for window in windows {
        match schedule::missing(places(from), window) {
            None => return Ok(()),
            Some(place) => lacks = Err(place),
        }
    }
    lacks
}

/// The finding of a run whose trace does not show the window.
fn not_reached((role, point): Place) -> Finding {
    let how = how!("the trace lacks {} at {}", role.name(), point.name());
    (LabVerdict::NotReached, how)
}

/// The hang that a scenario's waiter was found in, in words; nothing if there was none.
fn hang() -> Option<How> {
    let waits = |found: &Found| found.waits() != Waits::No;
    let (waiter, found) = watchdog::hung().find(|(_, found)| waits(found))?;
    let mut how = how!("hang of cpu{waiter} in {}", Function(found));
    if found.context() == LabContext::Nmi {
        let _ = how.write_str(", in an NMI handler");
    }
    let mut others = watchdog::hung().filter(|&(cpu, found)| cpu != waiter && !waits(found));
    if let Some((other, found)) = others.next() {
        let _ = write!(how, ", cpu{other} in {}", Function(found));
    }
    Some(how)
}

/// Logs where the CPUs that hung were.
fn tell_hangs() {
    for (cpu, found) in watchdog::hung() {
        info!(
            "lab: cpu{cpu} took no timer interrupt for {} ms{}; cpu{} noticed:",
            found.silent_ns() / 1_000_000,
            match found.waits() {
                Waits::No => "",
                _ => ", waiting for an even counter",
            },
            found.by(),
        );
        info!("{}", watchdog::Details(found));
    }
}
