//! The laboratory: one hazard, reached on purpose in the protocol that was chosen at boot.
//!
//! A scenario is a list of rules ([`schedule`]) over the points that its roles reach ([`stage`]). A
//! rule holds a role at a point until another role has reached its own, or sends it a real
//! interrupt or NMI there. The steps form a trace ([`trace`]). A verdict counts only if the trace
//! shows reader and writer inside the hazard's window. The [`watchdog`] finds a CPU that hangs.

mod hazards;
mod judge;
pub mod plant;
pub mod play;
pub mod schedule;
pub mod stage;
pub mod trace;
mod waits;

pub use hazards::WRITER;
use waits::hang_is_for_ever;

use crate::arch::context::Task;
use crate::console::{self, Share};
use crate::watchdog::{self, Waits};
use crate::{info, link, mm, options, points, warn};
use stage::TRACE;
use tidemark_wire::{Ask, Hazard, LabPoint, LabResult, LabVerdict, Role, Text, ToHost};

/// How often a report is sent at most.
const REPORTS: u32 = 4;

/// The course of a run, in words.
pub type How = Text<160>;

/// The verdict of a scenario, and the course of its run.
pub type Finding = (LabVerdict, How);

/// Formats the course of a run.
macro_rules! how {
    ($($text:tt)*) => {{
        let mut how = $crate::lab::How::new();
        // The text cuts what does not fit and never fails.
        let _ = ::core::fmt::Write::write_fmt(&mut how, format_args!($($text)*));
        how
    }};
}
use how;

/// The laboratory's reactions to what the rest of the kernel passes.
pub static AT_POINTS: points::Laboratory = points::Laboratory {
    passed: |point| stage::step(point, 0),
    is_open: stage::is_open,
    spins: || {
        let counter = mm::frames().rebuild_counter();
        stage::step(LabPoint::Spins, u64::from(counter));
    },
    hangs: |cpu, address| {
        for (point, detail) in [(LabPoint::Hang, cpu as u64), (LabPoint::HungAt, address)] {
            stage::note(Role::Watchdog, point, detail);
        }
    },
    hang_is_for_ever,
    takes_oom: on_oom,
    is_planted: plant::is,
    begin_tty: play::begin_tty,
    end_tty: stage::end_handler,
};

/// Runs the hazard's scenario and reports. Returns whether there is a verdict and the allocator is
/// consistent afterwards.
pub fn run(task: &Task, hazard: Hazard) -> bool {
    info!(
        "lab: {} in {}",
        hazard.name(),
        mm::frames().variant().name()
    );
    // From here on the scenario decides which code prints.
    console::flush(Share::All);
    if let Some(mistake) = options::get().mistake {
        info!("lab: the protocol makes a mistake: {}", mistake.name());
        plant::plant(mistake);
    }
    let (mut verdict, mut how) = match play::init().and_then(|()| hazards::run(task, hazard)) {
        Ok(finding) => finding,
        Err(obstacle) => (LabVerdict::NotReached, how!("{obstacle}")),
    };
    if TRACE.steps().any(|step| step.point == LabPoint::TimedOut) {
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

/// Sends the report until the host has received everything: a port that is emulated on a busy
/// machine may drop bytes. Returns whether it has.
fn report(task: &Task, result: LabResult) -> bool {
    (0..REPORTS).any(|_| {
        for step in TRACE.steps() {
            link::send(task, &ToHost::LabStep(step));
        }
        link::send(task, &ToHost::LabResult(result));
        link::ask(task, Ask::LabHeard) == Ok(true)
    })
}

/// Notes that the allocator declares OOM. Returns whether the request is the reader's, which then
/// fails without a victim.
fn on_oom() -> bool {
    let ours = stage::is_open() && stage::role_here() == Some(Role::Reader);
    if ours {
        let premature = play::fresh_walk_serves();
        stage::step(LabPoint::OomDeclared, u64::from(premature));
    }
    ours
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
